// Package core decides what the next plan says: a pure machine from (plan,
// spec, verdicts, command) to the next plan, its audit record and a preview.
// It never writes one: director/store does, under a fence.
package core

import (
	"strings"
	"time"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// Verb says what a command asks for.
type Verb string

// The verbs.
const (
	Drain          Verb = "drain"
	Undrain        Verb = "undrain"
	Freeze         Verb = "freeze"
	Thaw           Verb = "thaw"
	Readmit        Verb = "readmit"
	Apply          Verb = "apply"
	DirectorJoin   Verb = "director-join" // pins a roster name's key at its first join
	DirectorAdd    Verb = "director-approve"
	DirectorRemove Verb = "director-remove"
	Expire         Verb = "expire" // the leader's own: ends overrides past their deadline
)

// Command is a wish to change the plan. ID is made by whoever utters it;
// repeating it is idempotent (S4).
type Command struct {
	ID         string        `json:"id"`
	Verb       Verb          `json:"verb"`
	Scope      string        `json:"scope,omitempty"` // cluster/fra, service/shop@fra, domain/fra-dc1, service/shop, fleet
	Author     string        `json:"author,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	For        time.Duration `json:"for,omitempty"` // nanoseconds
	LastResort bool          `json:"lastResort,omitempty"`
	Force      bool          `json:"force,omitempty"`
	DryRun     bool          `json:"dryRun,omitempty"`

	Source   string     `json:"source,omitempty"`   // apply: "files"
	Folder   string     `json:"folder,omitempty"`   // apply: director whose own folder this is; "" for a person's
	Objects  []spec.Raw `json:"objects,omitempty"`  // apply
	Prune    bool       `json:"prune,omitempty"`    // apply: what the source owns and Objects lacks is removed
	Director *Director  `json:"director,omitempty"` // director-*
}

// Director is who a director-* command is about.
type Director struct {
	Name   string `json:"name"`
	Site   string `json:"site,omitempty"`
	Key    []byte `json:"key,omitempty"`
	Gossip string `json:"gossip,omitempty"`
}

// State is all that a decision depends on.
type State struct {
	Plan   *plan.Sealed // nil before bootstrap
	Doc    *plan.SpecDoc
	Spec   *spec.Set
	States map[health.Subject]health.State
	// Places gives where clients may be, as the geo table knows places; those that
	// nothing in the specs tells apart may be one (steer.Merge). nil: all are at the
	// unknown place.
	Places func(...*spec.Set) []steer.Place
	Now    time.Time // wall clock: deadlines are people's
	Me     string    // the director that commits
	// Observed is what fresh votes say of subjects that have no certificate yet:
	// a drain ends only onto a site that is known to be well (S18), and a subject
	// that has never fallen has no certificate to say so. It is used for that
	// alone.
	Observed map[health.Subject]health.State
	// CheckZone reads zone text as the directors will; nil leaves it unread. A
	// spec that one director accepts and the others cannot read must never be
	// committed, so whoever commits gives the same one as whoever prepares.
	CheckZone spec.ZoneChecker
	// Memo and Prepared save work that decisions before this one, and others, have
	// done already; either may be nil.
	Memo     *Memo
	Prepared *steer.Prepared // of Spec
}

// Change is a decision: the next plan, not yet signed. A Noop changes nothing
// (the wish is already so, or is a dry run) and is not written. Whoever writes
// it puts the SpecRef into Plan when Doc is not nil, and the hash of the signed
// plan into Audit.
type Change struct {
	Noop    bool
	Plan    *plan.Plan
	Doc     *plan.SpecDoc // nil: as it was
	Audit   *plan.Audit
	Summary string
	Preview Preview
}

// Preview says what a change would do, before it is done.
type Preview struct {
	Effects  []Effect      `json:"effects,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	Changes  []spec.Change `json:"changes,omitempty"` // apply: fields
}

// Effect is one service's part of a preview: what leaves, who takes over.
type Effect struct {
	Service   string   `json:"service"`
	From      []string `json:"from,omitempty"`      // clusters that lose their clients
	To        []string `json:"to,omitempty"`        // clusters that may have them
	Healthy   int      `json:"healthy"`             // healthy undrained endpoints left
	MinWanted int      `json:"minWanted,omitempty"` // minHealthy
}

// Refusal is a "no" with its reason and what to do; exit code 1.
type Refusal struct {
	Reason string
	Remedy string
	Force  bool // --force would pass it
	// Problems lists all that is wrong with what was applied.
	Problems []spec.Problem
}

func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.Reason)
	for _, p := range r.Problems {
		b.WriteString("\n" + p.String())
	}
	if r.Remedy != "" {
		b.WriteString(": " + r.Remedy)
	}
	return b.String()
}

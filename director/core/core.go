// Package core decides what the next plan says: a pure machine from (plan,
// spec, verdicts, command) to the next plan, its audit record and a preview.
// It never writes one: director/store does, under a fence.
package core

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// Verb says what a command asks for.
type Verb string

// The verbs.
const (
	Drain            Verb = "drain"
	Undrain          Verb = "undrain"
	Freeze           Verb = "freeze"
	Thaw             Verb = "thaw"
	Readmit          Verb = "readmit"
	Apply            Verb = "apply"
	DirectorJoin     Verb = "director-join" // pins a roster name's key at its first join
	DirectorAdd      Verb = "director-approve"
	DirectorRemove   Verb = "director-remove"
	InterlockOn      Verb = "interlock-on" // the scope is the switch's name
	InterlockOff     Verb = "interlock-off"
	Expire           Verb = "expire" // the leader's own: ends overrides past their deadline
	Step             Verb = "step"   // the leader's own: what comes next of a drain in steps
	Revert           Verb = "revert" // the spec before this one, in force again
	GoOn             Verb = "rollout-go-on"
	Abort            Verb = "rollout-abort"
	Spill            Verb = "spill"   // the leader's own: notes loads, and moves what is too much
	RecoverStore     Verb = "recover" // Recover; not Decide's
	Restore          Verb = "restore" // Restored; not Decide's
	OperatorAdd      Verb = "operator-add"
	OperatorRemove   Verb = "operator-remove"
	TokenCreate      Verb = "token-create"
	TokenRevoke      Verb = "token-revoke"
	PolicyAdopt      Verb = "policy-adopt"
	PolicyDrop       Verb = "policy-drop"
	Settle           Verb = "emergency-settle" // the leader's own: an emergency that the store is to hold
	KeyRotate        Verb = "gossip-rotate"    // a new gossip key, in phases
	KeyBack          Verb = "gossip-back"      // the old one, while nobody has removed it
	EnrolTokenAdd    Verb = "enrol-token-create"
	EnrolTokenRemove Verb = "enrol-token-revoke"
	DirectorEnrol    Verb = "director-enrol" // the directors' own: one that shows a token comes into the roster
	SecretSet        Verb = "secret-set"     // the next value of what the directors share, encrypted
	SecretRemove     Verb = "secret-remove"
	SecretAdvance    Verb = "secret-step" // the leader's own: what is due of secrets
	KeyStep          Verb = "gossip-step" // the leader's own: the next phase
	Approve          Verb = "approve"     // the scope is a request's ID: what it asks for is done
	Deny             Verb = "deny"        // the scope is a request's ID: it will not be done
	Acknowledge      Verb = "acknowledge" // the scope is the ID of what was done by break-glass
)

// Command is a wish to change the plan. ID is made by whoever utters it;
// repeating it is idempotent (S4).
type Command struct {
	ID         string        `json:"id"`
	Verb       Verb          `json:"verb"`
	Scope      string        `json:"scope,omitempty"`  // cluster/fra, service/shop@fra, domain/fra-dc1, selector/tier=edge, service/shop, fleet
	Author     string        `json:"author,omitempty"` // who utters it, as authenticated; what a client writes there is a label
	Reason     string        `json:"reason,omitempty"`
	For        time.Duration `json:"-"` // forSeconds
	LastResort bool          `json:"lastResort,omitempty"`
	Force      bool          `json:"force,omitempty"`
	DryRun     bool          `json:"dryRun,omitempty"`
	Paced      bool          `json:"paced,omitempty"` // drain: in steps
	Steps      []int         `json:"steps,omitempty"` // of it: percent of the clients that have left, rising to 100; none: as the last time
	Wait       time.Duration `json:"-"`               // waitSeconds; of it: at each step; 0: as the last time
	Now        bool          `json:"now,omitempty"`   // undrain: not in steps

	Source     string      `json:"source,omitempty"`   // apply: "files"
	Folder     string      `json:"folder,omitempty"`   // apply: director whose own folder this is; "" for a person's
	Objects    []spec.Raw  `json:"objects,omitempty"`  // apply
	Prune      bool        `json:"prune,omitempty"`    // apply: what the source owns and Objects lacks is removed
	Director   *Director   `json:"director,omitempty"` // director-*
	Operator   *Operator   `json:"operator,omitempty"` // operator-*
	Token      *Token      `json:"token,omitempty"`    // token-*
	Settling   *Settling   `json:"-"`                  // emergency-settle
	Enrol      *Enrol      `json:"enrol,omitempty"`    // enrol-token-*, director-enrol
	Secret     *SecretWish `json:"secret,omitempty"`   // secret-*
	SecretStep *SecretStep `json:"-"`                  // secret-step
	KeyTurn    *KeyTurn    `json:"-"`                  // gossip-rotate: the director's that takes it; no part of the wish

	// Label is what a person called himself beside the Author, and By what he may do; nil:
	// no person utters it. A server fills them in.
	Label string           `json:"-"`
	By    *access.Identity `json:"-"`

	Bundle     []byte `json:"bundle,omitempty"`     // policy-adopt: as director/policy encodes it
	BreakGlass bool   `json:"breakGlass,omitempty"` // in an emergency: in spite of the policy, and without the second person (S16); it is recorded, and passes nothing else

	Canary []string      `json:"canary,omitempty"` // apply: the directors that try it first
	Soak   time.Duration `json:"-"`                // soakSeconds; with Canary
}

// Fingerprint tells two commands under one ID apart. What differs between two
// utterances of the same wish (author's label, dry run) takes no part.
func (c Command) Fingerprint() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%d\x00%t\x00%t\x00%s\x00%s\x00%t\x00", c.Verb, c.Scope, c.Reason, c.For, c.LastResort, c.Force, c.Source, c.Folder, c.Prune)
	if c.Paced || c.Now { // an older version's sum of all else stays what it is
		fmt.Fprintf(h, "%t\x00%v\x00%d\x00%t\x00", c.Paced, c.Steps, c.Wait, c.Now)
	}
	if len(c.Canary) > 0 {
		fmt.Fprintf(h, "canary %q %d\x00", c.Canary, c.Soak)
	}
	if c.Operator != nil {
		fmt.Fprintf(h, "operator %q %x\x00", c.Operator.Name, c.Operator.Key)
	}
	if c.Token != nil {
		fmt.Fprintf(h, "token %q %x %q %q\x00", c.Token.Name, c.Token.Sum, c.Token.Role, c.Token.Scopes)
	}
	if c.Enrol != nil {
		fmt.Fprintf(h, "enrol %q %q %q %x %x", c.Enrol.ID, c.Enrol.Name, c.Enrol.Site, c.Enrol.Key, c.Enrol.Proof)
	}
	if c.Settling != nil {
		fmt.Fprintf(h, "settle %s\x00", c.Settling.Word.Sum)
	}
	if len(c.Bundle) > 0 {
		fmt.Fprintf(h, "bundle %x\x00", plan.Sum(c.Bundle))
	}
	if s := c.Secret; s != nil {
		fmt.Fprintf(h, "secret %q %d %x\x00", s.Name, s.Version, plan.Sum(s.Blob))
	}
	if c.BreakGlass {
		fmt.Fprint(h, "break-glass\x00")
	}
	for _, o := range c.Objects {
		fmt.Fprintf(h, "%s\x00%s\x00", o.Kind, o.Name)
		h.Write(o.JSON) // which may be large: not through a format
		h.Write([]byte{0})
	}
	if c.Director != nil {
		fmt.Fprintf(h, "%s\x00%x", c.Director.Name, c.Director.Key)
	}
	return h.Sum(nil)
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
	// Census tells where clients are, by those places: previews go by it and nothing
	// else. nil: each place counts alike.
	Census func(...*spec.Set) Census
	Now    time.Time // wall clock: deadlines are people's
	Me     string    // the director that commits
	// Observed is what fresh votes say of subjects that are not down: a drain ends only
	// onto a site that is known to be well now (S18), and no certificate says so of a
	// subject that has never fallen, nor for long of another. It is used for that alone.
	Observed map[health.Subject]health.State
	// Acks is what each registered director that is heard now has acknowledged and, where
	// it has a DNS, answers from (S6). One that is missing has acknowledged nothing.
	Acks map[string]plan.Identity
	// Fresh are the subjects that enough fresh votes say are up, whatever certificates
	// say: a drain in steps goes on only while they are there for who takes over.
	Fresh map[health.Subject]bool
	// Loads is what all directors say of how busy the sites are; nil where too few say
	// anything, or where nothing is to be done about it now.
	Loads *Loads
	// Emergencies are operators' words, as Judge has judged them: the leader takes them
	// over into the plan.
	Emergencies []Emergency
	// CheckZone reads zone text as the directors will; nil leaves it unread. A
	// spec that one director accepts and the others cannot read must never be
	// committed, so whoever commits gives the same one as whoever prepares.
	CheckZone spec.ZoneChecker
	// Previous is the document that the plan names as the one before: for Revert.
	Previous *plan.SpecDoc
	// Trial is what the directors of a rollout under way answer from; nil: there is no
	// rollout, or it is not at hand.
	Trial *Trial
	// Seen is what the director that decides knows of the others: the leader ends a
	// rollout by it.
	Seen map[string]Seen
	// Rings is what the directors that are heard now say of their gossip keys; nil: it is
	// not to be looked at.
	Rings map[string]KeyRing
	// Secrets is what the directors that are heard now say of secrets; nil: it is not to be
	// looked at.
	Secrets map[string]SecretWord
	// Lost are the secrets whose ciphertexts nobody has: of a secret-remove with Force.
	Lost []string
	// Readers is what each director that gossips now can read of plans, as it says itself; 0:
	// it says nothing, and is older than who asks. nil: it is not to be looked at, as for
	// those of the leader's own that follow from what people did.
	Readers map[string]uint32
	// Bundle is the blob that a request names which is approved: the policy that it would
	// adopt, or what it applies.
	Bundle []byte
	// Resided is what the policy says of residency where the command changes the spec or the
	// policy; nil: it was not asked, so that what it said before stays as far as it may.
	Resided *Resided
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
	Trial   *plan.SpecDoc // that the directors of Plan.rollout try; its canary is the writer's to fill in
	Bundle  []byte        // of a policy that is adopted, or of a request: see Split
	Blobs   [][]byte      // ciphertexts of secrets that Plan is the first to name
	Revault bool          // Plan names other ciphertexts than before: the vault is the writer's to make and to refer to
	Vault   []byte        // likewise, once it is made
	Audit   *plan.Audit
	Summary string
	Preview Preview
	// After is the document that the change brings, or would: dry runs have it too. nil:
	// the spec stays.
	After *plan.SpecDoc
	// Request is what waits for a second person (S16), in Plan or, of a Noop, since before.
	// Where Plan brings or ends it, the writer signs it before the plan: see Vouch.
	Request *plan.Request
	// Kept is the ID under which the store keeps the outcome; "": the command's.
	Kept string
	// Of is what the outcome is kept for: the SHA-256 of the command that an approval or a
	// denial settles; nil: of the command itself.
	Of []byte
	// Refused says that the command of that ID will never be done, and why.
	Refused string
}

// Preview says what a change would do, before it is done.
type Preview struct {
	Effects  []Effect      `json:"effects,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	Changes  []spec.Change `json:"changes,omitempty"` // apply: fields
	Steps    []PaceStep    `json:"steps,omitempty"`   // of a drain, or a return, in steps
	// Shifts says what part of the answers changes, by region and type: everywhere
	// first. Weighing says how that is counted.
	Shifts   []Shift `json:"shifts,omitempty"`
	Weighing string  `json:"weighing,omitempty"`
	// Large tells that a new spec moves so many of the answers that clients have now
	// that a person should be asked whether it is meant.
	Large bool `json:"large,omitempty"`
	// TwoPersons says why one person is not enough for it, where that is so (S16).
	TwoPersons []string `json:"twoPersons,omitempty"`
	// Void says that it does something else now than when it was asked for.
	Void string `json:"void,omitempty"`
	// Utilisation is of the sites that get clients, as far as capacities were written.
	Utilisation []Utilisation `json:"utilisation,omitempty"`
}

// PaceStep is one step of a preview.
type PaceStep struct {
	Moved int     `json:"moved"`        // per mille of the clients that have left
	After float64 `json:"afterSeconds"` // since the first, at the earliest
}

// Effect is one service's part of a preview: what leaves, who takes over.
type Effect struct {
	Service   string   `json:"service"`
	From      []string `json:"from,omitempty"`      // clusters that lose their clients
	To        []string `json:"to,omitempty"`        // clusters that may have them
	Healthy   int      `json:"healthy"`             // healthy undrained endpoints left
	MinWanted int      `json:"minWanted,omitempty"` // minHealthy
	Changed   float64  `json:"changed,omitempty"`   // per cent of its answers
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

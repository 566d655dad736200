package core

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/divertdns/divert/director/plan"
)

// Horizon is what one director knows of plans, by their identities alone: what it
// answers from, what is on its disk, and the highest that anybody holds. It has no
// lock: a director guards its own, and a simulator drives the same.
type Horizon struct {
	Force   plan.Identity            // answered from; zero: nothing
	Saved   plan.Identity            // on disk, and in the table before that
	Highest plan.Identity            // the highest known, its signature checked
	Peers   map[string]plan.Identity // what each peer's heartbeat names as highest
	Lost    bool                     // the disk's newest plan is gone, until what it was is known
	Blank   bool                     // the disk held none, as a new one or one that was lost whole; until then too
	Stored  plan.Identity            // what the store holds, where nothing is wrong with it; zero: nothing

	listens, heard time.Time // since when it listens to the others, and when it last did
	patient        bool      // it has, for as long as it takes
}

const (
	// Patience is for how long who has forgotten what it had listens to the others before
	// it takes the store's word for it: as long as one may be silent and still be there.
	Patience = 10 * time.Second
	// deaf is for how long who listens may do nothing: a director that slept heard nobody.
	deaf = 2 * time.Second
)

// Raise notes that a plan of this identity exists. Another fleet's is ignored.
func (h *Horizon) Raise(id plan.Identity) {
	if h.Highest.IsZero() || id.Fleet == h.Highest.Fleet && id.Compare(h.Highest) > 0 {
		h.Highest = id
	}
}

// Swap notes that a plan is answered from. Where nothing was in force it may be
// another fleet's than this disk once knew: a person has begun anew with `store
// init`.
func (h *Horizon) Swap(id plan.Identity) {
	if h.Force.IsZero() && h.Highest.Fleet != id.Fleet {
		h.Highest = plan.Identity{}
	}
	h.Force = id
	h.Raise(id)
}

// Acked gives the identity that this director may acknowledge (S6): on disk, in
// the table, and not behind the highest plan known (S3). The zero Identity
// acknowledges nothing.
func (h *Horizon) Acked() plan.Identity {
	if h.Force.IsZero() || h.forgot() || h.Saved != h.Force {
		return plan.Identity{}
	}
	if top, _ := h.Named(); h.Saved.Compare(top) < 0 {
		return plan.Identity{}
	}
	return h.Saved
}

// Behind tells whether a higher plan is known than the one in force.
func (h *Horizon) Behind() bool {
	top, _ := h.Named()
	return !h.Force.IsZero() && (h.Lost || h.Force.Compare(top) < 0)
}

// forgot tells whether the disk may have held a newer plan than anybody here can say.
func (h *Horizon) forgot() bool { return h.Lost || h.Blank }

// Hasty tells whether this director may have held a newer plan than the one in force and
// has not yet listened for long enough to hear of it. What it writes then might stand
// beside that plan (F25). It is over after Patience, whoever is there: a fleet of which one
// is left must take commands.
func (h *Horizon) Hasty() bool { return !h.Force.IsZero() && h.Unsure() }

// Unsure is Hasty, and also before any plan is in force: then the store alone has spoken, and
// what it holds may be an old copy's (F25). The first plan of all is decided on none.
func (h *Horizon) Unsure() bool { return h.forgot() && (h.Force.IsZero() || !h.patient) }

// Hear keeps the word of the directors that are there, of the others of the
// roster, and drops every other. When all of them are, and the store was read, which may hold
// what only this director has ever had in force, what was lost is known: what they name as
// highest counts. A store that says nothing is waited for, for Patience. Else the store's word is taken for it, which may be an old
// copy's (F25), only once Patience has been had with it and most of the roster is there:
// who hears fewer cannot know (S8), and stands in nobody's way, since a command waits for
// the silent as well (S6). A director that is alone in the roster has nobody to wait for.
func (h *Horizon) Hear(others int, there map[string]bool, now time.Time) {
	maps.DeleteFunc(h.Peers, func(name string, _ plan.Identity) bool { return !there[name] })
	if !h.forgot() {
		return
	}
	if h.heard.IsZero() || now.Sub(h.heard) > deaf {
		h.listens = now
	}
	h.heard = now
	h.patient = others == 0 || now.Sub(h.listens) >= Patience
	all := others > 0 && len(h.Peers) == others && (h.patient || !h.Stored.IsZero() && h.Stored.Compare(h.Force) <= 0)
	most := 2*(len(h.Peers)+1) > others+1
	if all || h.patient && most && h.Stored == h.Force {
		h.Found()
	}
}

// Found says that nothing newer was lost: all who could know have said so, or it was this
// director that began the fleet.
func (h *Horizon) Found() { h.Lost, h.Blank = false, false }

// SetPeer notes what a peer names as highest.
func (h *Horizon) SetPeer(name string, id plan.Identity) {
	if h.Peers == nil {
		h.Peers = map[string]plan.Identity{}
	}
	h.Peers[name] = id
}

// Current tells whether no live peer names a higher plan than the one in force.
func (h *Horizon) Current() bool {
	top, _ := h.Named()
	return !h.Force.IsZero() && h.Force.Compare(top) >= 0
}

// Named gives the highest plan of our fleet that is held here or named by a
// live peer, and the peer ("" = here). A peer's word alone never refuses a
// command: only a plan whose signature was checked does (S7).
func (h *Horizon) Named() (plan.Identity, string) {
	top, who := h.Highest, ""
	for name, id := range h.Peers {
		if c := id.Compare(top); id.Fleet == top.Fleet && (c > 0 || c == 0 && who != "" && name < who) {
			top, who = id, name
		}
	}
	return top, who
}

// Heard gives what live peers say that they hold, by name.
func (h *Horizon) Heard() []Known {
	var out []Known
	for _, name := range slices.Sorted(maps.Keys(h.Peers)) {
		out = append(out, Known{Director: name, Identity: h.Peers[name]})
	}
	return out
}

// Holders lists, by name, the peers whose heartbeats name a plan of at least this
// order.
func (h *Horizon) Holders(id plan.Identity) []string {
	var out []string
	for name, has := range h.Peers {
		if has.Fleet == id.Fleet && has.Compare(id) >= 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Foreign says why a store that holds this plan is not to be written to; "" =
// it may be. S3, F25. Known is what was known before the store was read: a plan
// that was committed since says nothing of what the read had to find.
func Foreign(known, found plan.Identity) string {
	switch {
	case known.IsZero():
		return ""
	case found.IsZero():
		return fmt.Sprintf("the store is empty, but plan %d.%d is known: it was lost or replaced; run `divert store recover`", known.Epoch, known.Revision)
	case found.Fleet != known.Fleet:
		return fmt.Sprintf("the store belongs to fleet %s, this director to %s: point it at its own store", found.Fleet, known.Fleet)
	case found.Compare(known) < 0:
		return fmt.Sprintf("the store holds plan %d.%d, older than %d.%d which is known: it was restored or replaced; run `divert store recover`", found.Epoch, found.Revision, known.Epoch, known.Revision)
	case found.Compare(known) == 0 && found.Hash != known.Hash:
		return fmt.Sprintf("the store holds another plan %d.%d (%s) than the one known (%s): it was replaced; run `divert store recover`", found.Epoch, found.Revision, found.Hash.Short(), known.Hash.Short())
	}
	return ""
}

// ErrOvertaken says that a later plan came into force here since the store was read.
var ErrOvertaken = errors.New("a later plan is in force here than the one read")

// Base says whether a command may be decided on the plan that the store holds, nil
// for none: refused where the store is not the one known before it was read (F25),
// and never older than what is in force. Same: it is what is in force.
func Base(known plan.Identity, cur, found *plan.Sealed) (same bool, err error) {
	if found == nil {
		if known.IsZero() {
			return false, &Refusal{Reason: "this director has no plan yet", Remedy: "`divert status` says for what it waits: it begins when all join addresses answer, on `divert store init`, or on `divert restore FILE` where that is awaited"}
		}
		return false, &Refusal{Reason: "the store is empty: it was lost or replaced", Remedy: "run `divert store recover`"}
	}
	if problem := Foreign(known, found.Identity); problem != "" {
		return false, &Refusal{Reason: problem}
	}
	switch {
	case cur == nil:
		return false, nil
	case cur.Identity == found.Identity:
		return true, nil
	case cur.Identity.Fleet == found.Identity.Fleet && cur.Identity.Compare(found.Identity) > 0:
		return false, ErrOvertaken
	}
	return false, plan.Trusted(cur, found)
}

// resignAfter is for how long a leader may be unfit: one session TTL.
const resignAfter = 5 * time.Second

// Stewardship follows whether the leader is fit to lead (SEMANTICS, Session).
type Stewardship struct{ unfit time.Time }

// Look says, each second, whether the leader may do its duties, or has to resign:
// why it is unfit, "" for who is not. Who does not lead is neither.
func (s *Stewardship) Look(leads bool, why string, now time.Time) (duties, resign bool) {
	switch {
	case !leads:
		s.unfit = time.Time{}
		return false, false
	case why == "":
		s.unfit = time.Time{}
		return true, false
	case s.unfit.IsZero():
		s.unfit = now
	}
	if now.Sub(s.unfit) < resignAfter {
		return false, false
	}
	s.unfit = time.Time{}
	return false, true
}

// Holds tells whether who has acknowledged one plan is known to have another (S6).
// The result of a command that was done before names no fleet.
func Holds(acked, id plan.Identity) bool {
	return !acked.IsZero() && (acked.Fleet == id.Fleet || id.Fleet == "") && acked.Compare(id) >= 0
}

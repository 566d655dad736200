package core

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// SpecAuthor is the author of what the spec itself says: observations without
// an end, and directors that files add to the roster. No person has the name.
const SpecAuthor = "spec"

// MaxManifest is the largest plan that is written, in octets.
const MaxManifest = 256 << 10

// defaultMaxDrain bounds overrides where no fleet says otherwise (S18).
const defaultMaxDrain = 72 * time.Hour

// work is one command being decided.
type work struct {
	s      State
	c      Command
	next   *plan.Plan
	doc    *plan.SpecDoc // the next one; nil: as it was
	set    *spec.Set     // the next one
	noop   bool
	forced bool
	what   string // for the audit, one line
	spite  string // what a person forced, for the audit
	aside  string // how the fleet is just now, for the audit: no part of what a second person approves
	done   string // for the summary
	prev   Preview

	wellKnown *steer.Roller // see known
	compared  *verdict      // the last comparison; nil: none was made
	trial     *plan.SpecDoc // what a rollout tries; nil: as it was
	tries     *spec.Set     // of trial
	bundle    []byte        // of a policy that is adopted; of a request, or what it applies
	blobs     [][]byte      // of secrets that are set
	revault   bool          // secrets went
	asksFor   *plan.SpecDoc // that a request asks for; nil: the spec stays

	request  *plan.Request // see Change, as the next ones
	keptAs   string
	of       []byte
	refused  string
	approver string // the second person
	glass    bool   // there was none
}

// Decide says what the next plan is under a command, or refuses with a
// *Refusal. It writes nothing and changes nothing that it was given.
func Decide(s State, c Command) (Change, error) {
	if s.Plan == nil {
		return Change{}, &Refusal{
			Reason: "this director holds no plan yet",
			Remedy: "`divert status` says whom it waits for; `divert store init` begins a new fleet",
		}
	}
	if err := checkCommand(c); err != nil {
		return Change{}, err
	}
	if err := Authorise(s.Spec, s.Doc, c); err != nil {
		return Change{}, err
	}
	if err := stands(s.Plan.Plan, c, s.Now); err != nil {
		return Change{}, err
	}
	if c.Verb == Approve {
		return approve(s, c)
	}
	return decide(s, c, nil)
}

// decide decides a command; ap is the second person's word for it.
func decide(s State, c Command, ap *approval) (Change, error) {
	w := begin(s, c)
	if ap == nil {
		if answered, err := w.asked(); err != nil {
			return Change{}, err
		} else if answered {
			return w.finish()
		}
	}
	if o := w.byID(c.ID); o != nil {
		w.noop, w.done = true, fmt.Sprintf("already so since revision %d: %s", o.GetRevision(), overrideText(o))
		return w.finish()
	}
	var err error
	switch c.Verb {
	case Drain:
		err = w.drain()
	case Undrain:
		err = w.undrain()
	case Freeze:
		err = w.freeze()
	case Thaw:
		err = w.thaw()
	case Readmit:
		err = w.readmit()
	case Apply:
		err = w.apply()
	case DirectorJoin:
		err = w.join()
	case DirectorAdd:
		err = w.approve()
	case DirectorRemove:
		err = w.remove()
	case InterlockOn, InterlockOff:
		err = w.turn(c.Verb == InterlockOn)
	case OperatorAdd:
		err = w.addOperator()
	case OperatorRemove:
		err = w.removeOperator()
	case TokenCreate:
		err = w.createToken()
	case TokenRevoke:
		err = w.revokeToken()
	case PolicyAdopt:
		err = w.adoptPolicy()
	case PolicyDrop:
		err = w.dropPolicy()
	case Settle:
		err = w.settle()
	case EnrolTokenAdd:
		err = w.addEnrolToken()
	case EnrolTokenRemove:
		err = w.removeEnrolToken()
	case DirectorEnrol:
		err = w.enrol()
	case SecretSet:
		err = w.setSecret()
	case SecretRemove:
		err = w.removeSecret()
	case SecretAdvance:
		w.secretStep()
	case KeyRotate:
		err = w.rotate()
	case KeyBack:
		err = w.rotateBack()
	case KeyStep:
		w.keyStep()
	case Revert:
		err = w.revert()
	case GoOn:
		err = w.goOn()
	case Abort:
		err = w.abort()
	case Deny:
		err = w.deny()
	case Acknowledge:
		err = w.acknowledge()
	case Expire:
		w.expire()
	case Step:
		err = w.step()
	case Spill:
		w.spill()
	default:
		err = &Refusal{Reason: fmt.Sprintf("unknown command %q", c.Verb), Remedy: "this director may be older than your `divert`: see `divert version`"}
	}
	if err == nil && !w.noop {
		err = w.stranded()
	}
	if err == nil && !w.noop {
		err = w.interlocked()
	}
	if err == nil {
		err = w.persons(ap)
	}
	if err != nil {
		return Change{}, err
	}
	return w.finish()
}

// checkCommand refuses what no verb allows.
func checkCommand(c Command) error {
	own := c.Verb == Expire || c.Verb == DirectorJoin
	switch {
	case c.ID == "":
		return &Refusal{Reason: "the command has no ID", Remedy: "whoever utters a command makes one, so that repeating it is safe"}
	case c.Author == "":
		return &Refusal{Reason: "nobody is named as the author", Remedy: "give --author NAME"}
	case c.Author == SpecAuthor && !own:
		return &Refusal{Reason: "the author's name \"spec\" stands for the spec itself", Remedy: "give --author NAME"}
	default:
		return nil
	}
}

// begin makes the successor of the plan in force. A clone keeps the fields that
// this version does not know.
func begin(s State, c Command) *work {
	next := proto.CloneOf(s.Plan.Plan)
	next.Epoch = s.Plan.Identity.Epoch
	next.Revision = s.Plan.Identity.Revision + 1
	next.Parent = slices.Clone(s.Plan.Identity.Hash[:])
	next.Writer = s.Me
	next.Written = timestamppb.New(s.Now)
	set := s.Spec
	if set == nil {
		set = &spec.Set{}
	}
	s.Spec = set
	return &work{s: s, c: c, next: next, set: set}
}

// finish puts the lists in order, the zones' serials up to date and the audit
// record beside the plan.
func (w *work) finish() (Change, error) {
	if err := w.readable(); err != nil {
		return Change{}, err
	}
	w.oneWay()
	w.tellShifts()
	out := Change{Summary: w.done, Preview: w.prev, After: w.after(), Request: w.request, Kept: w.keptAs, Of: w.of, Refused: w.refused}
	if w.noop || w.c.DryRun {
		out.Noop = true
		return out, nil
	}
	settleSecrets(w.next)
	sortPlan(w.next)
	w.next.MinReader = w.reader()
	w.next.Zones = w.serials()
	if size := w.giveWay(); size > largest {
		return Change{}, &Refusal{
			Reason: fmt.Sprintf("the plan would have %d KiB, more than the %d KiB that one may", (size+1023)>>10, largest>>10),
			Remedy: fmt.Sprintf("it holds %s with %s down, %s and %s: end or remove some first (`divert status` lists them)",
				count(len(w.next.GetOverrides()), "override"), count(subjects(w.next), "subject"), count(len(w.next.GetZones()), "zone"), count(len(w.next.GetRoster()), "director")),
		}
	}
	out.Plan, out.Doc, out.Trial, out.Bundle = w.next, w.doc, w.trial, w.bundle
	out.Blobs, out.Revault = w.blobs, (w.revault || len(w.blobs) > 0) && len(w.next.GetSecrets()) > 0
	out.Audit = &plan.Audit{
		Revision: w.next.GetRevision(), At: timestamppb.New(w.s.Now), Who: w.c.Who(), Via: w.s.Me,
		What: w.what + w.spite + w.aside, Why: w.c.Reason, Command: w.c.ID, Forced: w.forced,
		Approver: w.approver, BreakGlass: w.glass,
	}
	return out, nil
}

// subjects counts what all observations of a plan hold as down.
func subjects(p *plan.Plan) int {
	n := 0
	for _, o := range p.GetOverrides() {
		n += len(o.GetDown())
	}
	return n
}

// slack is what the writer still adds to a manifest: the reference of the spec.
const slack = 16 << 10

// sortPlan puts the lists of a plan in their order, so that equal plans have
// equal bytes.
func sortPlan(p *plan.Plan) {
	slices.SortFunc(p.Roster, func(a, b *plan.Director) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(p.Overrides, func(a, b *plan.Override) int {
		return cmp.Or(cmp.Compare(a.GetRevision(), b.GetRevision()), cmp.Compare(a.GetId(), b.GetId()))
	})
	byRevision := func(a, b interface {
		GetRevision() uint64
		GetId() string
	},
	) int {
		return cmp.Or(cmp.Compare(a.GetRevision(), b.GetRevision()), cmp.Compare(a.GetId(), b.GetId()))
	}
	slices.SortFunc(p.Requests, func(a, b *plan.Request) int { return byRevision(a, b) })
	slices.SortFunc(p.Glass, func(a, b *plan.BreakGlass) int { return byRevision(a, b) })
	slices.SortFunc(p.Operators, func(a, b *plan.Operator) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(p.Tokens, func(a, b *plan.Token) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(p.Switches, func(a, b *plan.Switch) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(p.Zones, func(a, b *plan.ZoneSerial) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// byID finds the override that a command has brought already.
func (w *work) byID(id string) *plan.Override {
	for _, o := range w.next.GetOverrides() {
		if o.GetId() == id {
			return o
		}
	}
	return nil
}

// find finds the override of a kind and scope, the spec's own or a person's.
func (w *work) find(kind plan.Override_Kind, scope string, own bool) *plan.Override {
	for _, o := range w.next.GetOverrides() {
		if o.GetKind() == kind && o.GetScope() == scope && (o.GetAuthor() == SpecAuthor) == own {
			return o
		}
	}
	return nil
}

// drop takes overrides out of the next plan.
func (w *work) drop(which func(*plan.Override) bool) (dropped []*plan.Override) {
	w.next.Overrides = slices.DeleteFunc(w.next.Overrides, func(o *plan.Override) bool {
		if which(o) {
			dropped = append(dropped, o)
			return true
		}
		return false
	})
	return dropped
}

// put adds an override of this command. One of the same kind and scope is
// replaced, but keeps its beginning: its site has been away since then.
func (w *work) put(o *plan.Override) {
	o.Revision = w.next.GetRevision()
	o.Start = timestamppb.New(w.s.Now)
	old := w.find(o.GetKind(), o.GetScope(), o.GetAuthor() == SpecAuthor)
	if old != nil {
		o.Revision, o.Start = old.GetRevision(), old.GetStart()
		o.Forced = o.GetForced() || old.GetForced()
		w.drop(func(other *plan.Override) bool { return other == old })
	}
	w.next.Overrides = append(w.next.Overrides, o)
}

// deadline checks the length of an override (S18).
func (w *work) deadline(verb Verb) (*timestamppb.Timestamp, error) {
	longest := w.set.Fleet.MaxDrain
	if longest <= 0 || longest > defaultMaxDrain {
		longest = defaultMaxDrain
	}
	switch {
	case w.c.For <= 0:
		return nil, &Refusal{Reason: fmt.Sprintf("a %s needs an end", verb), Remedy: "give --for, such as --for 1h; it can be extended"}
	case w.c.For > longest:
		return nil, &Refusal{
			Reason: fmt.Sprintf("%s is longer than the %s that the fleet allows (safety.maxDrain)", spec.FormatDuration(w.c.For), spec.FormatDuration(longest)),
			Remedy: "give a shorter --for; it can be extended by saying it again",
		}
	case w.c.Reason == "":
		return nil, &Refusal{Reason: fmt.Sprintf("a %s needs a reason", verb), Remedy: "give --reason, such as --reason INC-1"}
	}
	return timestamppb.New(w.s.Now.Add(w.c.For)), nil
}

// count counts things as people do: 1 director, 2 directors.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// counting is count with its verb: 1 director counts, 2 directors count.
func counting(n int, noun string) string {
	if n == 1 {
		return count(n, noun) + " counts"
	}
	return count(n, noun) + " count"
}

// overrideText names an override in one line.
func overrideText(o *plan.Override) string {
	switch o.GetKind() {
	case plan.Override_DRAIN:
		return steer.DrainWhy(o.GetScope(), o)
	case plan.Override_OBSERVE:
		return "observe " + o.GetScope() + " by " + o.GetAuthor()
	case plan.Override_READMIT:
		return "readmit " + o.GetScope() + " by " + o.GetAuthor()
	default:
		return o.GetScope()
	}
}

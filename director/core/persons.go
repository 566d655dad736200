package core

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/plan"
)

// What requests for a second person may come to (S16).
const (
	RequestLasts = 15 * time.Minute // until it is approved, or nothing comes of it
	GlassAlerts  = 24 * time.Hour   // that break-glass alerts, unless somebody acknowledges it

	requestKept = 24 * time.Hour // what became of it is on record in the plan
	maxRequests = 16             // open and over
	maxAsked    = 4              // open ones of one identity
	maxWish     = 8 << 10        // octets of a command as JSON, with its objects where no blob holds them
	maxGlass    = 8

	// MaxWishes bounds the octets of what applies hold in blobs while they wait, with those of
	// the specs in force: what the store takes of one.
	MaxWishes = 60 << 20
)

// approval is a request that another person says yes to.
type approval struct {
	request *plan.Request
	by      string
	own     bool // by who asked: to look at it alone
}

// Identity is who an author is. The label that he gives beside it, in brackets, makes no
// other person of him.
func Identity(author string) string {
	name, _, _ := strings.Cut(author, access.LabelMark)
	return name
}

// Settles gives the ID under which the store keeps a command's outcome: an approval and a
// denial settle the command that was asked for.
func (c Command) Settles() string {
	if c.Verb == Approve || c.Verb == Deny {
		return c.Scope
	}
	return c.ID
}

// Wish gives the command that an approval would carry out, as far as the plan keeps it, and
// any other as it is: what a decision has to be told depends on that.
func Wish(p *plan.Plan, c Command) Command {
	if c.Verb != Approve {
		return c
	}
	wish, err := wished(p.Request(c.Scope))
	if err != nil {
		return c // Decide says what is wrong
	}
	return wish
}

// asked answers a command that has been asked for already.
func (w *work) asked() (answered bool, err error) {
	r := w.next.Request(w.c.ID)
	if r == nil || w.c.DryRun || w.c.Verb == Approve {
		return false, nil
	}
	if !bytes.Equal(r.GetFingerprint(), w.c.Fingerprint()) {
		return true, &Refusal{Reason: fmt.Sprintf("command ID %s was used for another command: %s", w.c.ID, r.GetWhat()), Remedy: "leave --id out"}
	}
	switch {
	case r.GetState() == plan.Request_DENIED:
		return true, &Refusal{Reason: denied(r), Remedy: "ask " + r.GetBy() + "; say it anew, without --id, if it is wanted all the same"}
	case r.GetState() == plan.Request_DONE:
		w.done = fmt.Sprintf("%s, approved by %s", r.GetWhat(), r.GetBy())
	case !r.Waits(w.s.Now):
		return true, &Refusal{Reason: fmt.Sprintf("nobody approved this until %s", clock(r.GetExpires().AsTime())), Remedy: "say it anew, without --id"}
	default:
		w.done, w.request = waits(r), r
	}
	w.noop = true
	return true, nil
}

func denied(r *plan.Request) string {
	return fmt.Sprintf("denied by %s (%s): %s", r.GetBy(), r.GetReason(), r.GetWhat())
}

func waits(r *plan.Request) string {
	return fmt.Sprintf("waits for a second person, until %s: divert approve %s", clock(r.GetExpires().AsTime()), r.GetId())
}

// persons holds a decided change against S16: what is dangerous is carried out for a
// second person's word or, on record, without; else it becomes a request.
func (w *work) persons(ap *approval) error {
	if w.noop {
		return w.void(ap, nil)
	}
	why := w.dangers()
	if len(why) == 0 && ap == nil {
		return nil
	}
	switch {
	case ap != nil:
		return w.approved(ap, why)
	case w.c.Folder != "":
		return &Refusal{Reason: "this takes two persons: " + strings.Join(why, "; "), Remedy: "a person may apply it: divert apply"}
	case w.own():
		return fmt.Errorf("%s: a director's own command takes two persons: %s", w.c.Verb, strings.Join(why, "; "))
	}
	w.prev.TwoPersons = why
	switch {
	case w.c.BreakGlass:
		return w.breakGlass(why)
	case w.c.DryRun:
		return nil
	}
	return w.ask(why)
}

// own tells whether a command is the directors' own, which follows from what people said.
func (w *work) own() bool {
	return slices.Contains([]Verb{Expire, Step, Spill, DirectorJoin, DirectorEnrol, KeyStep}, w.c.Verb) || strings.HasPrefix(w.c.ID, goOnID) || strings.HasPrefix(w.c.ID, stopID)
}

// dangers says why one person is not enough for the change that was decided.
func (w *work) dangers() []string {
	if !fleetOf(w.s.Spec).TwoPersons || w.c.Verb == Settle {
		return nil
	}
	after := side{w.next, w.set}
	switch {
	case w.c.Verb == GoOn: // what some directors try was judged when they began
		after.set = w.s.Spec
	case w.tries != nil && w.trial != nil:
		after.set = w.tries
	}
	out := dangersBy(side{w.s.Plan.Plan, w.s.Spec}, after, plan.Reader) // here all are known
	begun := w.c.Verb == GoOn && w.s.Plan.Plan.Soaking().GetForced()    // by two persons, when it began
	if w.c.Force && !begun && !slices.ContainsFunc(out, func(s string) bool { return strings.HasPrefix(s, "it is forced") }) {
		out = append(out, "it is forced past what refuses it")
	}
	return out
}

// void says that a request does something else than was asked for.
func (w *work) void(ap *approval, effect []byte) error {
	if ap == nil || effect != nil && bytes.Equal(effect, ap.request.GetEffect()) {
		return nil
	}
	what := "what it does has changed since it was asked for, so that nobody has approved this"
	if w.noop {
		what = "it changes nothing any more"
	}
	if w.c.DryRun {
		w.prev.Void = what
		return nil
	}
	return &Refusal{
		Reason: what + ": " + ap.request.GetWhat(),
		Remedy: "`divert approvals show " + ap.request.GetId() + "` shows what it does now; have it said anew, without --id, and approve that",
	}
}

// approved carries out what another person approved.
func (w *work) approved(ap *approval, why []string) error {
	w.prev.TwoPersons = why
	effect, err := w.effect(ap.request.GetFingerprint(), why)
	if err != nil {
		return err
	}
	if err := w.void(ap, effect); err != nil || w.c.DryRun {
		return err
	}
	r := w.next.Request(ap.request.GetId())
	if said, is := untimed(r.GetWhat()), untimed(cut(w.what+w.spite)); said != is { // whoever approves has read what it says
		return &Refusal{Reason: fmt.Sprintf("the request says %q, and would %s", said, is), Remedy: "deny it: director " + r.GetVia() + " wrote it"}
	}
	r.State, r.By, r.ByVia, r.Done, r.At, r.Objects, r.Bundle = plan.Request_DONE, ap.by, w.s.Me, w.next.GetRevision(), timestamppb.New(w.s.Now), nil, nil
	w.approver, w.request = ap.by, r
	if o := w.byID(w.c.ID); o != nil {
		o.Approver = ap.by
	}
	w.what += ", approved by " + ap.by
	w.done += ", approved by " + ap.by
	return nil
}

// untimed is a line of what a command does without the times in it.
func untimed(what string) string {
	what, _, _ = strings.Cut(what, " until ")
	return what
}

// breakGlass carries out what takes two persons at the word of one.
func (w *work) breakGlass(why []string) error {
	if w.c.Reason == "" {
		return &Refusal{Reason: "breaking the glass needs a reason", Remedy: "give --reason, such as --reason INC-1"}
	}
	w.glass, w.forced = true, true
	if o := w.byID(w.c.ID); o != nil {
		o.BreakGlass = true
	}
	w.next.Glass = slices.DeleteFunc(w.next.Glass, func(g *plan.BreakGlass) bool { return w.s.Now.Sub(g.GetAt().AsTime()) >= GlassAlerts })
	if more := len(w.next.Glass) - maxGlass + 1; more > 0 {
		w.next.Glass = slices.Delete(w.next.Glass, 0, more)
	}
	w.next.Glass = append(w.next.Glass, &plan.BreakGlass{
		Id: w.c.ID, Author: w.c.Who(), Reason: cut(w.c.Reason), Via: w.s.Me, What: cut(w.what + w.aside), Dangers: why,
		Verb: string(w.c.Verb), Scope: w.c.Scope,
		At: timestamppb.New(w.s.Now), Revision: w.next.GetRevision(),
	})
	w.what += ", by break-glass: " + strings.Join(why, "; ")
	w.done += ", by break-glass, which alerts until another person acknowledges it: divert approvals acknowledge " + w.c.ID
	return nil
}

// broughtBack holds what a backup brings into a fleet that lives against S16: nobody can be
// asked for a second word of it, so that --force is break-glass.
func (w *work) broughtBack() error {
	switch why := w.dangers(); {
	case len(why) == 0:
		return nil
	case !w.c.Force:
		return &Refusal{
			Reason: "this takes two persons: " + strings.Join(why, "; "),
			Remedy: "apply that part of the spec, and have it approved; or repeat it with --force, which is recorded and alerts as break-glass", Force: true,
		}
	default:
		w.prev.TwoPersons = why
		return w.breakGlass(why)
	}
}

// ask makes a request of a decided change, which is given up.
func (w *work) ask(why []string) error {
	wish, objects, blob, err := w.wish()
	if err != nil {
		return err
	}
	fingerprint := w.c.Fingerprint()
	effect, err := w.effect(fingerprint, why)
	if err != nil {
		return err
	}
	what, document, err := cut(w.what+w.spite), []byte(nil), error(nil)
	if document, err = w.brings(); err != nil {
		return err
	}
	w.tellShifts()
	w.asksFor = w.after()
	w.next, w.doc, w.trial, w.set, w.tries, w.compared = begin(w.s, w.c).next, nil, nil, w.s.Spec, nil, nil
	w.forced, w.spite, w.aside = false, "", ""
	w.blobs, w.revault = nil, false // the request holds what was encrypted
	r := &plan.Request{
		Id: w.c.ID, Command: wish, Objects: objects, Author: w.c.Who(), Via: w.s.Me, Fingerprint: fingerprint, Effect: effect, Dangers: why,
		Revision: w.next.GetRevision(), Parent: w.next.GetParent(), Asked: timestamppb.New(w.s.Now), Expires: timestamppb.New(w.s.Now.Add(RequestLasts)),
		State: plan.Request_OPEN, Reason: cut(w.c.Reason), Spec: document, What: what,
	}
	if blob != nil {
		w.bundle = blob
	}
	if w.bundle != nil {
		sum := plan.Sum(w.bundle)
		r.Bundle = &plan.SpecRef{Hash: sum[:], Size: uint64(len(w.bundle))} // its chunks are the writer's to name
	}
	if err := w.makeRoom(r); err != nil {
		return err
	}
	w.next.Requests = append(w.next.Requests, r)
	w.request, w.keptAs = r, "ask-"+w.c.ID
	w.what, w.done = "ask for a second person: "+what, waits(r)
	return nil
}

// makeRoom drops the oldest requests that are over, and bounds those that wait: nobody has
// more than his share of the places, so that none is kept out by others who ask for much;
// an undrain, which gives back, is kept out by nothing else. A person's tokens are he.
func (w *work) makeRoom(r *plan.Request) error {
	list := slices.DeleteFunc(w.next.Requests, func(r *plan.Request) bool {
		return !r.Waits(w.s.Now) && w.s.Now.Sub(r.GetExpires().AsTime()) >= requestKept
	})
	for len(list) >= maxRequests {
		i := slices.IndexFunc(list, func(r *plan.Request) bool { return !r.Waits(w.s.Now) })
		if i < 0 {
			break
		}
		list = slices.Delete(list, i, i+1)
	}
	w.next.Requests = list
	who := func(r *plan.Request) string { return personOf(makerOf(w.next, r.GetAuthor())) }
	count := map[string]int{}
	for _, have := range list {
		if have.Waits(w.s.Now) {
			count[who(have)]++
		}
	}
	mine, back := count[who(r)], w.c.Verb == Undrain
	if back && mine >= maxAsked { // or who says it again and again would have all the places
		if i := slices.IndexFunc(list, func(have *plan.Request) bool {
			return have.Waits(w.s.Now) && who(have) == who(r) && givesBack(have, w.c.Scope)
		}); i >= 0 {
			w.aside += fmt.Sprintf("; the request %s of %s, for the same, gives way", list[i].GetId(), list[i].GetAuthor())
			w.next.Requests = slices.Delete(list, i, i+1)
			return nil
		}
	}
	if len(list) < maxRequests && (mine < maxAsked || back) {
		return nil
	}
	// The oldest of who has most gives way, where that one has more than who asks would.
	out := -1
	for i, have := range list {
		if have.Waits(w.s.Now) && !givesBack(have, "") && (out < 0 || count[who(have)] > count[who(list[out])]) {
			out = i
		}
	}
	if out >= 0 && len(list) >= maxRequests && (back || mine < maxAsked && count[who(list[out])] > mine+1) {
		w.aside += fmt.Sprintf("; the request %s of %s, who asks for most, gives way", list[out].GetId(), list[out].GetAuthor())
		w.next.Requests = slices.Delete(list, out, out+1)
		return nil
	}
	return full(w.next.Requests, mine, Identity(r.GetAuthor()), func(have *plan.Request) bool { return have.Waits(w.s.Now) && who(have) == who(r) })
}

// full says that somebody's places for requests are taken, or all are, and what to do.
func full(list []*plan.Request, mine int, who string, own func(*plan.Request) bool) *Refusal {
	soonest := func(a, b *plan.Request) int { return a.GetExpires().AsTime().Compare(b.GetExpires().AsTime()) }
	if mine >= maxAsked {
		next := slices.MinFunc(slices.DeleteFunc(slices.Clone(list), func(r *plan.Request) bool { return !own(r) }), soonest)
		return &Refusal{
			Reason: fmt.Sprintf("%d requests of %s wait for a second person, which is the most of one", mine, who),
			Remedy: fmt.Sprintf("have one approved (`divert approvals` lists them), take one back (`divert deny %s --reason \"not any more\"`), or wait until %s, when that ends; --break-glass asks nobody, on record",
				next.GetId(), clock(next.GetExpires().AsTime())),
		}
	}
	next := slices.MinFunc(list, soonest)
	return &Refusal{
		Reason: fmt.Sprintf("%d requests wait for a second person, which is the most", len(list)),
		Remedy: fmt.Sprintf("have some approved or denied (`divert approvals` lists them), or wait until %s, when %s ends; --break-glass asks nobody, on record", clock(next.GetExpires().AsTime()), next.GetId()),
	}
}

// givesBack tells whether a request is one that takes nothing away, of a scope ("" = any).
func givesBack(r *plan.Request, scope string) bool {
	c, err := wished(r)
	return err == nil && c.Verb == Undrain && (scope == "" || c.Scope == scope)
}

// approve decides the command that a request holds, as if its author gave it now.
func approve(s State, c Command) (Change, error) {
	r := s.Plan.Plan.Request(c.Scope)
	own := r != nil && stake(s.Plan.Plan, r, c.Who())
	switch {
	case r == nil:
		return Change{}, &Refusal{Reason: fmt.Sprintf("no request has the ID %q", c.Scope), Remedy: "`divert approvals` lists them"}
	case r.GetState() == plan.Request_DENIED:
		return Change{}, &Refusal{Reason: denied(r), Remedy: "have it said anew, without --id"}
	case r.GetState() == plan.Request_DONE:
		return Change{Noop: true, Summary: fmt.Sprintf("%s, approved by %s", r.GetWhat(), r.GetBy())}, nil
	case !r.Waits(s.Now):
		return Change{}, &Refusal{Reason: fmt.Sprintf("the request expired at %s: %s", clock(r.GetExpires().AsTime()), r.GetWhat()), Remedy: "have it said anew, without --id"}
	case own && !c.DryRun:
		return Change{}, &Refusal{Reason: fmt.Sprintf("%s asked for it, and may not approve it as well", Identity(c.Who())), Remedy: "another person approves it: divert approve " + r.GetId()}
	case isProgram(c.Who()) && !c.DryRun: // whoever asked may have made it
		return Change{}, &Refusal{Reason: fmt.Sprintf("%s is what a program has, and no second person", Identity(c.Who())), Remedy: "a person approves it, by the socket, a certificate or a login: divert approve " + r.GetId()}
	case r.GetVia() == s.Me && !c.DryRun && signers(s.Plan.Plan) > 1:
		return Change{}, &Refusal{
			Reason: fmt.Sprintf("the request came in by way of this director, %s: another one has to vouch for who approves it", s.Me),
			Remedy: "give the same at another director, with --server",
		}
	}
	if err := r.ProvesAsked(s.Plan.Plan); err != nil {
		return Change{}, &Refusal{Reason: fmt.Sprintf("nobody knows who asked for it: %v", err), Remedy: "have it said anew, without --id"}
	}
	wish, err := wished(r)
	if err == nil {
		wish, err = bundled(s, r, wish)
	}
	if err != nil {
		return Change{}, &Refusal{Reason: err.Error(), Remedy: "approve it at a director of the version that took it, or have it said anew"}
	}
	wish.DryRun, wish.By = c.DryRun, c.By // who may not do it, may not have it done
	wish.KeyTurn = c.KeyTurn              // drawn by the director that takes the approval
	if err := Authorise(s.Spec, s.Doc, wish); err != nil {
		return Change{}, err
	}
	change, err := decide(s, wish, &approval{request: r, by: c.Who(), own: own})
	change.Kept, change.Of, change.Request = r.GetId(), r.GetFingerprint(), change.Plan.Request(r.GetId())
	return change, err
}

// signers counts the directors of a roster that could sign.
func signers(p *plan.Plan) int {
	n := 0
	for _, d := range p.Active() {
		if len(d.GetKey()) > 0 {
			n++
		}
	}
	return n
}

// deny ends a request: nothing comes of it, whoever asked may take it back so.
func (w *work) deny() error {
	r := w.next.Request(w.c.Scope)
	switch {
	case r == nil:
		return &Refusal{Reason: fmt.Sprintf("no request has the ID %q", w.c.Scope), Remedy: "`divert approvals` lists them"}
	case w.c.Reason == "":
		return &Refusal{Reason: "denying a request needs a reason", Remedy: "give --reason, such as --reason \"not during the sale\""}
	case r.GetState() == plan.Request_DENIED:
		w.noop, w.done = true, denied(r)
		return nil
	case r.GetState() == plan.Request_DONE:
		return &Refusal{Reason: fmt.Sprintf("it is done, approved by %s: %s", r.GetBy(), r.GetWhat()), Remedy: "undo it, as with `divert undrain`"}
	case !r.Waits(w.s.Now):
		return &Refusal{Reason: fmt.Sprintf("the request expired at %s, and nothing comes of it: %s", clock(r.GetExpires().AsTime()), r.GetWhat())}
	}
	if Identity(r.GetAuthor()) != Identity(w.c.Who()) {
		wish, err := wished(r)
		if wish.By = w.c.By; err == nil {
			err = Authorise(w.s.Spec, w.s.Doc, wish)
		}
		if err != nil {
			return err
		}
	}
	r.State, r.By, r.ByVia, r.Reason, r.At, r.Objects, r.Bundle = plan.Request_DENIED, w.c.Who(), w.s.Me, cut(w.c.Reason), timestamppb.New(w.s.Now), nil, nil
	w.keptAs, w.of, w.refused = r.GetId(), r.GetFingerprint(), denied(r)
	w.what = fmt.Sprintf("deny the request of %s: %s", r.GetAuthor(), r.GetWhat())
	w.done = w.what
	return nil
}

// acknowledge notes that another person has looked at what was done by break-glass.
func (w *work) acknowledge() error {
	i := slices.IndexFunc(w.next.Glass, func(g *plan.BreakGlass) bool { return g.GetId() == w.c.Scope })
	if i < 0 {
		return &Refusal{Reason: fmt.Sprintf("nothing of the ID %q was done by break-glass of late", w.c.Scope), Remedy: "`divert approvals` lists what was"}
	}
	g := w.next.Glass[i]
	switch {
	case g.GetAcknowledgedBy() != "":
		w.noop, w.done = true, "acknowledged by "+g.GetAcknowledgedBy()
		return nil
	case isProgram(w.c.Who()):
		return &Refusal{Reason: Identity(w.c.Who()) + " is what a program has, and no second person", Remedy: "a person acknowledges it: divert approvals acknowledge " + g.GetId()}
	case samePerson(makerOf(w.next, g.GetAuthor()), w.c.Who()):
		return &Refusal{Reason: fmt.Sprintf("%s broke the glass, and may not acknowledge it as well", Identity(w.c.Who())), Remedy: "another person acknowledges it: divert approvals acknowledge " + g.GetId()}
	}
	if err := Authorise(w.s.Spec, w.s.Doc, glassOf(g, w.c.By)); err != nil {
		return err
	}
	g.AcknowledgedBy, g.Acknowledged = w.c.Who(), timestamppb.New(w.s.Now)
	w.what = fmt.Sprintf("acknowledge what %s did by break-glass: %s", g.GetAuthor(), g.GetWhat())
	w.done = w.what
	return nil
}

// glassOf is what was done by break-glass as somebody would have to be allowed to do it. Of
// a spec, and of what a director before this version did, nobody knows any more what it was
// about: it is the fleet.
func glassOf(g *plan.BreakGlass, by *access.Identity) Command {
	c := Command{Verb: cmp.Or(Verb(g.GetVerb()), Drain), Scope: g.GetScope(), By: by}
	if !access.Action(c.Verb).Known() { // of who keeps the store, as a restore
		c.Verb = Verb(access.Keep)
	}
	return c
}

// Vouch has the director that is about to sign a change's plan sign the request in it, if
// it brings one or carries one out.
func (c *Change) Vouch(key ed25519.PrivateKey) {
	switch r := c.Request; {
	case r == nil || c.Plan == nil:
	case r.GetState() == plan.Request_OPEN:
		r.SignAsked(c.Plan.GetFleet(), key)
	case r.GetState() == plan.Request_DONE:
		r.SignApproved(c.Plan.GetFleet(), key)
	}
}

// Alarming lists what was done by break-glass, and that nobody has acknowledged within a
// day.
func Alarming(p *plan.Plan, now time.Time) []*plan.BreakGlass {
	return slices.DeleteFunc(slices.Clone(p.GetGlass()), func(g *plan.BreakGlass) bool {
		return g.GetAcknowledgedBy() != "" || now.Sub(g.GetAt().AsTime()) >= GlassAlerts
	})
}

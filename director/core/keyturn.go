package core

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// fingerprintSize is how many octets of a sum name a key: far more than chance needs.
const fingerprintSize = 16

// Fingerprint names a gossip key without giving it away, as long as it was drawn and not
// thought up.
func Fingerprint(secret []byte) string {
	sum := sha256.Sum256(append([]byte("divert gossip key\x00"), secret...))
	return hex.EncodeToString(sum[:fingerprintSize])
}

// ParseFingerprint tells whether a text is one.
func ParseFingerprint(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == fingerprintSize && hex.EncodeToString(raw) == s
}

// KeyTurn is what the director that takes a gossip-rotate knows of keys: the fingerprint
// of the one that it uses, and of the one that it has drawn.
type KeyTurn struct{ From, To string }

// KeyRing is what a director says of its gossip keys.
type KeyRing struct {
	Keys    []string // fingerprints: the one that it sends under first
	Turn    uint64   // plan revision of the phase that it has done, on its disk too; 0: none
	Trouble string   // why it cannot do the phase
}

// Turned is the ring that a phase asks of a director that has one; held is false where it
// has not got the key that is turned to, and nothing is to be changed then.
func Turned(t *plan.KeyTurn, ring []string) (want []string, held bool) {
	from := slices.Contains(ring, t.GetFrom())
	switch held = slices.Contains(ring, t.GetTo()); {
	case !held:
		return ring, false
	case t.GetPhase() == plan.KeyTurn_REMOVE:
		return []string{t.GetTo()}, true
	case t.GetPhase() == plan.KeyTurn_USE && from:
		return []string{t.GetTo(), t.GetFrom()}, true
	case t.GetPhase() == plan.KeyTurn_USE:
		return []string{t.GetTo()}, true
	case t.GetPhase() == plan.KeyTurn_ADD && from:
		return []string{t.GetFrom(), t.GetTo()}, true
	default: // it never had the old one, or a phase of a later version
		return ring, true
	}
}

// Abides tells whether a ring is what a phase asks for.
func Abides(t *plan.KeyTurn, ring []string) bool {
	want, held := Turned(t, ring)
	return held && slices.Equal(want, ring)
}

// TurnWaits lists who has not done the phase of a turn-over yet, each with the reason; first
// those that are not heard.
func TurnWaits(p *plan.Plan, rings map[string]KeyRing) []TurnWait {
	t := p.GetGossipKey().GetTurn()
	if t == nil {
		return nil
	}
	var out []TurnWait
	for _, d := range p.Active() {
		r, heard := rings[d.GetName()]
		why := ""
		switch {
		case len(d.GetKey()) == 0:
			why = "has not joined yet"
		case !heard:
			why = "is not heard"
		case r.Trouble != "":
			why = r.Trouble
		case !slices.Contains(r.Keys, t.GetTo()):
			why = "has not got the key " + short(t.GetTo()) + " yet"
		case r.Turn != t.GetRevision() || !Abides(t, r.Keys):
			why = "has not done it yet"
		default:
			continue
		}
		out = append(out, TurnWait{Director: d.GetName(), Why: why})
	}
	late := func(w TurnWait) int { // who is there may wait for who is not
		if _, heard := rings[w.Director]; heard {
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b TurnWait) int {
		return cmp.Or(cmp.Compare(late(a), late(b)), cmp.Compare(a.Director, b.Director))
	})
	return out
}

// Parts says who would be cut off if a director went from one ring to another now; "":
// nobody. It goes by what each director has said of its own ring, and not by the plan, so
// that no leader can part a fleet by phases that it writes before all have done the one
// before: nobody sends under a key that another lacks, nor lets go of one that another
// sends under (S7). What only adds a key cuts nobody off.
func Parts(p *plan.Plan, me string, have, want []string, rings map[string]KeyRing) string {
	if len(have) == 0 || len(want) == 0 {
		return ""
	}
	turns := want[0] != have[0]
	drops := slices.ContainsFunc(have, func(key string) bool { return !slices.Contains(want, key) })
	if !turns && !drops {
		return ""
	}
	for _, d := range p.Active() {
		r, heard := rings[d.GetName()]
		switch {
		case d.GetName() == me:
		case !heard || len(r.Keys) == 0:
			return d.GetName() + " is not heard"
		case turns && !slices.Contains(r.Keys, want[0]):
			return d.GetName() + " has not got the key " + short(want[0]) + " yet"
		case slices.Contains(have, r.Keys[0]) && !slices.Contains(want, r.Keys[0]):
			return d.GetName() + " still sends under " + short(r.Keys[0])
		}
	}
	return ""
}

// Toward gives the ring that a director may go to now, on its way to the one that a phase
// asks for: that one if nobody is cut off by it, else what comes nearer and cuts nobody off.
// Why says what it waits for.
func Toward(p *plan.Plan, me string, have, want []string, rings map[string]KeyRing) (next []string, why string) {
	if why = Parts(p, me, have, want, rings); why == "" || len(have) == 0 {
		return want, why
	}
	var steps [][]string
	if rest := slices.DeleteFunc(slices.Clone(have), func(key string) bool { return key == want[0] }); len(rest) < len(have) {
		steps = append(steps, append([]string{want[0]}, rest...)) // sent under, and the other one kept
	}
	if len(have) == 1 {
		for _, key := range want {
			if key != have[0] {
				steps = append(steps, []string{have[0], key}) // beside the one that is sent under
			}
		}
	}
	for _, step := range steps {
		if !slices.Equal(step, have) && Parts(p, me, have, step, rings) == "" {
			return step, why
		}
	}
	return have, why
}

// TurnLost tells whether a turn-over can come to no end by itself: it is to go to a key that
// no director that is heard holds, so that nobody can be given it. That is so after a `store
// recover` to a plan of long ago. While all add it, one that draws it may yet be on its way.
// Most of the directors have to be heard: those that a minority does not hear may hold it.
func TurnLost(p *plan.Plan, rings map[string]KeyRing) bool {
	t := p.GetGossipKey().GetTurn()
	if t == nil || !mostHeard(p, rings) || ringed(rings, t.GetTo()) {
		return false
	}
	return t.GetPhase() == plan.KeyTurn_REMOVE || t.GetBack() || !ringed(rings, t.GetFrom())
}

// mostHeard tells whether most of the roster's directors say what they hold.
func mostHeard(p *plan.Plan, rings map[string]KeyRing) bool {
	all, heard := 0, 0
	for _, d := range p.Active() {
		all++
		if _, ok := rings[d.GetName()]; ok {
			heard++
		}
	}
	return heard > 0 && 2*heard > all
}

func ringed(rings map[string]KeyRing, key string) bool {
	for _, r := range rings {
		if slices.Contains(r.Keys, key) {
			return true
		}
	}
	return false
}

// TurnWait is a director that a turn-over waits for.
type TurnWait struct {
	Director string `json:"director"`
	Why      string `json:"why"`
}

// short cuts a fingerprint for people.
func short(fingerprint string) string { return fingerprint[:min(8, len(fingerprint))] }

// rotate begins a turn-over: everybody is to hold the new key beside the old one.
func (w *work) rotate() error {
	k := w.next.GetGossipKey()
	switch c := w.c.KeyTurn; {
	case w.c.Reason == "":
		return &Refusal{Reason: "turning a key over needs a reason", Remedy: "give --reason, such as --reason \"d4 was removed\""}
	case k.GetTurn() != nil:
		return &Refusal{
			Reason: fmt.Sprintf("a turn-over of the gossip key is under way since %s: %s", k.GetTurn().GetSince().AsTime().Format(time.RFC3339), phaseText(k.GetTurn())),
			Remedy: "`divert keys status` shows whom it waits for; `divert keys rotate --back` takes it back",
		}
	case c == nil || !ParseFingerprint(c.From):
		return &Refusal{Reason: "this director gossips without a key, so there is none to turn over", Remedy: "make one with `(umask 077; openssl rand -base64 32 > gossip.key)`, name it as gossip.keyFile at every director, and start them anew"}
	case w.keyTrouble() != "":
		return &Refusal{
			Reason: w.keyTrouble() + ", and a turn-over would wait for it",
			Remedy: "move its key file to where it can write, such as its data folder, name that as gossip.keyFile, and restart it",
		}
	case k.GetCurrent() != "" && k.GetCurrent() != c.From && !w.c.Force:
		return &Refusal{
			Reason: fmt.Sprintf("this director's gossip key is %s, and the fleet's is %s", short(c.From), short(k.GetCurrent())),
			Remedy: "copy the key file of another director to this one, where it is read again without a restart; or with --force, where all directors gossip under this one's since an older plan was recovered", Force: true,
		}
	case !w.c.DryRun && (!ParseFingerprint(c.To) || c.From == c.To):
		return fmt.Errorf("no new key was drawn")
	default:
		if k == nil {
			k = &plan.GossipKey{}
			w.next.GossipKey = k
		}
		w.forced = w.forced || k.GetCurrent() != "" && k.GetCurrent() != c.From
		k.Turn = &plan.KeyTurn{Id: w.c.ID, From: c.From, To: c.To, Author: w.c.Author, Reason: w.c.Reason}
		w.phase(plan.KeyTurn_ADD)
		w.what, w.aside = "turn the gossip key over from "+short(c.From), " to "+short(c.To) // who draws it says which
		w.done = fmt.Sprintf("the gossip key %s is to be turned over: every director adds %s, then uses it, then removes the old one", short(c.From), short(c.To))
		if w.c.DryRun {
			w.done = fmt.Sprintf("the gossip key %s would be turned over: every director adds a new one, then uses it, then removes the old one", short(c.From))
		}
		return nil
	}
}

// keyTrouble names the first director that says that it could do no phase; "" = none does.
func (w *work) keyTrouble() string {
	for _, d := range w.next.Active() {
		if r := w.s.Rings[d.GetName()]; r.Trouble != "" {
			return d.GetName() + " " + r.Trouble
		}
	}
	return ""
}

// rotateBack takes a turn-over back while nobody has removed the old key: all go on with
// that, and remove the new one. One whose keys nobody has any more is ended by force: each
// director keeps what it has, and which key is the fleet's is open until the next turn-over.
func (w *work) rotateBack() error {
	t := w.next.GetGossipKey().GetTurn()
	switch {
	case t == nil:
		return &Refusal{Reason: "no turn-over of the gossip key is under way"}
	case w.c.Reason == "":
		return &Refusal{Reason: "taking a turn-over back needs a reason", Remedy: "give --reason"}
	case TurnLost(w.next, w.s.Rings) && !w.c.Force:
		return &Refusal{
			Reason: fmt.Sprintf("no director that is heard holds the key %s, so that there is neither a way on nor one back", short(t.GetTo())),
			Remedy: "bring back one that holds it (`divert keys status` shows whom it waits for); or end it with --force: every director keeps the keys that it has, which is recorded", Force: true,
		}
	case TurnLost(w.next, w.s.Rings):
		w.forced = true
		w.next.GossipKey.Current, w.next.GossipKey.Since, w.next.GossipKey.Turn = "", nil, nil
		w.what = fmt.Sprintf("end the turn-over of the gossip key from %s to %s, which nobody has", short(t.GetFrom()), short(t.GetTo()))
		w.done = "the turn-over is ended: every director keeps the gossip keys that it has; `divert keys rotate` begins another"
		return nil
	case t.GetBack():
		w.noop, w.done = true, "it is being taken back already"
		return nil
	case t.GetPhase() == plan.KeyTurn_REMOVE:
		return &Refusal{
			Reason: "some directors have removed the old key already, so there is no way back",
			Remedy: "let it come to its end (`divert keys status` shows whom it waits for), then turn the key over again",
		}
	}
	t.From, t.To, t.Back = t.GetTo(), t.GetFrom(), true
	if t.GetPhase() == plan.KeyTurn_ADD { // nobody sends under the new one yet
		w.phase(plan.KeyTurn_REMOVE)
	} else {
		w.phase(plan.KeyTurn_USE)
	}
	w.what = "take the turn-over of the gossip key back, to " + short(t.GetTo())
	w.done = "the turn-over is taken back: every director goes on with the gossip key " + short(t.GetTo()) + " and removes " + short(t.GetFrom())
	return nil
}

// phase begins a phase of the turn-over.
func (w *work) phase(p plan.KeyTurn_Phase) {
	t := w.next.GetGossipKey().GetTurn()
	t.Phase, t.Revision, t.Since = p, w.next.GetRevision(), timestamppb.New(w.s.Now)
}

// turnID is the ID of the leader's next write of a turn-over: it follows from what is
// done, so that two leaders cannot do it twice (S4).
func turnID(t *plan.KeyTurn) string {
	return fmt.Sprintf("step-key-%d", t.GetRevision())
}

// turnDue gives the next write of a turn-over, once every registered director has done the
// phase; nil: nothing is due.
func turnDue(s State) *Command {
	t := s.Plan.Plan.GetGossipKey().GetTurn()
	if t == nil || s.Rings == nil || len(TurnWaits(s.Plan.Plan, s.Rings)) > 0 {
		return nil
	}
	return &Command{ID: turnID(t), Verb: KeyStep, Author: "director " + s.Me, Reason: t.GetReason()}
}

// keyStep writes what comes next of a turn-over.
func (w *work) keyStep() {
	k := w.next.GetGossipKey()
	t := k.GetTurn()
	if t == nil || turnID(t) != w.c.ID {
		w.noop, w.done = true, "done already"
		return
	}
	if waits := TurnWaits(w.next, w.s.Rings); len(waits) > 0 {
		w.noop, w.done = true, "it waits for "+waits[0].Director+", which "+waits[0].Why
		return
	}
	switch t.GetPhase() {
	case plan.KeyTurn_ADD:
		w.phase(plan.KeyTurn_USE)
		w.what = "gossip key: all hold " + short(t.GetTo()) + ", so all use it"
	case plan.KeyTurn_USE:
		w.phase(plan.KeyTurn_REMOVE)
		w.what = "gossip key: all use " + short(t.GetTo()) + ", so all remove " + short(t.GetFrom())
	default:
		k.Current, k.Since, k.Turn = t.GetTo(), timestamppb.New(w.s.Now), nil
		w.what = "gossip key: " + short(t.GetTo()) + " is the only one"
	}
	w.done = w.what
}

// phaseText says in words what a phase is.
func phaseText(t *plan.KeyTurn) string {
	text := map[plan.KeyTurn_Phase]string{
		plan.KeyTurn_ADD:    "all add " + short(t.GetTo()),
		plan.KeyTurn_USE:    "all use " + short(t.GetTo()),
		plan.KeyTurn_REMOVE: "all remove " + short(t.GetFrom()),
	}[t.GetPhase()]
	if text == "" {
		text = "a phase that this version does not know"
	}
	if t.GetBack() {
		text += ", since it is taken back"
	}
	return text
}

// PhaseText says in words what the phase under way is; "" for none.
func PhaseText(t *plan.KeyTurn) string {
	if t == nil {
		return ""
	}
	return phaseText(t)
}

// keyDangers says what is done to the gossip key: a turn-over begins, or is given up. What
// follows from its beginning is the leader's, and going back to the old key leaves all as
// it was. Of one that came and went meanwhile the key at its end tells.
func keyDangers(before, after *plan.Plan) []string {
	was, is := before.GetGossipKey(), after.GetGossipKey()
	t := was.GetTurn()
	switch {
	case is.GetTurn() != nil && is.GetTurn().GetId() != t.GetId():
		return []string{"it turns the gossip key over"}
	case is.GetTurn() == nil && t != nil && is.GetCurrent() == "":
		return []string{"it gives up a turn-over of the gossip key"}
	case is.GetTurn() == nil && is.GetCurrent() != was.GetCurrent() && is.GetCurrent() != t.GetTo() && is.GetCurrent() != t.GetFrom():
		return []string{"it names another gossip key"}
	}
	return nil
}

// checkKey holds what a plan says of the gossip key against itself.
func checkKey(p *plan.Plan) error {
	k := p.GetGossipKey()
	t := k.GetTurn()
	if k.GetCurrent() != "" && !ParseFingerprint(k.GetCurrent()) {
		return fmt.Errorf("what it says of the gossip key is no fingerprint")
	}
	if t != nil && (!ParseFingerprint(t.GetFrom()) || !ParseFingerprint(t.GetTo()) || t.GetFrom() == t.GetTo()) {
		return fmt.Errorf("it turns the gossip key over between what are no two fingerprints")
	}
	return nil
}

// checkTurn holds a turn-over against the plan that it follows: no phase is left out, since
// directors that skip one cannot hear those that have not.
func checkTurn(cur, next *plan.Plan) error {
	was, is := cur.GetGossipKey().GetTurn(), next.GetGossipKey().GetTurn()
	same := was.GetFrom() == is.GetFrom() && was.GetTo() == is.GetTo() && was.GetBack() == is.GetBack()
	turned := was.GetFrom() == is.GetTo() && was.GetTo() == is.GetFrom() && !was.GetBack() && is.GetBack()
	current := next.GetGossipKey().GetCurrent()
	before, after := was.GetPhase(), is.GetPhase()
	ok := false
	switch {
	case was == nil && is == nil:
		ok = current == cur.GetGossipKey().GetCurrent()
	case was == nil:
		ok = after == plan.KeyTurn_ADD && !is.GetBack()
	case is == nil: // or it was lost, and a person ended it; nobody is cut off by that, see Parts
		ok = before == plan.KeyTurn_REMOVE && current == was.GetTo() || current == ""
	case same:
		ok = after == before || after == before+1
	case turned:
		ok = before == plan.KeyTurn_ADD && after == plan.KeyTurn_REMOVE || before == plan.KeyTurn_USE && after == plan.KeyTurn_USE
	}
	if !ok {
		return fmt.Errorf("its turn-over of the gossip key leaves out a phase: from %s to %s", before, after)
	}
	if is != nil && current != cur.GetGossipKey().GetCurrent() {
		return fmt.Errorf("it names another gossip key before the turn-over is complete")
	}
	return nil
}

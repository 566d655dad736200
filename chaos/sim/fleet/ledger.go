package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store/model"
	"github.com/divertdns/divert/health"
)

// ledger is what the checks remember: what really happened, which no director knows.
type ledger struct {
	signed   map[plan.Hash]*commit // plans that somebody signed, to be written
	stored   *plan.Sealed          // in the store now
	audits   map[string]string     // as written
	commands map[string]plan.Hash  // by ID: the plan that did it
	landed   []*landing
	reads    []reading
	swaps    int               // of the store
	brought  map[string]string // by folder and resource: what it last brought

	orders  map[[2]uint64]plan.Hash            // of what anybody has answered from
	forced  map[string]map[[2]uint64]plan.Hash // the same, by director
	ackeds  map[string]plan.Identity           // the highest that a director ever acknowledged
	acks    map[string][]ack                   // when it first acknowledged more than before
	words   []saying                           // of operators, in their order
	over    map[string]time.Duration           // by director and word: since when it is ended there
	settled map[string]plan.Identity           // by word: the plan that settled it
	off     []time.Duration                    // how long somebody was away or stood still, each
	births  map[health.Subject][]birth         // transitions that somebody judged, by subject
	usurped map[plan.Hash]string               // what a rogue director signed, and which
	asked   map[string]*asking                 // for a second person, by the command's ID
}

// landing is a plan that reached the store.
type landing struct {
	c      *commit
	sealed *plan.Sealed
	at     time.Duration
}

// reading is a read of the store, from when to when, and what it found.
type reading struct {
	began, ended time.Duration
	revision     uint64
}

type ack struct {
	revision uint64
	at       time.Duration
}

// allAcked tells when the last of some directors had acknowledged a revision.
func (l *ledger) allAcked(directors []*plan.Director, revision uint64) (last time.Duration) {
	for _, d := range directors {
		list := l.acks[d.GetName()]
		if i := slices.IndexFunc(list, func(a ack) bool { return a.revision >= revision }); i >= 0 {
			last = max(last, list[i].at)
		}
	}
	return last
}

type birth struct {
	n  uint64
	at time.Duration
}

func newLedger() ledger {
	return ledger{
		signed: map[plan.Hash]*commit{}, audits: map[string]string{}, commands: map[string]plan.Hash{}, orders: map[[2]uint64]plan.Hash{},
		forced: map[string]map[[2]uint64]plan.Hash{}, ackeds: map[string]plan.Identity{}, acks: map[string][]ack{}, births: map[health.Subject][]birth{}, brought: map[string]string{},
		over: map[string]time.Duration{}, settled: map[string]plan.Identity{}, asked: map[string]*asking{}, usurped: map[plan.Hash]string{},
	}
}

func (l *ledger) sign(c *commit) { l.signed[c.next.sealed.Identity.Hash] = c }

func (l *ledger) read(p *director, s *plan.Sealed, began time.Duration) {
	if len(l.reads) < 200 {
		l.reads = append(l.reads, reading{began: began, ended: p.w.now, revision: s.Identity.Revision})
	}
}

// swapped begins anew with another store.
func (l *ledger) swapped(w *world) {
	l.swaps++
	l.settled, l.over = map[string]plan.Identity{}, map[string]time.Duration{}
	for _, a := range l.asked {
		a.over, a.denied = false, false // what came of it may be undone with the store
	}
	l.stored, l.audits, l.commands = nil, map[string]string{}, map[string]plan.Hash{}
	if v := w.etcd.Get(w.keys.Plan()); v.Create > 0 {
		l.stored, _ = plan.Open([]byte(v.Value)) // as it was written
	}
	for _, key := range w.etcd.Below(w.keys.Audits()) {
		l.audits[key] = w.etcd.Get(key).Value
	}
}

// written holds every write of the store against S2 to S4, S13, S15 and S18.
func (w *world) written(key string) {
	l := &w.ledger
	v := w.etcd.Get(key)
	there := v.Create > 0
	switch {
	case key == w.keys.Plan():
		w.checkWrite(v)
		for _, p := range w.directors {
			if p.up {
				w.push(w.now+w.way(), p, p.readStore) // the watch
			}
		}
	case strings.HasPrefix(key, w.keys.Audits()):
		if old, known := l.audits[key]; known && (!there || old != v.Value) {
			w.wrong("S15", "the audit record %s was edited or deleted", key)
		}
		l.audits[key] = v.Value
	case strings.HasPrefix(key, w.keys.Blobs()) && !there && l.stored != nil:
		for _, ref := range l.stored.Plan.Kept() {
			for _, h := range ref.GetChunks() {
				if w.keys.Blob(plan.Hash(h)) == key {
					w.wrong("S3", "a blob of the plan in use was collected")
				}
			}
		}
	}
}

func (w *world) checkWrite(v model.Entry) {
	l := &w.ledger
	next, err := plan.Open([]byte(v.Value))
	if err != nil {
		w.wrong("S7", "a plan that nobody can open: %v", err)
		return
	}
	var parent plan.Hash
	copy(parent[:], next.Plan.GetParent())
	who := l.usurped[parent]
	if is := l.usurped[next.Identity.Hash]; is != "" || who != "" { // itself, or what was decided on it
		l.usurped[next.Identity.Hash] = cmp.Or(is, who)
		l.swaps++ // what a person writes over it may give up what was under it
		return
	}
	id, prev := next.Identity, l.stored
	c := l.signed[id.Hash]
	l.stored = next
	w.report.Plans++
	if c == nil { // the first
		return
	}
	l.landed = append(l.landed, &landing{c: c, sealed: next, at: w.now})
	cmd := c.cmd
	switch {
	case cmd.Verb == verbRecover:
		if prev != nil && id.Compare(prev.Identity) <= 0 {
			w.wrong("S3", "recovered with %d.%d over %d.%d", id.Epoch, id.Revision, prev.Identity.Epoch, prev.Identity.Revision)
		}
	case prev == nil:
		w.wrong("S4", "%s wrote a plan into an empty store", cmd.ID)
	case string(next.Plan.GetParent()) != string(prev.Identity.Hash[:]) || id.Revision != prev.Identity.Revision+1 || id.Epoch != prev.Identity.Epoch:
		w.wrong("S4", "%s wrote plan %d.%d over %d.%d, on which it was not decided", cmd.ID, id.Epoch, id.Revision, prev.Identity.Epoch, prev.Identity.Revision)
	}
	if prev != nil && cmd.Verb != verbRecover && c.from.Fleet == prev.Identity.Fleet && c.from.Compare(prev.Identity) > 0 {
		w.wrong("S3", "%s wrote onto the store's %s, and answered from %s (F25)", c.p.name, order(prev.Identity), order(c.from))
	}
	if old, done := l.commands[cmd.ID]; done && old != id.Hash {
		w.wrong("S4", "command %s was done twice", cmd.ID)
	}
	l.commands[cmd.ID] = id.Hash
	if c.term != nil {
		if w.etcd.Get(c.term.Key).Create != c.term.CreateRevision {
			w.wrong("S4", "%s is a leader's write, of %s which leads no more", cmd.ID, c.p.name)
		}
	} else if cmd.Verb == core.Expire || cmd.Verb == core.Step || cmd.Verb == core.Spill || cmd.Verb == core.Settle {
		w.wrong("S4", "%s is a leader's write without its fence", cmd.ID)
	}
	if prev != nil && prev.Plan.Holder(next.Key) == nil && next.Plan.Holder(next.Key) == nil {
		w.wrong("S7", "%s wrote plan %d.%d with a key that nobody has registered", next.Signer, id.Epoch, id.Revision)
	}
	c.does = w.meaning(c)
	w.checkAudit(next, c)
	for _, h := range next.Plan.GetSpec().GetChunks() {
		if w.etcd.Get(w.keys.Blob(plan.Hash(h))).Create == 0 {
			w.wrong("S3", "plan %d.%d names a blob that the store lacks", id.Epoch, id.Revision)
		}
	}
	if prev != nil && cmd.Verb != verbRecover {
		w.checkOverrides(prev, next, c)
		w.checkSettled(prev, next, c)
		w.checkSerials(prev, next)
		w.checkSources(prev, next, c)
		w.checkRules(prev, next, c)
		w.checkRollout(prev, next, c)
		w.checkSpill(prev, next, c)
		w.checkPersons(prev, next, c)
	}
}

// checkAudit is S15: who, what, why, when and which revision, in the same transaction.
func (w *world) checkAudit(next *plan.Sealed, c *commit) {
	v := w.etcd.Get(w.keys.Audit(next.Identity.Revision))
	a := &plan.Audit{}
	switch {
	case v.Create == 0 || proto.Unmarshal([]byte(v.Value), a) != nil:
		w.wrong("S15", "plan %d.%d has no audit record", next.Identity.Epoch, next.Identity.Revision)
	case string(a.GetPlan()) != string(next.Identity.Hash[:]) || a.GetCommand() != c.recorded() || a.GetWho() == "" || a.GetWhat() == "" || a.GetWhy() == "" || a.GetAt() == nil:
		w.wrong("S15", "the audit record of plan %d.%d does not say all: %v", next.Identity.Epoch, next.Identity.Revision, a)
	}
	if r := w.etcd.Get(w.keys.Command(c.recorded())); r.Create == 0 || string(resultOf([]byte(r.Value)).GetPlan()) != string(next.Identity.Hash[:]) {
		w.wrong("S4", "plan %d.%d has no result of %s beside it", next.Identity.Epoch, next.Identity.Revision, c.cmd.ID)
	}
	w.checkPeople(a, c)
}

// checkOverrides is S18: each has owner, reason and end, and ends only by who may end
// it, onto what is well.
func (w *world) checkOverrides(prev, next *plan.Sealed, c *commit) {
	written := next.Plan.GetWritten().AsTime()
	find := func(in *plan.Plan, id string) bool {
		return slices.ContainsFunc(in.GetOverrides(), func(o *plan.Override) bool { return o.GetId() == id })
	}
	for _, o := range next.Plan.GetOverrides() {
		if o.GetAuthor() == core.SpecAuthor || find(prev.Plan, o.GetId()) {
			continue
		}
		if o.GetEnd() == nil || o.GetEnd().AsTime().Sub(written) > 72*time.Hour || o.GetReason() == "" || o.GetAuthor() == "" {
			w.wrong("S18", "an override without owner, reason or end: %v", o)
		}
	}
	for _, o := range next.Plan.GetOverrides() {
		for _, old := range prev.Plan.GetOverrides() {
			if old.GetId() != o.GetId() || o.GetKind() != plan.Override_DRAIN || o.GetPace() == nil || old.Keep() == o.Keep() {
				continue
			}
			if o.Keep() < old.Keep() {
				w.checkStep(old, prev, next, c)
			} else if c.term != nil {
				w.checkReturn(o, next, c)
			}
		}
	}
	returns := func(id string) bool { // its clients begin to come back
		return slices.ContainsFunc(next.Plan.GetOverrides(), func(o *plan.Override) bool { return o.GetId() == id && o.Ends() })
	}
	for _, o := range prev.Plan.GetOverrides() {
		begins := c.cmd.Verb == core.Expire && !o.Ends() && returns(o.GetId())
		if o.GetAuthor() == core.SpecAuthor || find(next.Plan, o.GetId()) && !begins {
			continue
		}
		replaced := slices.ContainsFunc(next.Plan.GetOverrides(), func(n *plan.Override) bool {
			return n.GetKind() == o.GetKind() && n.GetScope() == o.GetScope()
		})
		switch verb := c.does.Verb; {
		case replaced && !begins, verb == core.Undrain && o.GetKind() == plan.Override_DRAIN, verb == core.Thaw && o.GetKind() == plan.Override_OBSERVE:
		case verb == core.Step && c.term != nil && o.Ends(): // the last step of a return
		case verb != core.Expire:
			w.wrong("S18", "%s %s ended %s", c.cmd.ID, verb, o.GetId())
		case written.Before(o.GetEnd().AsTime()):
			w.wrong("S18", "%s was ended %s before its end", o.GetId(), o.GetEnd().AsTime().Sub(written))
		case w.early(o, c):
			w.wrong("S18", "%s was ended by %s, whose clock is off, long before its end (F15)", o.GetId(), c.p.name)
		case o.GetKind() == plan.Override_DRAIN && o.Keep() < plan.Whole: // one that was rolled back gives nobody back
			w.checkReturn(o, next, c)
		}
	}
}

// early tells whether an override was ended by a director whose clock is off, alone, and
// which could know that from two others. It may take them a moment.
func (w *world) early(o *plan.Override, c *commit) bool {
	off := func(f *fault) bool {
		return f.What == "clock" && f.of(c.p.name) && f.At < c.at-2*time.Second && c.at < f.until
	}
	others := func(f *fault) bool { return f.What == "clock" && !f.of(c.p.name) && f.At <= c.at && c.at < f.until }
	return c.heard >= 3 && slices.ContainsFunc(w.faults, off) && !slices.ContainsFunc(w.faults, others) &&
		epoch.Add(c.at).Add(10*time.Second).Before(o.GetEnd().AsTime())
}

// checkReturn: a drain ends by itself only onto sites that are well. One that has been
// dead for everybody for six seconds when that is decided is not, or for as long as whoever
// decides says that a death may take it (L1): a lone director needs many signals.
func (w *world) checkReturn(o *plan.Override, next *plan.Sealed, c *commit) {
	scope, err := steer.ParseScope(o.GetScope())
	if err != nil {
		return
	}
	set := c.next.set
	for _, svc := range set.Services {
		for _, e := range svc.Endpoints {
			cl := set.Cluster(e.Cluster)
			if !scope.Covers(svc.Name, cl) || drained(next.Plan, svc.Name, cl) {
				continue
			}
			known := w.known(c.p, e.Cluster)
			for _, a := range e.Addresses {
				if w.dead(a, c.at-known) {
					w.wrong("S18", "the drain of %s was ended onto %s@%s, which is dead", o.GetScope(), svc.Name, e.Cluster)
				}
			}
		}
	}
}

// known is how long a site may have been dead for everybody before a director has to know.
func (w *world) known(p *director, cluster string) time.Duration {
	return max(6*time.Second, w.bound([]*director{p}, cluster)+time.Second)
}

// drained tells whether some drain of a plan covers a site.
func drained(p *plan.Plan, service string, c *spec.Cluster) bool {
	return slices.ContainsFunc(p.GetOverrides(), func(o *plan.Override) bool {
		s, err := steer.ParseScope(o.GetScope())
		return err == nil && o.GetKind() == plan.Override_DRAIN && o.Keep() == 0 && s.Covers(service, c)
	})
}

// checkSerials is S13: a serial never falls, and health has no part in it.
func (w *world) checkSerials(prev, next *plan.Sealed) {
	for _, z := range next.Plan.GetZones() {
		for _, old := range prev.Plan.GetZones() {
			if old.GetName() == z.GetName() && int32(z.GetSerial()-old.GetSerial()) < 0 {
				w.wrong("S13", "the serial of %s went from %d to %d", z.GetName(), old.GetSerial(), z.GetSerial())
			}
		}
	}
}

// checkSources is S19: a folder removes nothing, takes no service's last address nor a
// quarter of all endpoints, and brings nothing twice.
func (w *world) checkSources(prev, next *plan.Sealed, c *commit) {
	if c.cmd.Verb != core.Apply || c.cmd.Folder == "" {
		return
	}
	count := func(s *plan.Sealed) (of map[string]int, all int) {
		of = map[string]int{}
		for _, f := range w.docs {
			if sum := plan.Sum(f.bytes); string(sum[:]) == string(s.Plan.GetSpec().GetHash()) {
				for _, svc := range f.set.Services {
					of[svc.Name] = len(svc.Endpoints)
					all += len(svc.Endpoints)
				}
			}
		}
		return of, all
	}
	before, all := count(prev)
	after, left := count(next)
	if 4*(all-left) > all {
		w.wrong("S19", "the folder of %s took %d of %d endpoints", c.cmd.Folder, all-left, all)
	}
	for name, n := range before {
		if n > 0 && after[name] == 0 {
			w.wrong("S19", "the folder of %s took the last address of %s", c.cmd.Folder, name)
		}
	}
	for _, o := range c.change.Doc.GetObjects() {
		for _, raw := range c.cmd.Objects {
			if raw.Kind != o.GetKind() || raw.Name != o.GetName() {
				continue
			}
			key := c.cmd.Folder + " " + raw.Kind + " " + raw.Name
			if changes := w.brings(prev, raw.Kind, raw.Name, string(raw.JSON)); changes && w.ledger.brought[key] == string(raw.JSON) {
				w.wrong("S19", "the folder of %s brought %s/%s again, which others have changed since", c.cmd.Folder, raw.Kind, raw.Name)
			}
			w.ledger.brought[key] = string(raw.JSON)
		}
	}
}

// brings tells whether a resource differs from what the plan before had.
func (w *world) brings(prev *plan.Sealed, kind, name, json string) bool {
	for _, f := range w.docs {
		if sum := plan.Sum(f.bytes); string(sum[:]) != string(prev.Plan.GetSpec().GetHash()) {
			continue
		}
		for _, o := range f.doc.GetObjects() {
			if o.GetKind() == kind && o.GetName() == name {
				return string(o.GetJson()) != json
			}
		}
	}
	return false
}

func order(id plan.Identity) string { return fmt.Sprintf("%d.%d", id.Epoch, id.Revision) }

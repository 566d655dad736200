package core

import (
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/health"
)

// TestRoguePlans: whatever a director signs, nobody falls over it; and once it has passed
// Check, neither what the leader then has to write nor a person's word, with which it is
// undone, is refused (S7).
func TestRoguePlans(t *testing.T) {
	base := newWorld(t)
	base.seen()
	base.do(base.paced("cluster/fra", 10, 50, 100))
	base.do(Command{Verb: Freeze, Reason: "x", For: time.Hour})
	base.do(base.drain("service/shop@sin"))
	seed, trusted := rand.Uint64(), 0
	for n := uint64(0); trusted < 150; n++ {
		r := rand.New(rand.NewPCG(seed, n))
		p := proto.CloneOf(base.s.Plan.Plan)
		mutate(r, p.ProtoReflect(), []float64{.01, .03, .1, .3}[r.IntN(4)])
		if r.IntN(4) > 0 {
			p.Fleet, p.Epoch, p.Revision, p.Parent = base.s.Plan.Identity.Fleet, 1, base.s.Plan.Identity.Revision+1, base.s.Plan.Identity.Hash[:]
			p.Roster, p.MinReader = base.s.Plan.Plan.GetRoster(), 0
		}
		sealed, err := plan.Sign(p, "d1", keyOf("d1")) // which opens it
		if err != nil || plan.Trusted(base.s.Plan, sealed) != nil {
			continue
		}
		trusted++
		w := &world{t: t, s: base.s, key: "d1"}
		w.s.Plan, w.s.States = sealed, map[health.Subject]health.State{}
		w.s.Trial = &Trial{Doc: w.s.Doc, Spec: w.s.Spec}
		w.seen()
		w.look()
		passes := Check(base.s.Plan, sealed) == nil
		for _, later := range []time.Duration{0, time.Hour, 24 * time.Hour} {
			w.s.Now = base.s.Now.Add(later)
			commands := append(Due(w.s), Command{Verb: Undrain, Scope: "cluster/fra"}, Command{Verb: Thaw}, w.drain("cluster/nyc"), w.paced("cluster/fra"))
			for _, c := range append(commands, Command{Verb: Abort}, Command{Verb: GoOn}, Command{Verb: Revert}) {
				got, err := w.try(c)
				if err != nil || got.Noop {
					continue
				}
				next, err := plan.Sign(got.Plan, "d1", keyOf("d1"))
				if err == nil {
					err = Check(sealed, next)
				}
				if err != nil && passes {
					t.Fatalf("seed %d, %d: %s of %s after %s: %v\n%v", seed, n, c.Verb, c.ID, later, err, p)
				}
			}
		}
	}
}

// look asks all that is asked of a plan.
func (w *world) look() {
	_ = Check(nil, w.s.Plan)
	_ = CheckAnswers(w.s.Spec, w.s.Plan.Plan, everywhere())
	steer.StandbysOf(w.s.Spec, w.s.Plan.Plan)
	Readmitted(w.s.Plan.Plan, w.s.Spec)
	for _, s := range steer.Decide(steer.Input{Spec: w.s.Spec, Plan: w.s.Plan.Plan, Places: everywhere()}).Services {
		s.Sites()
	}
	Pacing(w.s)
	Overdue(w.s)
	Interlocks(w.s)
	Rolling(w.s)
}

// mutate sets fields of a message to what they may not be, each with a probability.
func mutate(r *rand.Rand, m protoreflect.Message, p float64) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		message := f.Kind() == protoreflect.MessageKind
		switch {
		case f.IsList():
			l := m.Mutable(f).List()
			if r.Float64() < p && message {
				l.AppendMutable()
			} else if r.Float64() < p && !message {
				l.Append(odd(r, f))
			}
			for j := range l.Len() {
				if message {
					mutate(r, l.Get(j).Message(), p)
				} else if r.Float64() < p {
					l.Set(j, odd(r, f))
				}
			}
			if n := l.Len(); n > 0 && r.Float64() < p/3 {
				l.Truncate(n - 1)
			}
		case message && r.Float64() < p/4:
			m.Clear(f)
		case message && (m.Has(f) || r.Float64() < p):
			mutate(r, m.Mutable(f).Message(), p)
		case !message && r.Float64() < p:
			m.Set(f, odd(r, f))
		}
	}
}

// odd gives a value at the edge of what a field may be, or past it.
func odd(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	words := []string{
		"", "x", "cluster/fra", "service/shop@fra", "service/shop", "fleet", "domain/fra-dc1", "selector/jurisdiction=eu", "selector/=", "cluster/",
		SpecAuthor, "d1", "d2", "shop@nyc", "signal/192.0.2.10:80", "check/192.0.2.10:80/ab", "example.org", "c1", "c2",
	}
	numbers := []int64{0, 1, 2, 3, 10, 500, 990, 1000, 1001, -1, 1 << 31, 1 << 40, -1 << 62, 1 << 62, 1767358800, 1767358860, 1767362400, r.Int64N(1 << 34)}
	n := numbers[r.IntN(len(numbers))]
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n%2 == 0)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(words[r.IntN(len(words))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(make([]byte, []int{0, 1, 31, 32, 33}[r.IntN(5)]))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(9)))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	default:
		return protoreflect.ValueOfInt64(n)
	}
}

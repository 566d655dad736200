package health

import (
	"net/netip"
	"testing"
	"time"
)

// TestSoftEvidence: two answers in a row make a soft subject down, what could not be
// learnt says nothing (S17), and no first round waits for it.
func TestSoftEvidence(t *testing.T) {
	soft := Subject{Kind: KindSoft, Def: "00000000000000aa", Addr: netip.AddrPortFrom(site(1).Addr(), 0)}
	p := &probed{t: t, o: NewObserver(epoch), b: NewBook("d1", rosterOf(1), 0)}
	p.o.Set([]Watched{{Subject: signal(1)}, {Subject: soft, Interval: 10 * time.Second}})
	p.b.SetSubjects([]Subject{signal(1), soft}, epoch)
	p.ok(signal(1), 0)
	if !p.o.Round(at(0)) {
		t.Fatal("the first round waits for a soft subject")
	}
	p.want(soft, 0, Unknown)
	p.ok(soft, 2*time.Second)
	p.want(soft, 2*time.Second, Up)
	p.miss(soft, 12*time.Second)
	p.want(soft, 12*time.Second, Up)
	p.o.Report(Report{Subject: soft, Void: true, At: at(22 * time.Second)})
	p.want(soft, 22*time.Second, Up)
	p.miss(soft, 32*time.Second)
	p.want(soft, 32*time.Second, Down)
	for i := range 4 { // nobody answers any more
		p.o.Report(Report{Subject: soft, Void: true, At: at(time.Duration(42+10*i) * time.Second)})
	}
	p.want(soft, 98*time.Second, Unknown)
}

package health

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawCertificate(t *rapid.T, label string) Certificate {
	c := Certificate{Subject: signal(1), N: uint64(rapid.IntRange(0, 3).Draw(t, label+" n"))}
	for range rapid.IntRange(0, 3).Draw(t, label+" proof") {
		c.Proof = append(c.Proof, []byte{byte(rapid.IntRange(0, 2).Draw(t, label+" ballot"))})
	}
	c.Reason = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, label+" reason")
	return c
}

// TestMergeLaws: commutative, associative, idempotent, and without a clock.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawCertificate(t, "a"), drawCertificate(t, "b"), drawCertificate(t, "c")
		if d := diff(Merge(a, b), Merge(b, a)); d != "" {
			t.Fatalf("not commutative: %s", d)
		}
		if d := diff(Merge(a, Merge(b, c)), Merge(Merge(a, b), c)); d != "" {
			t.Fatalf("not associative: %s", d)
		}
		if d := diff(Merge(a, a), a); d != "" {
			t.Fatalf("not idempotent: %s", d)
		}
		if m := Merge(a, b); m.N != max(a.N, b.N) || (len(m.Proof) == 0 && a.N == b.N && len(a.Proof)+len(b.Proof) > 0) {
			t.Fatalf("Merge(%v, %v) = %v", a, b, m)
		}
	})
}

// TestBookMergeLaws: books that were given the same certificates in any order,
// any split and any repetition, at any time, hold the same bytes in force.
func TestBookMergeLaws(t *testing.T) {
	roster := rosterOf(4)
	names := []string{"d1", "d2", "d3", "d4"}
	rapid.Check(t, func(t *rapid.T) {
		var certs []Certificate
		for range rapid.IntRange(1, 12).Draw(t, "certificates") {
			s := signal(rapid.IntRange(1, 3).Draw(t, "subject"))
			voters := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 2, 4, rapid.ID[string]).Draw(t, "voters")
			slices.Sort(voters)
			c := certify(s, uint64(rapid.IntRange(1, 4).Draw(t, "n")), 1, uint64(rapid.IntRange(1, 3).Draw(t, "seq")), voters...)
			c.Reason = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "reason")
			certs = append(certs, c)
		}
		hold := func(order []Certificate, step int) *Book {
			b := NewBook("d1", roster, 0)
			b.SetSubjects(subjectsOf(3), epoch)
			now := 0
			for chunk := range slices.Chunk(order, step) {
				b.Merge(chunk, verifyFor(roster), at(time.Duration(now)*time.Minute))
				now += step
			}
			return b
		}
		one := hold(certs, len(certs))
		other := hold(append(rapid.Permutation(certs).Draw(t, "order"), certs...), rapid.IntRange(1, 3).Draw(t, "step"))
		for i := range 3 {
			x, y := one.topics[signal(i+1)], other.topics[signal(i+1)]
			if d := diff(x.cert, y.cert); d != "" || x.chain.N != y.chain.N {
				t.Fatalf("books differ on %s: %s", x.subject, d)
			}
		}
		if one.Digest() != other.Digest() || !slices.Equal(one.Summary(), other.Summary()) {
			t.Fatal("digests or summaries differ")
		}
	})
}

func TestS7ProofTable(t *testing.T) {
	roster := rosterOf(3)
	good := certify(signal(1), 1, 1, 5, "d2", "d3")
	with := func(change func(c *Certificate)) Certificate {
		c := Certificate{Subject: good.Subject, N: good.N, Proof: slices.Clone(good.Proof)}
		change(&c)
		return c
	}
	tests := []struct {
		name  string
		cert  Certificate
		known func(b *Book) // what the book has heard before
		want  bool
	}{
		{"two of three", good, nil, true},
		{"of all", certify(signal(1), 1, 1, 5, "d1", "d2", "d3"), nil, true},
		{"one is not enough", certify(signal(1), 1, 1, 5, "d2"), nil, false},
		{"one twice is not two", certify(signal(1), 1, 1, 5, "d2", "d2"), nil, false},
		{"a stranger does not count", certify(signal(1), 1, 1, 5, "d2", "d9"), nil, false},
		{"a stranger does not hurt", certify(signal(1), 1, 1, 5, "d2", "d3", "d9"), nil, true},
		{"rubbish does not hurt", with(func(c *Certificate) { c.Proof = append(c.Proof, []byte("rubbish")) }), nil, true},
		{"no proof", with(func(c *Certificate) { c.Proof = nil }), nil, false},
		{"votes on another transition", with(func(c *Certificate) { c.N = 3 }), nil, false},
		{"votes for the opposite", with(func(c *Certificate) {
			c.Proof = [][]byte{sign("d2", 1, 5, Vote{Subject: signal(1), N: 1, To: Up}).Raw, good.Proof[1]}
		}), nil, false},
		{"votes on another subject", with(func(c *Certificate) { c.Subject = signal(2) }), nil, false},
		{"a subject not in the spec", certify(signal(7), 1, 1, 5, "d2", "d3"), nil, false},
		{"transitions were missed in between", certify(signal(1), 5, 1, 5, "d2", "d3"), nil, true},
		{"transition 0 is none", with(func(c *Certificate) { c.N = 0 }), nil, false},
		{"too many ballots", with(func(c *Certificate) {
			for len(c.Proof) <= maxProof {
				c.Proof = append(c.Proof, good.Proof[0])
			}
		}), nil, false},
		{"a voter has withdrawn since", good, func(b *Book) {
			_, _ = b.Ballot(sign("d2", 1, 6, Vote{Subject: signal(1), N: 1, To: Unknown}), epoch)
		}, false},
		{"a voter says the opposite since", good, func(b *Book) {
			_, _ = b.Ballot(sign("d2", 1, 6, Vote{Subject: signal(1), N: 1, To: Up}), epoch)
		}, false},
		{"a voter said the opposite before", good, func(b *Book) {
			_, _ = b.Ballot(sign("d2", 1, 4, Vote{Subject: signal(1), N: 1, To: Up}), epoch)
		}, true},
		{"a voter has seen it in force since", good, func(b *Book) {
			_, _ = b.Ballot(sign("d2", 1, 6, Vote{Subject: signal(1), N: 2, To: Down}), epoch)
		}, true},
		{"a voter has restarted since", good, func(b *Book) {
			_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 2, Seq: 1}, epoch)
		}, false},
		{"a voter stands by other votes now, all of them known", good, func(b *Book) {
			_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 9}, epoch)
		}, false},
		{"a voter's other votes are not known", good, func(b *Book) {
			_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 9, Votes: 7}, epoch)
		}, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBook(3, 2)
			if tc.known != nil {
				tc.known(b)
			}
			applied, refused := b.Merge([]Certificate{tc.cert}, verifyFor(roster), epoch)
			if (len(applied) == 1) != tc.want || (refused == 0) != tc.want {
				t.Errorf("applied %d, refused %d, want it applied: %v", len(applied), refused, tc.want)
			}
			if got := b.States()[signal(1)] == Down; got != tc.want && tc.cert.Subject == signal(1) {
				t.Errorf("state = %s", b.States()[signal(1)])
			}
		})
	}
}

// TestS7OldBallotsAfterARestart: who has kept a ballot of each director, from a moment at
// which it suspected something, has a proof for one that has just restarted and does not know
// that all was taken back. It waits until it has heard by what they stand, and for those who
// say nothing not for ever.
func TestS7OldBallotsAfterARestart(t *testing.T) {
	roster := rosterOf(5)
	lean := Vote{Subject: signal(1), N: 1, To: Up, Suspicion: 500}
	kept := Certificate{Subject: signal(1), N: 1}
	for _, d := range []string{"d2", "d3", "d4", "d5"} {
		kept.Proof = append(kept.Proof, sign(d, 1, 5, lean).Raw)
	}
	restarted := func() *Book {
		b := newTestBook(5, 2)
		b.Begins(epoch)
		return b
	}
	b := restarted()
	hear := func(now time.Time, seq uint64, of ...string) {
		for _, d := range of {
			up := sign(d, 1, seq, Vote{Subject: signal(1), N: 1, To: Up})
			_, _ = b.Ballot(up, now)
			_ = b.Heartbeat(Heartbeat{Director: d, Boot: 1, Seq: seq + 1, Votes: voteHash(subjectHash(signal(1)), 1, Up, 0)}, now)
		}
	}
	for _, now := range []time.Duration{0, time.Second, settling - 1} {
		if applied, _ := b.Merge([]Certificate{kept}, verifyFor(roster), at(now)); len(applied) != 0 {
			t.Fatalf("%v after a restart, old ballots are a fall", now)
		}
		if now == time.Second {
			hear(at(now), 10, "d2", "d3", "d4")
		}
	}
	if applied, _ := b.Merge([]Certificate{kept}, verifyFor(roster), at(settling)); len(applied) != 0 {
		t.Error("three of four have said that they see nothing, and their old ballots are a fall")
	}
	b = restarted() // all who signed are gone: that is what they said last
	if applied, _ := b.Merge([]Certificate{kept}, verifyFor(roster), at(settling)); len(applied) != 1 {
		t.Error("what silent directors have signed is never believed")
	}
	b = restarted() // and a living fleet's proof is believed at once
	for _, d := range []string{"d2", "d3", "d4", "d5"} {
		_, _ = b.Ballot(sign(d, 1, 5, lean), at(100*ms))
		_ = b.Heartbeat(Heartbeat{Director: d, Boot: 1, Seq: 6, Votes: voteHash(subjectHash(signal(1)), 1, Up, 500)}, at(100*ms))
	}
	if applied, _ := b.Merge([]Certificate{kept}, verifyFor(roster), at(200*ms)); len(applied) != 1 {
		t.Error("a proof of those who stand by it waits")
	}
}

func TestMergeVerifiesOnlyWhatIsNew(t *testing.T) {
	b := newTestBook(3, 2)
	calls := 0
	verify := func(raw []byte) (Ballot, error) { calls++; return openBallot(raw) }
	ballot2, ballot3 := sign("d2", 1, 5, Vote{Subject: signal(1), N: 1, To: Down}, Vote{Subject: signal(2), N: 1, To: Down}), sign("d3", 1, 5, Vote{Subject: signal(1), N: 1, To: Down}, Vote{Subject: signal(2), N: 1, To: Down})
	proof := [][]byte{ballot2.Raw, ballot3.Raw}
	certs := []Certificate{{Subject: signal(1), N: 1, Proof: proof}, {Subject: signal(2), N: 1, Proof: proof}}
	if applied, _ := b.Merge(certs, verify, epoch); len(applied) != 2 || calls != 2 {
		t.Errorf("%d signatures checked for two ballots in two proofs", calls)
	}
	if applied, refused := b.Merge(certs, verify, epoch); len(applied) != 0 || refused != 0 || calls != 2 {
		t.Errorf("what is known cost %d more checks", calls-2)
	}
}

func TestS7AdoptionByReport(t *testing.T) {
	one := func(n uint64) []Standing { return []Standing{{signal(1), n}} }
	tests := []struct {
		name    string
		roster  []Director
		reports []struct {
			from string
			n    uint64
		}
		want uint64
	}{
		{"one director is no quorum", rosterOf(3), []struct {
			from string
			n    uint64
		}{{"d2", 5}, {"d2", 5}}, 0},
		{"two of three are", rosterOf(3), []struct {
			from string
			n    uint64
		}{{"d2", 5}, {"d3", 5}}, 5},
		{"what both have reached", rosterOf(3), []struct {
			from string
			n    uint64
		}{{"d2", 900}, {"d3", 5}}, 5},
		{"strangers do not count", rosterOf(3), []struct {
			from string
			n    uint64
		}{{"d2", 5}, {"d9", 5}}, 0},
		{"nor oneself", rosterOf(3), []struct {
			from string
			n    uint64
		}{{"d2", 5}, {"d1", 5}}, 0},
		{"one fault domain is not two", []Director{{"d1", "b"}, {"d2", "a"}, {"d3", "a"}}, []struct {
			from string
			n    uint64
		}{{"d2", 5}, {"d3", 5}}, 0},
		{"five need three", rosterOf(5), []struct {
			from string
			n    uint64
		}{{"d2", 4}, {"d3", 6}, {"d4", 5}}, 4},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := NewBook("d1", tc.roster, 0)
			b.SetSubjects(subjectsOf(1), epoch)
			for _, r := range tc.reports {
				_ = b.Heartbeat(Heartbeat{Director: r.from, Boot: 1, Seq: 1, Certificates: digestOf(one(r.n))}, epoch)
				b.MergeSummary(r.from, one(r.n), epoch)
			}
			if got := b.Chain(signal(1)).N; got != tc.want {
				t.Errorf("adopted %d, want %d", got, tc.want)
			}
			if tc.want > 0 && len(b.Lacking(nil)) != 0 {
				t.Error("what has no proof is handed on as proof")
			}
		})
	}
}

func TestAdoptedIsReplacedByProof(t *testing.T) {
	b := newTestBook(3, 1)
	for _, d := range []string{"d2", "d3"} {
		_ = b.Heartbeat(Heartbeat{Director: d, Boot: 1, Seq: 1, Certificates: digestOf([]Standing{{signal(1), 1}})}, epoch)
		b.MergeSummary(d, []Standing{{signal(1), 1}}, epoch)
	}
	since := b.Chain(signal(1)).Since()
	if applied, refused := b.Merge([]Certificate{certify(signal(1), 1, 1, 5, "d2", "d3")}, verifyFor(rosterOf(3)), at(time.Second)); len(applied) != 0 || refused != 0 {
		t.Errorf("applied %v, refused %d", applied, refused)
	}
	if tr, ok := b.InForce(signal(1)); !ok || len(tr.Proof) != 2 || !tr.Since.Equal(since) {
		t.Errorf("in force: %+v", tr)
	}
}

func TestLackingAndDiffering(t *testing.T) {
	roster := rosterOf(3)
	b := newTestBook(3, 3)
	b.Merge([]Certificate{certify(signal(1), 1, 1, 5, "d2", "d3"), certify(signal(2), 2, 1, 5, "d2", "d3")}, verifyFor(roster), epoch)
	got := b.Lacking([]Standing{{signal(2), 2}, {signal(3), 9}})
	if len(got) != 1 || got[0].Subject != signal(1) {
		t.Errorf("Lacking = %v", got)
	}
	if got := b.Differing(epoch); len(got) != 0 {
		t.Errorf("Differing = %v before any heartbeat", got)
	}
	seq, told := uint64(0), []time.Duration{}
	for d := time.Duration(0); d < 20*time.Second; d += 250 * ms {
		seq++
		_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: seq, Certificates: 42}, at(d))
		_ = b.Heartbeat(Heartbeat{Director: "d3", Boot: 1, Seq: seq, Certificates: b.Digest()}, at(d))
		for _, name := range b.Differing(at(d)) {
			if name != "d2" {
				t.Errorf("Differing names %s, which agrees", name)
			}
			told = append(told, d)
		}
	}
	if want := []time.Duration{250 * ms, 750 * ms, 1750 * ms, 3750 * ms, 7750 * ms, 15750 * ms}; !slices.Equal(told, want) {
		t.Errorf("summaries at %v, want %v", told, want)
	}
	seq++
	_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: seq, Certificates: b.Digest()}, at(20*time.Second))
	if got := b.Differing(at(21 * time.Second)); len(got) != 0 {
		t.Errorf("Differing = %v once it agrees", got)
	}
}

func TestSaveRestore(t *testing.T) {
	roster := rosterOf(3)
	b := newTestBook(3, 3)
	for i := range uint64(5) {
		b.Merge([]Certificate{certify(signal(1), i+1, 1, i+1, "d2", "d3")}, verifyFor(roster), at(time.Duration(i)*time.Minute))
	}
	b.MergeSummary("d2", []Standing{{signal(2), 2}}, at(5*time.Minute))
	b.MergeSummary("d3", []Standing{{signal(2), 2}}, at(5*time.Minute))
	_, _ = b.Ballot(sign("d2", 7, 70, Vote{Subject: signal(1), N: 6, To: Up}), at(5*time.Minute))
	data := b.Save(at(6 * time.Minute))
	if again := b.Save(at(6 * time.Minute)); !slices.Equal(data, again) {
		t.Error("equal books give different bytes")
	}

	back := epoch.Add(1000 * time.Hour)
	restored := NewBook("d1", roster, 0)
	if err := restored.Restore(data, back); err != nil {
		t.Fatal(err)
	}
	restored.SetSubjects(subjectsOf(3), back)
	if restored.Digest() != b.Digest() || !maps.Equal(restored.States(), b.States()) {
		t.Errorf("restored %v, want %v", restored.States(), b.States())
	}
	for _, s := range subjectsOf(2) {
		x, y := b.Chain(s), restored.Chain(s)
		for i := range x.Past {
			if was, is := at(6*time.Minute).Sub(x.Past[i].Since), back.Sub(y.Past[i].Since); was != is {
				t.Errorf("%s transition %d: age %s became %s", s, x.Past[i].N, was, is)
			}
		}
		p, _ := b.InForce(s)
		q, _ := restored.InForce(s)
		if d := diff(p.Certificate, q.Certificate); d != "" {
			t.Errorf("proof of %s: %s", s, d)
		}
	}
	// S10 survives the restart, and so does the order of messages.
	if until := restored.Chain(signal(1)).Damped(back); !until.Equal(back.Add(6 * time.Minute)) {
		t.Errorf("damped until %s after the restart, want 6 min more", until)
	}
	for _, old := range []Ballot{sign("d2", 7, 70, Vote{Subject: signal(1), N: 6, To: Up}), sign("d2", 6, 99, Vote{Subject: signal(1), N: 6, To: Up})} {
		if _, err := restored.Ballot(old, back); err == nil {
			t.Errorf("a message of boot %d from before the restart is taken", old.Boot)
		}
	}
	for cut := range len(data) {
		_ = NewBook("d1", roster, 0).Restore(data[:cut], back)
	}
}

func TestRestoreIntoAKnownSpec(t *testing.T) {
	b := newTestBook(1, 1)
	b.advance(b.topics[signal(1)], Certificate{Subject: signal(1), N: 1}, epoch)
	restored := newTestBook(1, 1)
	if err := restored.Restore(b.Save(epoch), epoch); err != nil || restored.Digest() != b.Digest() {
		t.Errorf("digest %x, want %x (%v)", restored.Digest(), b.Digest(), err)
	}
	if err := restored.Restore([]byte("not a book"), epoch); err == nil || fmt.Sprint(err) == "" {
		t.Error("rubbish was restored")
	}
}

// TestS7StaleReportHelpsNoLiar: what a director once reported and has taken back
// since is not half of a quorum for whoever claims the same later.
func TestS7StaleReportHelpsNoLiar(t *testing.T) {
	b := newTestBook(3, 2)
	claim := []Standing{{signal(1), 1}}
	_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 1, Certificates: digestOf(claim)}, at(0))
	b.MergeSummary("d2", claim, at(0))
	lie := func(now time.Time, seq uint64) {
		t.Helper()
		_ = b.Heartbeat(Heartbeat{Director: "d3", Boot: 1, Seq: seq, Certificates: digestOf(claim)}, now)
		if got := b.MergeSummary("d3", claim, now); len(got) != 0 {
			t.Errorf("adopted %v", got)
		}
		if got := b.Judge(now); len(got) != 0 {
			t.Errorf("judged %v", got)
		}
	}
	_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 1, Seq: 2}, at(5*time.Second)) // it has taken it back
	lie(at(5*time.Second), 1)
	lie(at(10*time.Second), 2) // and now it is silent
	_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 2, Seq: 1, Certificates: digestOf(claim)}, at(11*time.Second))
	lie(at(11*time.Second), 3) // another boot of it has reported nothing

	// The order of a summary and its heartbeat does not matter.
	now := at(20 * time.Second)
	if got := b.MergeSummary("d2", claim, now); len(got) != 0 {
		t.Errorf("adopted by two who are silent: %v", got)
	}
	_ = b.Heartbeat(Heartbeat{Director: "d3", Boot: 1, Seq: 4, Certificates: digestOf(claim)}, now)
	_ = b.Heartbeat(Heartbeat{Director: "d2", Boot: 2, Seq: 2, Certificates: digestOf(claim)}, now)
	if got := b.Judge(now); len(got) != 1 || b.Chain(signal(1)).N != 1 {
		t.Errorf("a quorum that reports it was not followed: %v", got)
	}
}

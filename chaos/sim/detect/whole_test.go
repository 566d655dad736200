package detect

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/divertdns/divert/health"
)

// TestWholeSaysTheSame: directors with health's observer, publisher and book find a
// death as soon as the simpler model says, and move nothing in F4, F5 and F14.
func TestWholeSaysTheSame(t *testing.T) {
	for _, p := range Dying() {
		simple, whole := Deaths(p.Model, 15, 3), WholeDeaths(p.Model, 15, 3)
		a, b := Quantile(simple.Last, 0.5), Quantile(whole.Last, 0.5)
		t.Logf("%s: %v in the model, %v with whole directors", p.Name, a, b)
		if d := b - a; d < -100*time.Millisecond || d > 100*time.Millisecond {
			t.Errorf("%s: %v in the model, %v with whole directors", p.Name, a, b)
		}
	}
	for _, p := range Patterns() {
		if p.Model.Weather.Liar {
			continue // a lie is told by votes, which a whole director casts itself
		}
		if r := Whole(p.Model, 0.01, 4); r.Moves > 0 {
			t.Errorf("%s: %+v with whole directors", p.Name, r)
		}
	}
}

// TestRuleIsTheBooks: the sum of the model is a fall exactly where health's book makes
// a certificate of the same votes.
func TestRuleIsTheBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		observers, sites := rapid.IntRange(1, 5).Draw(t, "observers"), rapid.IntRange(1, 5).Draw(t, "sites")
		sites = min(sites, observers)
		roster, rule := rosterOf(observers, sites), RuleOf(observers, sites)
		m := Model{Observers: observers, Rhythm: FastSignal()}
		book := health.NewBook("d0", roster, 0)
		book.SetSubjects([]health.Subject{m.subject()}, epoch)
		words, in := make([]uint16, observers), make([]int, observers)
		w := newWorld(Model{Observers: observers, Sites: sites, Rhythm: FastSignal()}, 1)
		w.whole()
		for i := range observers {
			words[i] = uint16(rapid.SampledFrom([]int{0, 1, 72, 300, 500, 600, 666, 667, 700, 999, 1000, 1999, 2000, 2016, 9999}).Draw(t, "word"))
			in[i] = i % sites
			vote := rule.vote(words[i])
			vote.Subject = m.subject()
			b := w.open(letter{from: i, seq: 1, message: &message{payload: health.EncodeVotes([]health.Vote{vote}, nil)}})
			if _, err := book.Ballot(b, epoch); err != nil {
				t.Fatal(err)
			}
		}
		_, want := rule.sum(words, in)
		if got := len(book.Judge(epoch)) > 0; got != want {
			t.Fatalf("words %v of %d sites: the book %v, the model %v", words, sites, got, want)
		}
	})
}

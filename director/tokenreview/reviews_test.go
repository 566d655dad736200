package tokenreview

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/health/kube"
)

// mint makes what looks like a token: readClaims believes no signature, so that none is
// needed.
func mint(issuer, audience string, expires time.Time, mark string) string {
	payload := fmt.Sprintf(`{"iss":%q,"aud":[%q],"exp":%d,"jti":%q}`, issuer, audience, expires.Unix(), mark)
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

// saying is an API server made of values. Its lock guards all below it.
type saying struct {
	mu    sync.Mutex
	said  kube.Reviewed
	err   error
	asked int
	wait  chan struct{} // not nil: an answer waits for it to be closed
}

func (s *saying) Review(context.Context, string, []string) (kube.Reviewed, error) {
	s.mu.Lock()
	s.asked++
	said, err, wait := s.said, s.err, s.wait
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return said, err
}

func (s *saying) set(said kube.Reviewed, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.err = said, err
}

func (s *saying) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func drills() kube.Reviewed {
	return kube.Reviewed{
		Authenticated: true, Name: "system:serviceaccount:ops:drills", Audiences: []string{"divert"},
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ops", "draws\x1b[2J", strings.Repeat("x", 300), "a (b)"},
	}
}

// reviews are of cluster fra, and of nyc, whose tokens are for another audience.
func reviews(t *testing.T) (r *Reviews, fra, nyc *saying, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	r, err := New(Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	fra, nyc = &saying{said: drills()}, &saying{said: drills()}
	nyc.said.Audiences = []string{"divert-nyc"}
	r.add(Cluster{Name: "fra", Audiences: []string{"divert"}}, fra)
	r.add(Cluster{Name: "nyc", Audiences: []string{"divert-nyc"}, Issuer: "https://nyc"}, nyc)
	return r, fra, nyc, log
}

// TestWho: whoever a cluster knows is an account of that cluster, whatever it says, and its
// token is shown to no other; what is no account's, or not for us, is nobody's.
func TestWho(t *testing.T) {
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	account := func(change func(*kube.Reviewed)) kube.Reviewed {
		said := drills()
		change(&said)
		return said
	}
	for _, tc := range []struct {
		name string
		said kube.Reviewed
		who  string // "" = nobody
		why  string
	}{
		{"an account", drills(), "kube:fra/system:serviceaccount:ops:drills", ""},
		{"unknown", kube.Reviewed{}, "", "does not know this token"},
		{"a server that looks at no audience", account(func(s *kube.Reviewed) { s.Audiences = nil }), "", "does not say that this token is for divert"},
		{"for somebody else", account(func(s *kube.Reviewed) { s.Audiences = []string{"vault"} }), "", "does not say"},
		{"a user of the cluster", account(func(s *kube.Reviewed) { s.Name = "admin" }), "", "no ServiceAccount's"},
		{"an account of another cluster", account(func(s *kube.Reviewed) { s.Name = "nyc/system:serviceaccount:ops:drills" }), "", "no ServiceAccount's"},
		{"as if of another", account(func(s *kube.Reviewed) { s.Name = "system:serviceaccount:ops:x/y" }), "", "no ServiceAccount's"},
		{"without a name", account(func(s *kube.Reviewed) { s.Name = "system:serviceaccount:ops" }), "", "no ServiceAccount's"},
		{"with a name too many", account(func(s *kube.Reviewed) { s.Name = "system:serviceaccount:ops:a:b" }), "", "no ServiceAccount's"},
		{"with a label", account(func(s *kube.Reviewed) { s.Name = "system:serviceaccount:ops:a (b)" }), "", "what somebody calls himself"},
		{"that draws", account(func(s *kube.Reviewed) { s.Name = "system:serviceaccount:ops:a\x1b[2J" }), "", "cannot be printed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, fra, nyc, _ := reviews(t)
			fra.set(tc.said, nil)
			id, ours, err := r.Review(t.Context(), "192.0.2.1", mint("https://fra", "divert", until, "1"))
			if !ours || id.Who != tc.who || (err == nil) != (tc.why == "") || err != nil && !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %+v, %v, %v", id, ours, err)
			}
			if errors.Is(err, access.ErrUnavailable) || errors.Is(err, access.ErrHurried) {
				t.Errorf("an answer is none: %v", err)
			}
			if tc.who != "" && (id.Method != access.Kube || !id.Expires.Equal(until) || len(id.Grants) != 0 ||
				fmt.Sprint(id.Groups) != "[group:kube:fra/system:serviceaccounts group:kube:fra/system:serviceaccounts:ops]") {
				t.Errorf("got %+v", id)
			}
			if nyc.count() != 0 {
				t.Error("another cluster was shown the token")
			}
		})
	}
}

// TestWhoseToken: what is for no cluster's audience, or of none's issuer, is not asked about;
// nor is one that has ended, or that does not end.
func TestWhoseToken(t *testing.T) {
	r, fra, nyc, _ := reviews(t)
	later := time.Now().Add(time.Hour)
	raw := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
	}
	for name, tc := range map[string]struct {
		token    string
		ours     bool
		fra, nyc int // questions
	}{
		"of nyc":             {mint("https://nyc", "divert-nyc", later, "1"), true, 0, 1},
		"of fra":             {mint("https://anywhere", "divert", later, "1"), true, 1, 0},
		"an issuer unknown":  {mint("https://sin", "divert-nyc", later, "1"), false, 0, 0},
		"for somebody else":  {mint("https://nyc", "vault", later, "1"), false, 0, 0},
		"ended":              {mint("https://fra", "divert", time.Now().Add(-time.Second), "1"), true, 0, 0},
		"without end":        {raw(`{"iss":"a","aud":"divert"}`), false, 0, 0},
		"that ends too late": {raw(`{"iss":"a","aud":"divert","exp":1e300}`), false, 0, 0},
		"for everybody":      {raw(`{"iss":"a","exp":9999999999}`), false, 0, 0},
		"one audience":       {raw(`{"iss":"a","aud":"divert","exp":9999999999}`), true, 1, 0},
		"no JSON":            {raw(`x`), false, 0, 0},
		"no base64":          {"a.!.c", false, 0, 0},
		"a token of Divert":  {"divert_abc", false, 0, 0},
		"too long":           {mint("https://fra", "divert", later, strings.Repeat("x", maxToken)), false, 0, 0},
	} {
		f, n := fra.count(), nyc.count()
		_, ours, err := r.Review(t.Context(), "192.0.2.1", tc.token)
		if ours != tc.ours || fra.count()-f != tc.fra || nyc.count()-n != tc.nyc {
			t.Errorf("%s: ours %v, fra asked %d, nyc %d times, %v", name, ours, fra.count()-f, nyc.count()-n, err)
		}
	}
}

// TestKept: an answer counts for so long, and never beyond the token's end.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fra, _, _ := reviews(t)
		ask := func(token string) error {
			_, _, err := r.Review(t.Context(), "192.0.2.1", token)
			return err
		}
		good := mint("https://fra", "divert", time.Now().Add(time.Hour), "1")
		for range 5 {
			if err := ask(good); err != nil {
				t.Fatal(err)
			}
		}
		fra.set(kube.Reviewed{}, nil) // its account is deleted
		time.Sleep(keepGood - time.Second)
		if err := ask(good); err != nil || fra.count() != 1 {
			t.Errorf("within %s: %v, asked %d times", keepGood, err, fra.count())
		}
		time.Sleep(time.Second)
		for range 5 {
			if err := ask(good); err == nil {
				t.Error("known when its cluster knows it no more")
			}
		}
		if fra.count() != 2 {
			t.Errorf("a refusal is not kept: asked %d times", fra.count())
		}
		time.Sleep(keepBad)
		fra.set(drills(), nil)
		if err := ask(good); err != nil || fra.count() != 3 {
			t.Errorf("a refusal is kept too long: %v, asked %d times", err, fra.count())
		}
		short := mint("https://fra", "divert", time.Now().Add(5*time.Second), "2")
		if err := ask(short); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		if err := ask(short); err == nil || !strings.Contains(err.Error(), "has ended") || fra.count() != 4 {
			t.Errorf("beyond its end: %v, asked %d times", err, fra.count())
		}
	})
}

// TestBounded: however many are brought, so many are kept, and bad ones take no place of
// good ones.
func TestBounded(t *testing.T) {
	r, fra, _, _ := reviews(t)
	r.fresh = nil
	later := time.Now().Add(time.Hour)
	bring := func(mark string) {
		_, _, _ = r.Review(t.Context(), "192.0.2.1", mint("https://fra", "divert", later, mark))
	}
	bring("good")
	fra.set(kube.Reviewed{}, nil)
	for i := range most + 50 {
		bring(fmt.Sprint(i))
	}
	k := r.clusters[0]
	if len(k.bad) != most || len(k.good) != 1 {
		t.Errorf("%d bad and %d good are kept", len(k.bad), len(k.good))
	}
	fra.set(drills(), nil)
	for i := range most + 50 {
		bring(fmt.Sprint("g", i))
	}
	if len(k.good) != most {
		t.Errorf("%d good are kept", len(k.good))
	}
}

// TestOneQuestion: whoever brings a token while it is asked about waits for that answer.
func TestOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fra, _, _ := reviews(t)
		fra.wait = make(chan struct{})
		token := mint("https://fra", "divert", time.Now().Add(time.Hour), "1")
		gone, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx := t.Context()
				if i == 0 {
					ctx = gone
				}
				if id, _, err := r.Review(ctx, "192.0.2.1", token); err != nil || id.Who == "" {
					t.Errorf("got %+v, %v", id, err)
				}
			})
		}
		synctest.Wait()
		leave() // whoever asked first may not take the answer from the others
		close(fra.wait)
		wg.Wait()
		if fra.count() != 1 {
			t.Errorf("asked %d times", fra.count())
		}
	})
}

// TestAway: while an API server does not answer nobody but who was known just now is let in;
// it says so, is asked seldom, and is believed again when it answers.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fra, nyc, log := reviews(t)
		later := time.Now().Add(time.Hour)
		ask := func(issuer, audience, mark string) error {
			_, _, err := r.Review(t.Context(), "192.0.2.1", mint(issuer, audience, later, mark))
			return err
		}
		if err := ask("https://fra", "divert", "old"); err != nil {
			t.Fatal(err)
		}
		fra.set(kube.Reviewed{}, errors.New("timeout"))
		for range 5 {
			if err := ask("https://fra", "divert", "new"); !errors.Is(err, access.ErrUnavailable) || !strings.Contains(err.Error(), "the API server of cluster fra did not answer: timeout") {
				t.Errorf("got %v", err)
			}
		}
		if fra.count() != 2 {
			t.Errorf("asked %d times", fra.count())
		}
		if err := ask("https://fra", "divert", "old"); err != nil {
			t.Errorf("who was known a moment ago: %v", err)
		}
		if err := ask("https://nyc", "divert-nyc", "1"); err != nil || nyc.count() != 1 {
			t.Errorf("another cluster: %v", err)
		}
		time.Sleep(keepGood)
		if err := ask("https://fra", "divert", "old"); !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("who was known %s ago: %v", keepGood, err)
		}
		fra.set(drills(), nil)
		time.Sleep(keepAway)
		if err := ask("https://fra", "divert", "new"); err != nil {
			t.Errorf("it is back: %v", err)
		}
		if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "reviews no tokens") || !strings.Contains(text, "reviews tokens again") || strings.Contains(text, "e30.") {
			t.Errorf("logged:\n%s", text)
		}
		for result, want := range map[string]float64{known: 2, refused: 0, failed: 2} {
			if got := testutil.ToFloat64(r.counts.WithLabelValues("fra", result)); got != want {
				t.Errorf("%s: counted %v, want %v", result, got, want)
			}
		}
	})
}

// TestAwayForStrangers: a token that was never good, and that the API server fails at, holds up
// none that was good; one of those that it fails at holds up all.
func TestAwayForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fra, _, _ := reviews(t)
		later := time.Now().Add(time.Hour)
		ask := func(mark string) error {
			_, _, err := r.Review(t.Context(), "192.0.2.1", mint("https://fra", "divert", later, mark))
			return err
		}
		for _, mark := range []string{"ann", "ben"} {
			if err := ask(mark); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(keepGood)
		fra.set(kube.Reviewed{}, errors.New("500"))
		if err := ask("odd"); !errors.Is(err, access.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
		fra.set(drills(), nil)
		if err := ask("odd too"); !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("another that was never good: got %v", err)
		}
		if err := ask("ann"); err != nil {
			t.Errorf("one that was good: %v", err)
		}
		time.Sleep(keepGood)
		fra.set(kube.Reviewed{}, errors.New("500"))
		before := fra.count()
		for _, mark := range []string{"ann", "ben", "odd"} {
			if err := ask(mark); !errors.Is(err, access.ErrUnavailable) {
				t.Errorf("%s: got %v", mark, err)
			}
		}
		if fra.count() != before+1 {
			t.Errorf("asked %d times", fra.count()-before)
		}
	})
}

// TestHurried: whoever brings tokens that nobody knows has so many asked about, from one
// network; others, and a token that was good, pass. All at once take so many places.
func TestHurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, fra, _, _ := reviews(t)
		later := time.Now().Add(time.Hour)
		bring := func(from, mark string) error {
			_, _, err := r.Review(t.Context(), from, mint("https://fra", "divert", later, mark))
			return err
		}
		if err := bring("192.0.2.1", "good"); err != nil {
			t.Fatal(err)
		}
		fra.set(kube.Reviewed{}, nil)
		limited := 0
		for i := range 100 {
			if errors.Is(bring("192.0.2.1", fmt.Sprint(i)), access.ErrHurried) {
				limited++
			}
		}
		if limited != 81 || fra.count() != burst {
			t.Errorf("%d limited, asked %d times", limited, fra.count())
		}
		if err := bring("2001:db8::/64", "other"); errors.Is(err, access.ErrHurried) {
			t.Errorf("another network: %v", err)
		}
		time.Sleep(keepGood)
		for i := range 100 {
			_ = bring("192.0.2.1", fmt.Sprint("x", i))
		}
		fra.set(drills(), nil)
		if err := bring("192.0.2.1", "good"); err != nil {
			t.Errorf("a token that was good, from there: %v", err)
		}
		// An API server that answers slowly.
		r.fresh = nil
		fra.wait = make(chan struct{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		full, before := 0, fra.count()
		for i := range 100 {
			wg.Go(func() {
				if errors.Is(bring("192.0.2.1", fmt.Sprint("y", i)), access.ErrUnavailable) {
					mu.Lock()
					full++
					mu.Unlock()
				}
			})
		}
		time.Sleep(queueing)
		synctest.Wait()
		if n := fra.count() - before; n != underWay || full != 100-underWay {
			t.Errorf("%d questions under way, %d were told that there are too many", n, full)
		}
		time.Sleep(keepGood)
		done := make(chan error, 1)
		go func() { done <- bring("192.0.2.1", "good") }()
		synctest.Wait()
		if n := fra.count() - before; n != underWay+1 {
			t.Error("a token that was good has no place of its own")
		}
		close(fra.wait)
		wg.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNew: clusters come with kubeconfigs; those that cannot be read are found out when they
// are needed.
func TestNew(t *testing.T) {
	if _, err := New(Options{Clusters: []Cluster{{Name: "fra"}}}); err == nil || !strings.Contains(err.Error(), "cluster fra") {
		t.Errorf("got %v", err)
	}
	r, err := New(Options{Clusters: []Cluster{{Name: "fra", Kubeconfig: "/nowhere/kubeconfig", Audiences: []string{"divert"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Review(t.Context(), "192.0.2.1", mint("a", "divert", time.Now().Add(time.Hour), "1")); !errors.Is(err, access.ErrUnavailable) || !strings.Contains(err.Error(), "kubeconfig") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
}

// FuzzClaims: whatever a token says of itself, it names whom to ask, or nobody.
func FuzzClaims(f *testing.F) {
	f.Add(mint("https://fra", "divert", time.Unix(9999999999, 0), "1"))
	f.Add("a.eyJhdWQiOiJ4In0.c")
	f.Fuzz(func(t *testing.T, token string) {
		c, ok := readClaims(token)
		if ok && (c.issuer == "" || len(c.audiences) == 0 || len(c.audiences) > maxAudiences || c.expires.IsZero() || len(token) > maxToken) {
			t.Errorf("got %+v", c)
		}
	})
}

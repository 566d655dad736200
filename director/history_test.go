package director

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/geo"
	"github.com/divertdns/divert/health"
)

// keeping gives a loop that does not run yet a history in a folder, and the director
// that is asked about it. Full says that the disk has no room.
func keeping(n *node, dir string, full *atomic.Bool) *Director {
	h := &history{
		options: store.JournalOptions{Dir: dir, For: 24 * time.Hour, Size: 8 << 20, Free: func(string) (uint64, error) {
			if full.Load() {
				return 0, nil
			}
			return 1 << 40, nil
		}},
		name: n.name, version: "v1", loop: n.loop, doubt: func(context.Context) string { return "" }, log: slog.New(slog.DiscardHandler), now: time.Now, wanted: newWake(), turn: make(chan struct{}, 1),
	}
	h.shown = newHistoryMetrics(prometheus.NewRegistry(), h)
	n.loop.history = h
	return &Director{history: h, loop: n.loop, horizon: n.horizon, opts: Options{Version: "v1"}, now: time.Now}
}

// kept is a mesh whose first director keeps a history.
type kept struct {
	*mesh
	d    *Director
	dir  string
	full atomic.Bool
}

// keptMesh runs one on virtual time until the function ends, its history by itself or
// by the function.
func keptMesh(t *testing.T, runs bool, f func(t *testing.T, m *kept)) {
	t.Helper()
	table, dir := geo.Default(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &kept{mesh: meshOf(t, table), dir: dir}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m.ctx = ctx
		m.d = keeping(m.nodes[0], dir, &m.full)
		m.begin()
		done := make(chan error, 1)
		go func() {
			if runs {
				done <- m.d.history.run(ctx)
			} else {
				done <- nil
			}
		}()
		time.Sleep(3*time.Second + 7*time.Millisecond) // between the ticks of loops and probes
		f(t, m)
		cancel()
		<-done
	})
}

// live lets time pass, in which the history is written.
func (m *kept) live(d time.Duration) {
	for ; d > 0; d -= historyTick {
		m.d.history.write(m.ctx, true)
		time.Sleep(historyTick)
	}
	m.d.history.write(m.ctx, true)
}

// all sets an address down, or up, for every director.
func (m *mesh) all(addr string, down bool) {
	for _, n := range m.nodes {
		n.set(addr, down)
	}
}

// offer gives a plan to all.
func (m *mesh) offer(f *inForce) {
	for _, n := range m.nodes {
		n.horizon.offer(f)
		n.wakeup.up()
	}
}

func drainOf(scope string, revision uint64) func(*plan.Plan) {
	return func(p *plan.Plan) {
		p.Overrides = append(p.Overrides, &plan.Override{
			Id: "x" + scope, Kind: plan.Override_DRAIN, Scope: scope, Author: "ada", Reason: "INC-1", Revision: revision,
			Start: timestamppb.New(time.Now()), End: timestamppb.New(time.Now().Add(time.Hour)),
		})
	}
}

// then asks what was told at an instant.
func then(t *testing.T, d *Director, at time.Time) (api.Explanation, string) {
	t.Helper()
	e, err := d.ExplainAt(t.Context(), "pay.example.org", "192.0.2.0/24", at)
	if err != nil {
		t.Errorf("at %s: %v", instant(at), err)
		return e, ""
	}
	if len(e.Answers) != 1 || len(e.Answers[0].Clusters) == 0 {
		t.Errorf("at %s: got %+v", instant(at), e)
		return e, ""
	}
	return e, e.Answers[0].Clusters[0]
}

// TestExplainAt: what is explained of the past is, second by second, what the table
// answered then: over a fall, a drain, a return with its ramp, a staleness and a
// restart (issue 5, History).
func TestExplainAt(t *testing.T) {
	keptMesh(t, true, func(t *testing.T, m *kept) {
		d := m.d
		type sample struct {
			at   time.Time
			site string
		}
		var samples []sample
		watch := func(seconds int) {
			for range seconds {
				time.Sleep(time.Second)
				samples = append(samples, sample{time.Now(), m.nodes[0].site()})
				time.Sleep(time.Millisecond) // what is decided at the very instant may be either
			}
		}
		watch(3)
		m.all("192.0.2.1", true)
		watch(5)
		fallen := time.Now()
		watch(1)
		m.all("192.0.2.1", false)
		watch(60) // the hold, then the ramp
		m.offer(m.plan(drainOf("cluster/fra", 2), 2, m.nodes[0]))
		watch(5)
		drained := time.Now()
		watch(1)
		m.offer(m.plan(nil, 3, m.nodes[0]))
		watch(3)
		m.nodes[0].cut.Store(true)
		watch(5)
		stale := time.Now()
		watch(1)

		check := func(when string) {
			t.Helper()
			for _, s := range samples {
				if _, got := then(t, d, s.at); got != s.site {
					t.Errorf("%s: at %s %s was answered, and %q is explained", when, s.at.Format(time.TimeOnly), s.site, got)
				}
			}
		}
		check("while it runs")
		sites := map[string]int{}
		for _, s := range samples {
			sites[s.site]++
		}
		if sites["fra"] == 0 || sites["nyc"] == 0 {
			t.Fatalf("the samples say nothing: %v", sites)
		}

		e, _ := then(t, d, fallen)
		if e.At == nil || e.ToldSince == nil || e.ToldSince.After(fallen) || e.Plan != "1.1" {
			t.Errorf("fallen: got plan %s, at %v, since %v", e.Plan, e.At, e.ToldSince)
		}
		i := slices.IndexFunc(e.Evidence, func(v api.Evidence) bool { return v.Cluster == "fra" })
		if i < 0 || e.Evidence[i].Health != "failed" {
			t.Fatalf("evidence: %+v", e.Evidence)
		}
		down := slices.DeleteFunc(e.Evidence[i].Subjects, func(s api.SubjectEvidence) bool { return s.State != "down" })
		// One that was adopted by others' word has no proof.
		if !slices.ContainsFunc(down, func(s api.SubjectEvidence) bool {
			return s.Transition == 1 && len(s.Voters) >= 2 && s.Reason != "" && s.Since != nil && s.Since.Before(fallen)
		}) {
			t.Errorf("no certificate is told: %+v", down)
		}
		if e, site := then(t, d, drained); site != "nyc" || e.Plan != "1.2" || !strings.Contains(strings.Join(e.Answers[0].Steps, "\n"), "INC-1") {
			t.Errorf("drained: %s by plan %s: %v", site, e.Plan, e.Answers[0].Steps)
		}
		if e, _ := then(t, d, stale); !strings.Contains(strings.Join(e.Notes, "\n"), "EDE 3") {
			t.Errorf("stale: %v", e.Notes)
		}

		// Another process on the same folder.
		next := keeping(m.node("d1", m.nodes[0].key), m.dir, &m.full) // without a plan yet: the spec is read from the disk, too
		j, err := store.OpenJournal(next.history.options)
		if err != nil {
			t.Fatal(err)
		}
		next.history.journal.Store(j)
		d = next
		check("after a restart")
	})
}

// refusalOf is the reason of a refusal.
func refusalOf(t *testing.T, err error) string {
	t.Helper()
	var r *core.Refusal
	if !errors.As(err, &r) {
		t.Errorf("got %v, want a refusal", err)
		return ""
	}
	return r.Reason
}

// TestExplainAtNothingKept: each time of which nothing is known is told to be so, and
// why.
func TestExplainAtNothingKept(t *testing.T) {
	keptMesh(t, false, func(t *testing.T, m *kept) {
		d := m.d
		ask := func(at time.Time) string {
			t.Helper()
			_, err := d.ExplainAt(t.Context(), "pay.example.org", "", at)
			return refusalOf(t, err)
		}
		if got := ask(time.Now()); !strings.Contains(got, "not read yet") {
			t.Errorf("at the start: %s", got)
		}
		m.live(time.Minute)
		first := time.Now().Add(-20 * time.Second)
		then(t, d, first)
		if got := ask(time.Now().Add(-time.Hour)); !strings.Contains(got, "before what this director keeps") {
			t.Errorf("too early: %s", got)
		}
		if got := ask(time.Now().Add(time.Minute)); !strings.Contains(got, "not past yet") {
			t.Errorf("too late: %s", got)
		}
		if _, err := d.ExplainAt(t.Context(), "other.example.org", "", time.Now()); !strings.Contains(refusalOf(t, err), "was not the host of any service") {
			t.Errorf("another host: %v", err)
		}
		if _, err := (&Director{now: time.Now}).ExplainAt(t.Context(), "pay.example.org", "", time.Now()); !strings.Contains(refusalOf(t, err), "keeps no history") {
			t.Errorf("none is kept: %v", err)
		}

		// It ends, and another begins three minutes later.
		d.history.end()
		time.Sleep(3 * time.Minute)
		m.live(time.Minute)
		if got := ask(time.Now().Add(-2 * time.Minute)); !strings.Contains(got, "ended at") {
			t.Errorf("while it was off: %s", got)
		}
		// Killed, without a word.
		alive := time.Now()
		_ = d.history.journal.Load().Close()
		time.Sleep(3 * time.Minute)
		m.live(time.Minute)
		if got := ask(time.Now().Add(-2 * time.Minute)); !strings.Contains(got, "did not run, or could not write") {
			t.Errorf("after it was killed: %s", got)
		}
		// Killed, and another begins soon: what is shown of the time between may be told by
		// nobody, which is said.
		_ = d.history.journal.Load().Close()
		d.history.begun = false
		killed := time.Now()
		time.Sleep(40 * time.Second)
		m.live(time.Minute)
		if e, _ := then(t, d, killed.Add(5*time.Second)); !strings.Contains(strings.Join(e.Notes, " "), "ended without a word") {
			t.Errorf("just after it was killed: %v", e.Notes)
		}
		if got := ask(killed.Add(25 * time.Second)); !strings.Contains(got, "did not run") {
			t.Errorf("before it was started again: %s", got)
		}
		then(t, d, alive)
		then(t, d, first)

		// Replaced: another process goes on at once, and DNS never stopped.
		d.history.end()
		time.Sleep(10 * time.Second)
		between := time.Now().Add(-5 * time.Second)
		m.live(time.Minute)
		if e, site := then(t, d, between); site != "fra" || !strings.Contains(strings.Join(e.Notes, " "), "if it was replaced meanwhile") {
			t.Errorf("while it was replaced: %s, %v", site, e.Notes)
		}

		// A flipped octet in the last entries of the first file.
		files, err := filepath.Glob(filepath.Join(m.dir, "segment-*"))
		if err != nil || len(files) != 5 {
			t.Fatal(files, err)
		}
		raw, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)-100] ^= 1
		if err := os.WriteFile(files[0], raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ask(first.Add(20 * time.Second)); !strings.Contains(got, "damaged") {
			t.Errorf("damaged: %s", got)
		}
	})
}

// TestHistoryDiskFull: a disk without room costs history and nothing else (F16); it is
// told, and goes on when there is room, with all that holds then.
func TestHistoryDiskFull(t *testing.T) {
	keptMesh(t, true, func(t *testing.T, m *kept) {
		m.full.Store(true)
		m.all("192.0.2.1", true)
		time.Sleep(historyTick + 5*time.Second)
		m.want("with a full disk", "nyc", "nyc", "nyc")
		if got := m.d.history.alert(); !strings.Contains(got, "hardly any room") {
			t.Errorf("alert: %q", got)
		}
		unknown := time.Now()
		time.Sleep(2 * time.Minute)
		m.full.Store(false)
		time.Sleep(2 * historyTick)
		if got := m.d.history.alert(); got != "" {
			t.Errorf("there is room: %q", got)
		}
		if _, site := then(t, m.d, time.Now()); site != "nyc" {
			t.Errorf("afterwards: %s", site)
		}
		if _, err := m.d.ExplainAt(t.Context(), "pay.example.org", "", unknown); !strings.Contains(refusalOf(t, err), "could not write") {
			t.Errorf("while it was full: %v", err)
		}
	})
}

// TestHistoryFallsBehind: a disk that hangs holds up no decision; what the queue had no
// room for is said anew.
func TestHistoryFallsBehind(t *testing.T) {
	keptMesh(t, false, func(t *testing.T, m *kept) {
		h := m.d.history
		h.write(m.ctx, true)
		for range 2 * historyQueue { // nobody reads
			_ = m.nodes[0].inspect(m.ctx, func(time.Time) { m.nodes[0].dirty, m.nodes[0].decided = true, false })
		}
		m.all("192.0.2.1", true)
		time.Sleep(5 * time.Second)
		h.mu.Lock()
		queued, lost := len(h.queue), h.lost
		h.mu.Unlock()
		if queued > historyQueue || !lost {
			t.Errorf("%d wait, lost %t", queued, lost)
		}
		h.write(m.ctx, true)
		if _, site := then(t, m.d, time.Now()); site != "nyc" {
			t.Errorf("got %s", site)
		}
	})
}

// TestHistoryBounds: however much falls and returns within seconds, what is kept takes its
// room on the disk and one segment more, at most (F16).
func TestHistoryBounds(t *testing.T) {
	keptMesh(t, false, func(t *testing.T, m *kept) {
		h := m.d.history
		h.options.Size = 1 << 20
		h.write(m.ctx, true)
		var proof []byte // what cannot be compressed, as signatures cannot
		random := rand.New(rand.NewPCG(1, 2))
		for range 900 {
			proof = append(proof, byte(random.Uint32()))
		}
		most := int64(0)
		for n := range 3000 { // no alive tick between
			h.transitions([]health.Certificate{{Subject: health.Subject{Kind: health.KindSignal, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 80)}, N: uint64(n), Proof: [][]byte{proof}}}, time.Now())
			h.write(m.ctx, false)
			var octets int64
			files, err := os.ReadDir(m.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				info, err := f.Info()
				if err != nil {
					t.Fatal(err)
				}
				octets += info.Size()
			}
			most = max(most, octets)
		}
		if why := h.alert(); why != "" || most > h.options.Size+h.options.Size/8 || most < h.options.Size/2 {
			t.Errorf("%d octets at most, room for %d: %s", most, h.options.Size, why)
		}
		if _, site := then(t, m.d, time.Now()); site != "fra" {
			t.Errorf("got %s", site)
		}
	})
}

// FuzzReplay: whatever a flipped disk or another version has written is an error at
// worst.
func FuzzReplay(f *testing.F) {
	f.Add([]byte(`{"kind":"begins","image":"CAE="}`), []byte(`{"kind":"told","states":{"signal/192.0.2.1:80":"down"},"returns":{"":{}}}`))
	f.Fuzz(func(_ *testing.T, first, second []byte) {
		p, err := replay([]store.Entry{{At: time.Unix(1, 0), Body: first}, {At: time.Unix(2, 0), Body: second}})
		if err == nil {
			p.state(health.Subject{Kind: health.KindSignal})
		}
	})
}

// BenchmarkHistoryTell is what a decision costs the loop for its history.
func BenchmarkHistoryTell(b *testing.B) {
	h := &history{wanted: newWake()}
	l := &loop{now: time.Now}
	on := newEarth(geo.Default())
	changes := []health.Change{{State: health.Down}}
	for b.Loop() {
		h.tell(l, nil, on, changes)
		if len(h.queue) == historyQueue {
			h.take()
		}
	}
}

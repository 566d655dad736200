package quorum

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
)

const (
	clients = 9
	// leaseLife is short, so that leaders change often.
	leaseLife = 2 * time.Second
)

// commandsWanted is how many are to be acknowledged.
func commandsWanted(t *testing.T) int {
	t.Helper()
	n := 150
	if long(t) {
		n = 10_000
	}
	if v := os.Getenv("DIVERT_STORE_COMMANDS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatalf("DIVERT_STORE_COMMANDS: %v", err)
		}
	}
	return n
}

// TestCommands: no command is lost after it was said to be done, done twice, or told of
// wrongly, and there is an order in which all of them were done, while the members of etcd
// are killed, paused and parted at random (issue 5; S4, S5, S15, F10, F11).
func TestCommands(t *testing.T) {
	want := commandsWanted(t)
	e := startEtcd(t)
	l := newLedger()
	var writers []*writer
	for d := 1; d <= directors; d++ {
		w, err := newWriter(named(d), e.clients[named(d)], "divert", leaseLife, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.store.Close()
		w.signed = l.sign
		writers = append(writers, w)
	}
	until(t, "the first plan", func() bool { return writers[0].bootstrap(t.Context()) == nil })

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the faults: %d", seed)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var leading sync.WaitGroup
	ledCtx, stopLeading := context.WithCancel(context.WithoutCancel(t.Context()))
	for _, w := range writers {
		leading.Go(func() { _ = w.campaign.Run(ledCtx) })
		all.Go(func() { lead(ctx, t, w) })
		all.Go(func() { look(ctx, t, w, l) })
	}
	for c := range clients {
		all.Go(func() { command(ctx, t, c, writers, l, want, stop) })
	}
	struck := make(chan string, 1)
	go func() { struck <- e.befall(ctx, seed) }()
	all.Wait()
	stop()
	t.Logf("faults: %s", <-struck)
	stopLeading()
	leading.Wait()
	until(t, "the store to answer after the faults", func() bool {
		_, err := writers[0].store.Read(t.Context())
		return err == nil
	})
	t.Logf("%s, %d commands given", time.Since(l.start).Round(time.Second), len(l.orders))
	l.check(t, writers[0].store)
}

// lead does the leader's duties while this one leads.
func lead(ctx context.Context, t *testing.T, w *writer) {
	for ctx.Err() == nil {
		if s := w.campaign.Status(); s.Mine {
			for _, v := range w.duties(ctx, s.Term) {
				if isBroken(v.err) {
					t.Errorf("%s, leading: %v", w.name, v.err)
				}
			}
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// look reads now and then.
func look(ctx context.Context, t *testing.T, w *writer, l *ledger) {
	for ctx.Err() == nil {
		began := l.now()
		snap, _, err := w.read(ctx, "")
		if isBroken(err) {
			t.Errorf("%s, reading: %v", w.name, err)
			return
		}
		if err == nil {
			l.mu.Lock()
			l.reads = append(l.reads, readOf{began: began, ended: l.now(), revision: snap.Sealed.Identity.Revision})
			l.mu.Unlock()
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// command is a person: one command after the other, and again under the same ID, by way
// of any director, while its outcome is not known.
func command(ctx context.Context, t *testing.T, client int, writers []*writer, l *ledger, want int, stop func()) {
	r := rand.New(rand.NewPCG(uint64(client), 1))
	for count := 0; ctx.Err() == nil; count++ {
		o := &order{cmd: some(r), began: l.now()}
		o.cmd.ID = fmt.Sprintf("c%d-%d", client, count)
		for range 5 {
			o.told = give(ctx, r, writers[r.IntN(len(writers))], o.cmd)
			if isBroken(o.told.err) {
				t.Errorf("%s: %v", o.cmd.ID, o.told.err)
				stop()
			}
			o.open = o.open || o.told.outcome == unknown
			// What another try finds says nothing of one that may still be under way.
			if !o.open || o.told.outcome == done {
				break
			}
			pause(ctx, 50*time.Millisecond)
		}
		o.ended = l.now()
		n := l.ordered(o)
		if n >= want {
			stop()
		}
		if o.told.outcome == done && n%1000 == 0 {
			t.Logf("%d acknowledged after %s", n, time.Since(l.start).Round(time.Second))
		}
	}
}

// give gives a command, and sees it to its end; some have little patience.
func give(ctx context.Context, r *rand.Rand, w *writer, cmd core.Command) verdict {
	ctx = context.WithoutCancel(ctx)
	if r.IntN(6) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(60))*time.Millisecond)
		defer cancel()
	}
	return w.commit(ctx, cmd, nil)
}

// some is any command.
func some(r *rand.Rand) core.Command {
	cmd := core.Command{Author: "ann", Reason: "INC-1"}
	scope := "cluster/" + sites[r.IntN(len(sites))]
	if r.IntN(2) == 0 {
		scope = "service/shop@" + sites[r.IntN(len(sites))]
	}
	switch n := r.IntN(20); {
	case n < 9:
		cmd.Verb, cmd.Scope, cmd.Force, cmd.LastResort, cmd.For = core.Drain, scope, true, true, time.Hour
		if r.IntN(9) == 0 { // whose steps are the leader's
			cmd.Scope, cmd.Paced, cmd.Steps, cmd.Wait = "service/pay@fra", true, []int{10, 20, 50, 80, 100}, time.Second
		}
	case n < 16:
		cmd.Verb, cmd.Scope, cmd.Now = core.Undrain, scope, r.IntN(2) == 0
		if r.IntN(20) == 0 {
			cmd.Scope = "service/pay@fra"
		}
	case n < 17:
		cmd.Verb, cmd.Scope, cmd.For = core.Freeze, "service/pay", time.Hour
		if r.IntN(2) == 0 { // the leader ends it
			cmd.Scope, cmd.For = "service/shop", 200*time.Millisecond
		}
	case n < 18:
		cmd.Verb, cmd.Scope = core.Thaw, "service/pay"
	default:
		cmd.Verb, cmd.Source, cmd.Objects = core.Apply, core.SourceFiles, specOf(r.IntN(5), "")
	}
	return cmd
}

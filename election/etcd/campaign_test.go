package etcd

import (
	"context"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/election"
)

const testTTL = 2 * time.Second // the least that etcd's own heartbeat allows

// candidate runs a campaign until the test's end, or until stop.
func candidate(t *testing.T, c *clientv3.Client, name string) (*Campaign, func()) {
	t.Helper()
	campaign, err := New(Options{
		Client: c, Prefix: "divert/election", Name: name, TTL: testTTL,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = campaign.Run(ctx)
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return campaign, stop
}

func leads(t *testing.T, c *Campaign) election.Term {
	t.Helper()
	until(t, c.o.Name+" to lead", func() bool { return c.Status().Mine })
	return c.Status().Term
}

func knows(t *testing.T, c *Campaign, leader string) {
	t.Helper()
	until(t, c.o.Name+" to know that "+leader+" leads", func() bool {
		s := c.Status()
		return s.Leader == leader && s.Mine == (leader == c.o.Name)
	})
}

// L3: a leader that stops hands over at once; one that resigns, whose key is
// deleted, or that dies without a word, in time; each term is a new fence.
func TestCampaignHandsOver(t *testing.T) {
	t.Parallel()
	endpoint, _ := serve(t, ServerOptions{Data: t.TempDir(), Listen: socket(t)})
	admin := client(t, endpoint)
	deadly := client(t, endpoint)

	d1, stop1 := candidate(t, deadly, "d1")
	term := leads(t, d1)
	get, err := admin.Get(t.Context(), term.Key)
	if err != nil || len(get.Kvs) != 1 || get.Kvs[0].CreateRevision != term.CreateRevision || string(get.Kvs[0].Value) != "d1" {
		t.Fatalf("the leader's key: %v %v, want %+v", get, err, term)
	}
	d2, stop2 := candidate(t, admin, "d2")
	knows(t, d2, "d1")
	d3, _ := candidate(t, admin, "d3")
	knows(t, d3, "d1")

	// Dead without a word: its connection is gone, so it cannot revoke.
	_ = deadly.Close()
	stop1()
	next := leads(t, d2)
	if next.CreateRevision <= term.CreateRevision {
		t.Errorf("term %d after %d, want a later one", next.CreateRevision, term.CreateRevision)
	}
	knows(t, d3, "d2")

	stop2()
	leads(t, d3)

	// Its key deleted by hand: it rejoins the queue with another.
	term = d3.Status().Term
	if _, err := admin.Delete(t.Context(), term.Key); err != nil {
		t.Fatal(err)
	}
	until(t, "d3 to lead with a new term", func() bool {
		s := d3.Status()
		return s.Mine && s.Term.CreateRevision > term.CreateRevision
	})

	d4, _ := candidate(t, admin, "d4")
	knows(t, d4, "d3")
	d3.Resign()
	if s := d3.Status(); s.Mine {
		t.Error("leads after Resign")
	}
	leads(t, d4)
	knows(t, d3, "d4")
}

// TestCampaignHeld: who may not stand has no place in the queue, and knows who leads all the
// same; a leader that may no more hands over at once, not after its lease (L3), and stands
// again as soon as it may.
func TestCampaignHeld(t *testing.T) {
	t.Parallel()
	endpoint, _ := serve(t, ServerOptions{Data: t.TempDir(), Listen: socket(t)})
	admin := client(t, endpoint)
	queued := func() (names []string) {
		resp, err := admin.Get(t.Context(), "divert/election/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			names = append(names, string(kv.Value))
		}
		return names
	}
	d1, _ := candidate(t, admin, "d1")
	leads(t, d1)
	d2, _ := candidate(t, admin, "d2")
	knows(t, d2, "d1")
	d2.Stand(false)
	until(t, "d2 to leave the queue", func() bool { return slices.Equal(queued(), []string{"d1"}) })
	knows(t, d2, "d1")

	d1.Stand(false)
	if d1.Status().Mine {
		t.Error("leads, and may not")
	}
	until(t, "nobody to be left in the queue", func() bool { return len(queued()) == 0 })
	d1.Stand(false) // said again, it changes nothing
	d2.Stand(true)
	leads(t, d2)
	knows(t, d1, "d2")
	if got := queued(); !slices.Equal(got, []string{"d2"}) {
		t.Errorf("candidates %v, want d2 alone", got)
	}
	d1.Stand(true)
	until(t, "d1 to be back in the queue", func() bool { return slices.Equal(queued(), []string{"d2", "d1"}) })
}

// F10, F11: a leader whose etcd says nothing for the lease's life gives up by
// its own clock, while etcd is still silent, and leads again when it is back.
func TestCampaignGivesUpUnanswered(t *testing.T) {
	t.Parallel()
	child, data := startChild(t)
	pid := pidOf(t, data, 0)
	d1, _ := candidate(t, client(t, child.Endpoint()), "d1")
	term := leads(t, d1)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "d1 to give up", func() bool { return !d1.Status().Mine })
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if next := leads(t, d1); next.CreateRevision <= term.CreateRevision {
		t.Errorf("term %d after %d, want a later one", next.CreateRevision, term.CreateRevision)
	}
}

// F11: who was paused past its lease reads "not mine" at its first look,
// before any goroutine of the campaign has run.
func TestStatusEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Campaign{
			status:  election.Status{Leader: "d1", Mine: true},
			expires: time.Now().Add(5 * time.Second),
		}
		time.Sleep(5*time.Second - time.Nanosecond)
		if !c.Status().Mine {
			t.Error("not mine before the lease's end")
		}
		time.Sleep(time.Nanosecond)
		if got, want := c.Status(), (election.Status{}); got != want {
			t.Errorf("at the lease's end: %+v, want %+v", got, want)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	ok := Options{Client: &clientv3.Client{}, Prefix: "p", Name: "d1"}
	tests := map[string]func(*Options){
		"no client":     func(o *Options) { o.Client = nil },
		"no name":       func(o *Options) { o.Name = "" },
		"no prefix":     func(o *Options) { o.Prefix = "" },
		"broken second": func(o *Options) { o.TTL = 1500 * time.Millisecond },
	}
	if _, err := New(ok); err != nil {
		t.Errorf("plain: %v", err)
	}
	for name, spoil := range tests {
		o := ok
		spoil(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

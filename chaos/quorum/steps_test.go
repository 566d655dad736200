package quorum

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// briefLease is the shortest that these members grant: a leader that is stopped is to be
// replaced before its calls have given up, so that they are tried against the fence.
const briefLease = time.Second

// large makes a spec have two blobs.
var large = func() string {
	var b strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&b, "    host-%05d TXT \"this makes a spec large\"\n", i)
	}
	return b.String()
}()

// meanwhile is what the new leader does while the old one stands.
type meanwhile string

const (
	nothing   meanwhile = "another leads"
	same      meanwhile = "another does the same"
	different meanwhile = "another writes"
	collects  meanwhile = "another collects blobs"
	between   meanwhile = "a command comes between, and it still leads"
	reuses    meanwhile = "another goes back to a spec that was given up"
)

// work is what the director does.
type work string

const (
	leaders    work = "the leader's own write"
	persons    work = "a person's command"
	collectors work = "the collection of blobs"
)

// instant is a step of a director's work, and the time that it comes there.
type instant struct {
	step store.Step
	hit  int
}

// The steps of the leader's own work: it reads to see what is due, then as every command.
var leaderSteps = []instant{
	{store.BeforeRead, 1},
	{store.AfterRead, 1},
	{store.BeforeRead, 2},
	{store.AfterRead, 2},
	{store.BeforeCommit, 1},
	{store.Sent, 1},
	{store.Answered, 1},
	{beforeDisk, 1},
	{afterDisk, 1},
	{store.BeforeAck, 1},
	{store.AfterAck, 1},
}

// The steps of a person's command that brings a spec.
var personSteps = []instant{
	{store.BeforeRead, 1},
	{store.AfterRead, 1},
	{store.BeforeBlobs, 1},
	{store.BeforeBlob, 1},
	{store.BeforeBlob, 2},
	{store.AfterBlobs, 1},
	{store.BeforeCommit, 1},
	{store.Sent, 1},
	{store.Answered, 1},
	{beforeDisk, 1},
	{afterDisk, 1},
	{store.BeforeAck, 1},
	{store.AfterAck, 1},
}

// The steps of the leader's collection.
var collectorSteps = []instant{{store.BeforeRead, 1}, {store.AfterRead, 1}, {store.BeforeDelete, 1}}

// TestSteps: a director that stops at any step of a write until its lease is over and
// another leads, and has written, or that dies there, writes nothing stale when it goes on;
// nothing is done twice, nothing that was said to be done is lost, and what it says is true
// (issue 5; F11, F24, S3, S4, S6, S15).
func TestSteps(t *testing.T) {
	var cases []*stepCase
	add := func(w work, kill bool, steps []instant, all ...meanwhile) {
		for n, at := range steps {
			some := all
			if !long(t) {
				some = all[n%len(all):][:1]
			}
			for _, m := range some {
				cases = append(cases, &stepCase{work: w, kill: kill, at: at, meanwhile: m})
			}
		}
	}
	add(leaders, false, leaderSteps, nothing, different, same)
	stops, dies, personDies := personSteps, leaderSteps, personSteps
	if !long(t) {
		stops, dies, personDies = stops[1:9], dies[4:7], personDies[6:9] // up to the transaction, and where that is
	}
	add(persons, false, stops, collects, nothing, different)
	add(leaders, true, dies, same, nothing)
	add(persons, true, personDies, different, collects)
	add(collectors, false, collectorSteps, reuses, nothing)
	add(collectors, true, collectorSteps[2:], reuses)
	add(collectors, false, collectorSteps[1:], between)
	add(leaders, false, leaderSteps[3:6], between)
	if !long(t) { // where the fence of the term alone stands in the way, whatever else is tried
		cases = append(cases, &stepCase{at: instant{store.AfterRead, 2}, meanwhile: nothing}, &stepCase{at: instant{store.BeforeCommit, 1}, meanwhile: nothing})
	}
	e := startEtcd(t)
	turn := make(chan struct{}, 8)
	var all sync.WaitGroup
	for n, c := range cases {
		c.prefix = fmt.Sprintf("case-%d", n)
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			for try := 1; !c.run(t, e, try); try++ {
			}
		})
	}
	all.Wait()
	fenced := 0
	for _, c := range cases {
		if c.fenced {
			fenced++
		}
	}
	if fenced == 0 {
		t.Error("no write was stopped by the fence of the leader's term: nothing was tried")
	}
	t.Logf("%d cases; in %d the old leader was told that it leads no more", len(cases), fenced)
}

// stepCase is one director at one step. Cases run together on one etcd.
type stepCase struct {
	work      work
	kill      bool
	at        instant
	meanwhile meanwhile
	prefix    string

	t     *testing.T
	e     *etcd
	other *writer
	led   int64         // etcd's revision since which the other leads for sure
	given *plan.SpecRef // the spec that was given up, of collectors

	fenced bool // it was told that it leads no more
}

func (c *stepCase) String() string {
	how := "stopped"
	if c.kill {
		how = "killed"
	}
	return fmt.Sprintf("%s, %s %s (%d), %s", c.work, how, c.at.step, c.at.hit, c.meanwhile)
}

func (c *stepCase) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s: %s", c, fmt.Sprintf(format, args...))
}

// eventually waits; false, and said, when in vain.
func (c *stepCase) eventually(what string, ok func() bool) bool {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.errorf("waited too long: %s", what)
			return false
		}
	}
	return true
}

// run is false when the director did not come to its step, as may be on a machine that is
// so busy that it cannot keep a lease; at the third try that is an error.
func (c *stepCase) run(t *testing.T, e *etcd, try int) bool {
	c.t, c.e = t, e
	c.prefix = fmt.Sprintf("%s-%d", c.prefix, try)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var err error
	if c.other, err = newWriter("d2", e.clients["d2"], c.prefix, briefLease, nil); err != nil {
		c.errorf("%v", err)
		return true
	}
	defer c.other.store.Close()
	// A freeze whose end has come is what the leader has to write.
	freeze := core.Command{ID: "freeze-1", Verb: core.Freeze, Scope: "service/pay", Author: "ann", Reason: "INC-1", For: time.Millisecond}
	if !c.eventually("the first plan", func() bool { return c.other.bootstrap(ctx) == nil }) ||
		!c.eventually("a freeze", func() bool { return c.other.commit(ctx, freeze, nil).outcome == done }) {
		return true
	}
	if c.work == collectors && !c.giveUp(ctx) {
		return true
	}
	disk := t.TempDir()
	first := c.spawn(disk, c.at, c.kill)
	if first == nil {
		return true
	}
	defer first.kill()
	if why := first.comesTo(c); why != "" {
		if try == 3 {
			c.errorf("%s", why)
		}
		return try == 3
	}
	over := func() {}
	if c.meanwhile != between {
		if over = c.leads(ctx); c.led == 0 {
			return true
		}
	}
	defer func() { over() }()
	if !c.does(ctx) {
		return true
	}
	if c.kill {
		c.disk(disk)
		over() // so that the other one leads again
		again := c.spawn(disk, instant{}, false)
		if again == nil {
			return true
		}
		defer again.kill()
		c.judge(ctx, again.saysAll(c))
	} else {
		first.signal(syscall.SIGCONT)
		_, _ = io.WriteString(first.stdin, "\n")
		c.judge(ctx, first.saysAll(c))
	}
	c.disk(disk)
	c.total(ctx)
	return true
}

// lease is the old leader's.
func (c *stepCase) lease() time.Duration {
	if c.meanwhile == between {
		return time.Minute
	}
	return briefLease
}

// playing is a director's process.
type playing struct {
	*process
	says chan report
}

func (c *stepCase) spawn(disk string, at instant, kill bool) *playing {
	out, in := io.Pipe()
	p, err := spawn("director", directorOptions{
		Name: "d1", Prefix: c.prefix, Disk: disk, Endpoints: c.e.clients["d1"], Work: c.work, Lease: c.lease(), Step: at.step, Hit: at.hit, Kill: kill,
	}, in, c.t.Output())
	if err != nil {
		c.errorf("%v", err)
		return nil
	}
	says := make(chan report, 100)
	go func() {
		<-p.ended
		_ = in.Close()
	}()
	go func() {
		defer close(says)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r report
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				r.Err = "not understood: " + lines.Text()
			}
			says <- r
		}
	}()
	return &playing{process: p, says: says}
}

// comesTo waits until it stands at the step, or is dead, and says why it does not.
func (p *playing) comesTo(c *stepCase) (why string) {
	for r := range p.says {
		switch {
		case r.At == c.at.step && c.kill:
			<-p.ended
			return ""
		case r.At == c.at.step:
			if !c.eventually("it stands still", p.standsStill) {
				return "it does not stand still"
			}
			return ""
		case r.Told == nil: // which it may have been before
			return fmt.Sprintf("it did not come there: %+v", r)
		}
	}
	return "it did not come there"
}

// saysAll gives what it was told of its commands.
func (p *playing) saysAll(c *stepCase) (out []told) {
	for r := range p.says {
		switch {
		case r.Told != nil:
			out = append(out, *r.Told)
		case r.Err != "" && !strings.Contains(r.Err, "already acknowledged"):
			c.errorf("it says: %s", r.Err)
		}
	}
	return out
}

// leads has the other one lead, until what it gives is called.
func (c *stepCase) leads(ctx context.Context) (over func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.other.campaign.Run(ctx) })
	c.eventually("another leads", func() bool {
		if !c.other.campaign.Status().Mine {
			return false
		}
		snap, _, err := c.other.read(ctx, "")
		if err == nil {
			c.led = snap.StoreRevision
		}
		return err == nil
	})
	return func() { cancel(); wg.Wait() }
}

// does what the new leader does meanwhile.
func (c *stepCase) does(ctx context.Context) bool {
	switch c.meanwhile {
	case between, different:
		if c.work == collectors {
			return c.eventually("the spec of before", func() bool { return c.apply(ctx, "apply-d", 1) })
		}
		cmd := core.Command{ID: "drain-1", Verb: core.Drain, Scope: "cluster/nyc", Author: "bob", Reason: "INC-2", For: time.Hour}
		return c.eventually("another command", func() bool { return c.other.commit(ctx, cmd, nil).outcome == done })
	case same:
		return c.eventually("the same by another", func() bool { return c.works(ctx) })
	case reuses:
		return c.eventually("the spec of before", func() bool { return c.apply(ctx, "apply-d", 1) })
	case collects:
		return c.eventually("collection", func() bool {
			return c.other.store.Collect(ctx, nil, c.other.campaign.Status().Term) == nil
		})
	default:
		return true
	}
}

// works has the other one do what is due, and tells whether nothing is left.
func (c *stepCase) works(ctx context.Context) bool {
	if s := c.other.campaign.Status(); s.Mine {
		for _, v := range c.other.duties(ctx, s.Term) {
			if v.outcome != done && v.outcome != noop {
				return false
			}
		}
		snap, _, err := c.other.read(ctx, "")
		return err == nil && !frozen(snap.Sealed.Plan)
	}
	return false
}

func frozen(p *plan.Plan) bool {
	for _, o := range p.GetOverrides() {
		if o.GetKind() == plan.Override_OBSERVE {
			return true
		}
	}
	return false
}

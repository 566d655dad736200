package quorum

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
)

// The steps of a director that are not the store's: its own disk.
const (
	beforeDisk store.Step = "before the plan is written to the disk"
	afterDisk  store.Step = "after the plan was written to the disk"
)

// directorOptions say what a director's process does.
type directorOptions struct {
	Name, Prefix, Disk string
	Endpoints          []string
	Work               work
	Lease              time.Duration
	Step               store.Step // where it stops, or dies; "": nowhere
	Hit                int        // at which time that it comes there
	Kill               bool
}

// report is a line of what a director's process says.
type report struct {
	At   store.Step `json:",omitempty"` // it stands here
	Told *told      `json:",omitempty"` // a command's outcome
	End  bool       `json:",omitempty"` // all is done
	Err  string     `json:",omitempty"`
}

// told is a verdict, as it leaves the process.
type told struct {
	Command   string
	Outcome   outcome
	Revision  uint64
	NotLeader bool
	Broken    bool
	Err       string
}

// playDirector leads, does its work once, keeps the plan on its disk and acknowledges it.
func playDirector() error {
	var o directorOptions
	if err := options(&o); err != nil {
		return err
	}
	p := &player{o: o, out: json.NewEncoder(os.Stdout), in: bufio.NewReader(os.Stdin), plans: map[plan.Hash]*plan.Sealed{}}
	w, err := newWriter(o.Name, o.Endpoints, o.Prefix, o.Lease, p.reached)
	if err != nil {
		return err
	}
	defer w.store.Close()
	w.signed = func(sealed *plan.Sealed, cmd core.Command) { p.plans[sealed.Identity.Hash], p.last = sealed, cmd.ID }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var campaign sync.WaitGroup
	campaign.Go(func() { _ = w.campaign.Run(ctx) })
	defer campaign.Wait()
	defer cancel()
	for !w.campaign.Status().Mine {
		if pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return errors.New("never led")
		}
	}
	if err := p.work(ctx, w); err != nil {
		return p.out.Encode(report{Err: err.Error()})
	}
	return p.out.Encode(report{End: true})
}

type player struct {
	o     directorOptions
	out   *json.Encoder
	in    *bufio.Reader
	armed atomic.Bool
	hits  atomic.Int32
	plans map[plan.Hash]*plan.Sealed // signed here
	last  string                     // command that one was signed for
}

// reached stops this process, or kills it, at the step that it was told.
func (p *player) reached(at store.Step) {
	if at != p.o.Step || !p.armed.Load() || int(p.hits.Add(1)) != p.o.Hit {
		return
	}
	if err := p.out.Encode(report{At: at}); err != nil {
		panic(err)
	}
	if p.o.Kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	_, _ = p.in.ReadString('\n') // the signal may come a little late
}

func (p *player) work(ctx context.Context, w *writer) error {
	term := w.campaign.Status().Term
	p.armed.Store(true)
	var got []verdict
	switch p.o.Work {
	case persons:
		got = []verdict{w.commit(ctx, applied(), nil)}
		p.last = applied().ID
	case collectors:
		v := verdict{outcome: noop, err: w.store.Collect(ctx, nil, term)}
		if v.err != nil {
			v.outcome = refused
		}
		got = []verdict{v}
	default:
		got = w.duties(ctx, term)
	}
	for _, v := range got {
		t := &told{Command: p.last, Outcome: v.outcome, Revision: v.revision, NotLeader: errors.Is(v.err, store.ErrNotLeader), Broken: isBroken(v.err)}
		if v.err != nil {
			t.Err = v.err.Error()
		}
		if err := p.out.Encode(report{Told: t}); err != nil {
			return err
		}
	}
	// As a director does: what it has written itself it takes at once, all else it reads.
	var sealed *plan.Sealed
	for _, v := range got {
		if v.outcome == done {
			sealed = p.plans[v.hash]
		}
	}
	if sealed == nil {
		snap, _, err := w.read(ctx, "")
		if err != nil {
			return err
		}
		sealed = snap.Sealed
	}
	return p.keep(ctx, w, sealed)
}

// keep is what comes before an acknowledgement (S6), and it.
func (p *player) keep(ctx context.Context, w *writer, sealed *plan.Sealed) error {
	d, err := w.document(ctx, sealed)
	if err != nil {
		return err
	}
	disk, err := store.OpenDisk(p.o.Disk, nil)
	if err != nil {
		return err
	}
	octets, err := (proto.MarshalOptions{Deterministic: true}).Marshal(d.doc)
	if err != nil {
		return err
	}
	p.reached(beforeDisk)
	if err := disk.Save(store.Generation{Plan: sealed.Raw, Doc: octets, Highest: sealed.Identity, Saved: time.Now()}); err != nil {
		return err
	}
	p.reached(afterDisk)
	id := sealed.Identity
	if err := w.store.Ack(ctx, &plan.Ack{
		Director: w.name, Fleet: id.Fleet, Epoch: id.Epoch, Revision: id.Revision, Plan: id.Hash[:], At: timestamppb.Now(),
	}); err != nil {
		return fmt.Errorf("acknowledging: %w", err)
	}
	return nil
}

// applied is the person's command: a spec of two blobs.
func applied() core.Command {
	return core.Command{ID: "apply-1", Verb: core.Apply, Author: "ann", Reason: "INC-1", Source: core.SourceFiles, Objects: specOf(1, large)}
}

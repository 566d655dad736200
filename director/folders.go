package director

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// folders owns this director's spec files: it reads them at start and on
// change, and commits what they newly bring. A folder that is empty,
// unreadable or wrong removes nothing and leaves the good spec in force (S19).
type folders struct {
	paths     []string
	name      string // this director's
	commander *commander
	horizon   *horizon
	log       *slog.Logger
	change    func()
	planned   wake // a plan came into force: it may be one that this director can sign after

	reader  *spec.Reader  // by run
	doc     *plan.SpecDoc // what was read last was held against it, giving …
	apply   []spec.Raw
	differs []spec.Change

	mu       sync.Mutex
	raws     []spec.Raw     // the last good reading; by run
	problems []spec.Problem // of the last reading; by run
	pending  []spec.Change  // what waits for a person; by run
	note     string         // why; by run
}

const (
	folderTick   = 5 * time.Second        // rereads: editors and volume mounts cheat the watcher
	folderSettle = 200 * time.Millisecond // a burst of writes is one change
)

// run applies what the files newly bring, until ctx ends.
func (f *folders) run(ctx context.Context) error {
	if len(f.paths) == 0 {
		<-ctx.Done()
		return nil
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	events := f.watch(ctx, &watching)
	tick := time.NewTicker(folderTick)
	defer tick.Stop()
	settle := time.NewTimer(folderSettle)
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			settle.Reset(folderSettle)
		case <-f.planned:
			settle.Reset(folderSettle)
		case <-tick.C:
			f.sync(ctx)
		case <-settle.C:
			f.sync(ctx)
		}
	}
}

// watch passes on that something changed; without a watcher the tick serves.
func (f *folders) watch(ctx context.Context, watching *sync.WaitGroup) <-chan struct{} {
	out := newWake()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("spec files are not watched, only reread", slog.Any("err", err))
		return out
	}
	for _, p := range f.paths {
		err := w.Add(p)
		if err == nil {
			err = w.Add(filepath.Dir(p)) // a file replaced by rename is seen in its folder only
		}
		if err != nil {
			f.log.Warn("spec path is not watched, only reread", slog.String("path", p), slog.Any("err", err))
		}
	}
	watching.Go(func() {
		for {
			select {
			case <-w.Events:
				out.up()
			case err := <-w.Errors: // events may be lost
				f.log.Debug("watching spec files", slog.Any("err", err))
				out.up()
			case <-ctx.Done():
				_ = w.Close()
				return
			}
		}
	})
	return out
}

// load reads the files for whoever has no plan yet.
func (f *folders) load() {
	if len(f.paths) > 0 {
		_, raws, problems := spec.LoadWith(f.paths, f.horizon.texts.check)
		f.take(raws, problems)
	}
}

// take shows what was read; false where it cannot serve.
func (f *folders) take(raws []spec.Raw, problems []spec.Problem) bool {
	bad := spec.Failed(problems)
	f.mu.Lock()
	news := !equalProblems(f.problems, problems)
	f.problems = problems
	if !bad {
		f.raws = raws
	}
	f.mu.Unlock()
	if news {
		for _, p := range problems {
			f.log.Warn("spec file", slog.String("problem", p.String()))
		}
		if bad {
			f.log.Error("the spec files are not used, the last good spec stays in force", slog.Int("problems", len(problems)))
		}
		f.change()
	}
	return !bad && len(raws) > 0
}

// sync commits what the files newly bring over what they last brought; not while a
// large command is under way, often of the same files, which together would take twice
// the memory: the next tick does.
func (f *folders) sync(ctx context.Context) {
	select {
	case f.commander.turn <- struct{}{}:
		defer func() { <-f.commander.turn }()
	default:
		return
	}
	raws, problems, changed := f.reader.Load()
	if changed {
		f.doc = nil
		size := 0
		for i := range raws {
			size += len(raws[i].JSON)
		}
		defer giveBack(size)
	}
	cur := f.horizon.current()
	if !f.take(raws, problems) || cur == nil || len(cur.sealed.Plan.Director(f.name).GetKey()) == 0 {
		return // nothing can be signed before this director is in the roster
	}
	if doc := cur.stable().doc; f.doc != doc {
		f.doc = doc
		raws = f.reader.Share(core.Raws(doc))
		f.take(raws, problems)
		f.apply, f.differs = core.Pending(doc, f.name, raws)
	}
	apply, differs := f.apply, f.differs
	note := ""
	// Not before the store was read, nor behind a plan that a peer holds (F25).
	if len(apply) > 0 && f.horizon.usable() {
		cmd := core.Command{
			ID: newID(), Verb: core.Apply, Source: "files", Folder: f.name, Objects: apply,
			Author: "director " + f.name, Reason: "spec files changed",
		}
		_, _, err := f.commander.commit(ctx, cmd, nil)
		if r, ok := errors.AsType[*core.Refusal](err); ok {
			note = r.Error()
		} else if err != nil && ctx.Err() == nil {
			f.log.Warn("applying the spec files", slog.Any("err", err))
		}
		if err == nil {
			return // the next tick shows what is left
		}
	}
	f.mu.Lock()
	news := note != f.note || len(differs) != len(f.pending)
	f.pending, f.note = differs, note
	f.mu.Unlock()
	if news {
		if note != "" {
			f.log.Warn("a change in the spec files waits for a person", slog.String("why", note))
		}
		f.change()
	}
}

// standing gives what is to be shown: problems, and changes that wait.
func (f *folders) standing() (problems []spec.Problem, pending []spec.Change, note string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problems, f.pending, f.note
}

func equalProblems(a, b []spec.Problem) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

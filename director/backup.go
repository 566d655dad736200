package director

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
)

// Backup is `divert backup`: the plan, its spec and the audit log, as the store holds
// them; with local, as this director does, without the log.
func (d *Director) Backup(ctx context.Context, w io.Writer, local bool) error {
	base, err := d.commander.held(ctx, local)
	if err != nil {
		return err
	}
	b, err := store.NewBackupWriter(w, store.BackupHead{Made: d.now().UTC(), Director: d.settings.Name, Version: d.opts.Version, NoAudit: local}, base.sealed, base.bytes)
	if err != nil {
		return err
	}
	bundle, err := d.policies.saved(ctx, base.sealed.Plan, local)
	if err != nil {
		return err
	}
	if bundle != nil {
		if err := b.Policy(bundle); err != nil {
			return err
		}
	}
	vault, err := d.vault.saved(ctx, base.sealed.Plan, local)
	if err != nil {
		return err
	}
	if vault != nil {
		if err := b.Vault(vault); err != nil {
			return err
		}
	}
	if !local {
		if err := d.eachAudit(ctx, b.Audit); err != nil {
			return err
		}
	}
	return b.End()
}

// held gives what a backup is made of.
func (c *commander) held(ctx context.Context, local bool) (*inForce, error) {
	cur := c.horizon.current()
	if local {
		if cur == nil {
			return nil, &core.Refusal{Reason: errNoPlan.Error()}
		}
		return cur.stable(), nil
	}
	known := c.horizon.known()
	snap, err := c.store.Read(ctx)
	hint := "`divert backup --local` makes one of what this director holds, without the audit log"
	switch {
	case err != nil && snap.ModRevision != 0:
		return nil, &core.Refusal{Reason: unread(snap, err), Remedy: hint}
	case err != nil:
		return nil, &core.Refusal{Reason: "the store does not answer, and holds the audit log (" + err.Error() + ")", Remedy: hint}
	}
	base, err := c.base(ctx, known, snap)
	if r := (*core.Refusal)(nil); errors.As(err, &r) && r.Remedy == "" {
		r.Remedy = hint
	}
	if errors.Is(err, store.ErrConflict) { // it came into force since the read
		return c.horizon.current().stable(), nil
	}
	return base, err
}

const (
	// maxBackup bounds what a restore reads.
	maxBackup    = 2 << 30
	restoreFiles = "restore-*" + fsys.Temporary
)

// clearRestores takes away what a restore holds that a crash interrupted: it gives up
// its file's name at once, and a crash may bring that back.
func clearRestores(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, restoreFiles)) // a dir that is a pattern: they stay
	for _, f := range files {
		_ = os.Remove(f)
	}
}

// Restore is `divert restore`.
func (d *Director) Restore(ctx context.Context, r io.Reader, o api.RestoreOptions) (api.Outcome, error) {
	// On the disk first: nothing is done before it is known to be whole.
	f, err := os.CreateTemp(d.settings.DataDir, restoreFiles)
	if err != nil {
		return api.Outcome{}, fmt.Errorf("restoring: %w", err)
	}
	defer f.Close()
	_ = os.Remove(f.Name())
	if n, err := io.Copy(f, io.LimitReader(r, maxBackup+1)); err != nil {
		return api.Outcome{}, fmt.Errorf("restoring: reading the backup: %w", err)
	} else if n > maxBackup {
		return refused("", &core.Refusal{Reason: fmt.Sprintf("a backup has at most %d MiB", maxBackup>>20)}), nil
	}
	b, err := readBackup(f, nil)
	if err != nil {
		return refused("", &core.Refusal{Reason: err.Error(), Remedy: "nothing was changed: use another backup"}), nil
	}
	if d.horizon.current() == nil {
		for _, m := range d.links.Members() {
			if m.Meta.HasPlan {
				return refused("", &core.Refusal{Reason: m.Name + " holds a plan: to restore over it from a director without one would make two fleets", Remedy: "run `divert restore` there"}), nil
			}
		}
		// Who does not answer may hold one that is newer than the backup, and answer from it.
		if absent := d.unanswered(); len(absent) > 0 && !o.Force {
			return refused("", &core.Refusal{
				Reason: "these join addresses have not answered whether they hold a plan: " + strings.Join(absent, ", "),
				Remedy: "start the directors there, or, if they are lost for good, repeat it with --force, which is recorded", Force: true,
			}), nil
		}
	}
	if o.Audit {
		return d.restoreAudit(ctx, f, b)
	}
	id, change, err := d.commander.restore(ctx, d.me(), b, o, api.User(ctx), func() (string, error) { return d.commander.putAudits(ctx, f) })
	giveBack(len(b.Doc))
	if err != nil {
		return refused("", err), nil
	}
	out := api.Outcome{Summary: change.Summary, Preview: change.Preview}
	if id.IsZero() {
		return out, nil
	}
	out.Revision = id.Revision
	return d.awaitBack(ctx, id, out), nil
}

func readBackup(f *os.File, audit func(uint64, []byte) error) (store.Backup, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return store.Backup{}, fmt.Errorf("reading the backup: %w", err)
	}
	return store.ReadBackup(f, audit)
}

// restoreAudit puts back the audit records that the store lacks, and nothing else.
func (d *Director) restoreAudit(ctx context.Context, f *os.File, b store.Backup) (api.Outcome, error) {
	cur := d.horizon.current()
	if cur == nil || cur.sealed.Identity.Fleet != b.Plan.Identity.Fleet {
		return refused("", &core.Refusal{Reason: fmt.Sprintf("the backup is of fleet %s, and this director is not", b.Plan.Identity.Fleet)}), nil
	}
	if problem := d.horizon.storeNow().problem; problem != "" {
		return refused("", &core.Refusal{Reason: problem}), nil
	}
	said, err := d.commander.putAudits(ctx, f)
	if err != nil {
		return refused("", unavailable(err)), nil
	}
	return api.Outcome{Summary: said}, nil
}

// putAudits puts back what audit records the store lacks.
func (c *commander) putAudits(ctx context.Context, f *os.File) (said string, err error) {
	put, total := 0, 0
	var differ []uint64
	_, err = readBackup(f, func(revision uint64, raw []byte) error {
		total++
		done, differs, err := c.store.PutAudit(ctx, revision, raw)
		if done {
			put++
		}
		if differs {
			differ = append(differ, revision)
		}
		return err
	})
	said = fmt.Sprintf("%d of the backup's %d audit records were missing and are back", put, total)
	if n := len(differ); n > 0 {
		said += fmt.Sprintf("; %d differ from the store's, which stay, the first of revision %d", n, differ[0])
	}
	return said, err
}

// restore writes the plan that a backup comes to, its audit records first: they say
// what was, whatever becomes of this.
func (c *commander) restore(ctx context.Context, me core.Director, b store.Backup, o api.RestoreOptions, author string, audits func() (string, error)) (id plan.Identity, change core.Change, err error) {
	if err := c.maySign(ctx); err != nil {
		return id, change, err
	}
	doc, err := plan.ReadDoc(b.Doc)
	if err != nil {
		return id, change, err
	}
	known := c.horizon.known()
	snap, err := c.store.Read(ctx)
	if err != nil && snap.ModRevision == 0 {
		return id, change, unavailable(err)
	}
	state := core.State{Places: c.earth().placesFor, Now: c.now(), Me: c.name, CheckZone: c.horizon.texts.check}
	heard := append(c.horizon.heard(), core.Known{Identity: known})
	var base *inForce
	switch {
	case c.horizon.current() == nil && (errors.Is(err, plan.ErrNewer) || errors.As(err, new(*store.Moved))) && !o.Force:
		return id, change, &core.Refusal{Reason: unread(snap, err), Remedy: "`divert restore --force` writes over it all the same", Force: true}
	case c.horizon.current() == nil && snap.Sealed != nil && !o.Force:
		found := snap.Sealed.Identity
		return id, change, &core.Refusal{
			Reason: fmt.Sprintf("the store holds plan %d.%d of fleet %s, which this director does not have yet", found.Epoch, found.Revision, found.Fleet),
			Remedy: "wait until it does, then restore; if its spec is lost for good, `divert restore --force` writes over it", Force: found.Fleet == b.Plan.Identity.Fleet,
		}
	case c.horizon.current() == nil:
		if snap.Sealed != nil {
			heard = append(heard, core.Known{Director: "the store", Store: true, Identity: snap.Sealed.Identity})
			snap.Sealed = nil // given up
		}
	case err != nil:
		return id, change, &core.Refusal{Reason: unread(snap, err), Remedy: "put the store right first: divert store recover"}
	default:
		if base, err = c.base(ctx, known, snap); err != nil {
			return id, change, err
		}
		if state.States, state.Observed, err = c.states(ctx); err != nil {
			return id, change, err
		}
		state.Plan, state.Doc, state.Spec, state.Trial, state.Prepared = base.sealed, base.doc, base.spec, trialOf(base), c.prepared.Load()
	}
	last, err := c.store.LastAudit(ctx)
	if err != nil {
		return id, change, unavailable(err)
	}
	reason := o.Reason
	if reason == "" {
		reason = "backup of " + instant(b.Head.Made)
	}
	cmd := core.Command{ID: newID(), Verb: core.Restore, Scope: b.Plan.Identity.String(), Author: author, Reason: reason, Force: o.Force, DryRun: o.DryRun}
	decide := func() (core.Change, error) {
		return core.Restored(state, cmd, core.Saved{Plan: b.Plan, Doc: doc, Audited: b.Highest, Vault: len(b.Vault) > 0}, me, last, slices.Clip(heard)...)
	}
	if change, err = decide(); err == nil && base != nil { // every director holds the spec against the policy of now
		problem := ""
		state.Resided, problem, err = c.policies.reside(ctx, judged{base: base, change: change, cmd: cmd, state: state})
		if err == nil && problem != "" {
			state.Resided = &core.Resided{Kept: true}
		}
		if err == nil && state.Resided != nil {
			change, err = decide()
		}
		if problem != "" {
			change.Preview.Warnings = append(change.Preview.Warnings, "residency by policy stays as it was: "+problem)
		}
	}
	if err != nil || change.Noop || o.DryRun {
		return id, change, err
	}
	if base == nil { // all of it comes back, the policy too
		change.Bundle, change.Vault = b.Policy, b.Vault
	} else {
		change.Bundle, change.Vault = c.policies.octets(change.Plan), c.vault.at(change.Plan)
	}
	if base == nil || base.sealed.Identity.Fleet == b.Plan.Identity.Fleet {
		said, err := audits()
		if err != nil {
			return id, change, unavailable(err)
		}
		change.Summary += "; " + said
	}
	id, err = c.write(ctx, snap, base, change, cmd, nil)
	return id, change, err
}

// Migrate is `divert store migrate`.
func (d *Director) Migrate(ctx context.Context, o api.MigrateOptions) (api.Outcome, error) {
	cur := d.horizon.current()
	if cur == nil {
		return refused("", &core.Refusal{Reason: errNoPlan.Error()}), nil
	}
	if err := d.commander.maySign(ctx); err != nil {
		return refused("", err), nil
	}
	known := d.horizon.known()
	snap, err := d.store.Read(ctx)
	switch moved := (*store.Moved)(nil); {
	case errors.As(err, &moved): // MoveTo says whether that is where
	case err != nil && snap.ModRevision != 0:
		return refused("", &core.Refusal{Reason: unread(snap, err)}), nil
	case err != nil:
		return refused("", unavailable(err)), nil
	default:
		if _, err := d.commander.base(ctx, known, snap); err != nil && !errors.Is(err, store.ErrConflict) {
			return refused("", err), nil
		}
	}
	to, err := store.New(store.Options{Endpoints: o.To, TLS: store.TLS{CA: o.CA, Cert: o.Cert, Key: o.Key}, Prefix: d.store.Prefix(), Log: d.log})
	if err != nil {
		return refused("", &core.Refusal{Reason: err.Error()}), nil
	}
	defer func() { _ = to.Close() }()
	id, err := d.store.MoveTo(ctx, to, o.To, d.now())
	if err != nil {
		r := &core.Refusal{Reason: "the store was not moved: " + err.Error(), Remedy: "once that is put right, the same command again goes on from there"}
		return refused("", r), nil
	}
	return api.Outcome{
		Summary: fmt.Sprintf("all of the store, plan %d.%d with its audit log, is at %s now, and this one takes no more commands; set etcd: {endpoints: [...]} to that in the settings of each director, and start it anew with --replace",
			id.Epoch, id.Revision, strings.Join(o.To, ", ")),
	}, nil
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
)

// sure is --force of what is no core.Command, and the answer to its question.
type sure struct {
	on      bool
	confirm []string
}

func (s *sure) flags(c *cobra.Command, word string) {
	f := c.Flags()
	f.BoolVar(&s.on, "force", false, "do it in spite of what it would be refused for; asks, and is recorded")
	f.StringArrayVar(&s.confirm, "confirm", nil, "`"+word+"`: answers the question of --force in a script")
}

// check refuses before anybody is asked anything.
func (s *sure) check(a *app, word string) error {
	switch {
	case !s.on && len(s.confirm) > 0:
		return usage("--confirm answers the question of --force, which is not given")
	case s.on && !a.asking && !slices.Contains(s.confirm, word):
		return &exit{code: exitUsage, err: errors.New("--force asks for a confirmation, and nobody is at a terminal to give it"), remedy: "add --confirm " + word}
	}
	return nil
}

// ask says what is about to be done, and has a word typed.
func (s *sure) ask(ctx context.Context, a *app, word, what string) error {
	if !s.on {
		return nil
	}
	fmt.Fprintln(a.err, "forced: "+what)
	if slices.Contains(s.confirm, word) {
		return nil
	}
	typed, err := a.ask(ctx, fmt.Sprintf("Type %s to go on: ", word))
	if err != nil {
		return err
	}
	if typed != word {
		return &exit{code: exitRefused, err: fmt.Errorf("%q is not %q: nothing was done", typed, word)}
	}
	return nil
}

func (a *app) backupCommand() *cobra.Command {
	var local bool
	c := &cobra.Command{
		Use:     "backup FILE",
		GroupID: groupSee,
		Short:   "Save the plan, the spec and the audit log to a file",
		Long: `Save what the fleet is to a new file: the plan with its roster and drains, the
spec, and the audit log, as the store holds them. The file has a checksum, and is
there whole or not at all.

Nothing in it is a key: of the directors it has the public ones, and of the secrets
of probes and zone transfers their names. But it has all addresses, who did what,
and why, so only you may read the file. What it lacks is for you to keep: each
director's settings and its own key (identity.json in its data folder), the key of
gossip, and the files that the settings name.`,
		Example: `  divert backup fleet-2026-03-14.backup
  divert backup fleet.backup --local`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "" {
				return usage("the backup's file has no name")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			wait := a.patience("the backup is on its way, for 10m at most; Ctrl-C leaves no file")
			head, err := saveBackup(fsys.OS{}, args[0], func(w io.Writer) error { return client.Backup(c.Context(), w, local) })
			wait()
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(head.Head)
			}
			_, err = fmt.Fprintf(a.out, "%s holds %s\n", args[0], backupText(head))
			return err
		},
	}
	c.Flags().BoolVar(&local, "local", false, "of what the director itself holds, without the audit log: when the store is away")
	return c
}

// saveBackup has a backup written to a new file, and checks what came. Once it has
// returned, the file outlasts the machine.
func saveBackup(on fsys.FS, path string, write func(io.Writer) error) (b store.Backup, err error) {
	err = saveNew(on, path, "backup", write, func(r io.Reader) error {
		b, err = store.ReadBackup(r, nil)
		return err
	})
	return b, err
}

// saveNew has something written to a new file, which is there once it was checked, whole
// or not at all. Once it has returned, the file outlasts the machine.
func saveNew(on fsys.FS, path, what string, write func(io.Writer) error, check func(io.Reader) error) error {
	if _, err := on.Stat(path); err == nil {
		return &exit{code: exitRefused, err: fmt.Errorf("%s is there already", path), remedy: "no " + what + " is ever written over: give it another name"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	aside := fmt.Sprintf("%s.%s%s", path, rand.Text(), fsys.Temporary)
	f, err := on.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		if path := (*fs.PathError)(nil); errors.As(err, &path) {
			err = path.Err // of a name that nobody has given
		}
		return fmt.Errorf("making the file %s: %w", path, err)
	}
	defer func() { _ = on.Remove(aside) }() // gone already, where it was renamed
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if f, err = on.OpenFile(aside, os.O_RDONLY, 0); err != nil {
		return err
	}
	err = check(f)
	_ = f.Close() // nothing was written
	if err != nil {
		return fmt.Errorf("what the director sent: %w", err)
	}
	err = on.Link(aside, path) // unlike a renaming, never over another
	if _, there := on.Stat(path); err != nil && errors.Is(there, fs.ErrNotExist) {
		err = on.Rename(aside, path) // a file system without links
	}
	if err != nil {
		return fmt.Errorf("naming the %s: %w", what, err)
	}
	// A folder may be one that this user may write and not read.
	if err := on.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s is written, and whether it outlasts a crash is not known: %w", path, err)
	}
	return nil
}

func backupText(b store.Backup) string {
	audits := count(b.Audits, "audit record")
	if b.Head.NoAudit {
		audits = "no audit log (--local)"
	}
	return fmt.Sprintf("plan %d.%d of fleet %s, %s of spec and %s", b.Head.Epoch, b.Head.Revision, b.Head.Fleet, count(len(b.Doc), "octet"), audits)
}

// unusable is what to do about a file that is no whole backup.
const unusable = "nothing was changed: use another backup, or, where a director still holds the plan, `divert store recover` there, which needs none"

func (a *app) restoreCommand() *cobra.Command {
	var o api.RestoreOptions
	var force sure
	c := &cobra.Command{
		Use:     "restore FILE",
		GroupID: groupChange,
		Short:   "Bring a backup back, as the next epoch",
		Long: `Bring a backup back: a plan of the next epoch, newer than any that is known, with
an audit record like any other change.

A fleet that holds a plan gets the backup's spec, as by ` + "`divert apply --prune`" + `; who
is registered and what is drained now stays. Audit records that the store lacks are
put back.

A fleet that has lost everything gets all of it, drains and switches included,
which are listed: start its directors with ` + "`divert serve --await-restore`" + `, so that
they begin no new fleet, with their old identity.json where there is one, and
restore on one of them. One without its old key takes its place in the roster only
with --force, and only with --force is anything restored while a join address does
not answer: who is there may hold a newer plan. A drain in steps stands still
until who takes over is seen well; one that is past its end is ended by the
leader, onto healthy sites only. A rollout is in no backup: all directors get the
spec of all.

A backup of another fleet is refused without --force; then this fleet gets that
one's spec.`,
		Example: `  divert restore fleet.backup --dry-run
  divert restore fleet.backup --reason INC-1
  divert restore fleet.backup --audit`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			b, err := store.ReadBackup(f, nil)
			if err != nil {
				return &exit{code: exitRefused, err: fmt.Errorf("%s: %w", args[0], err), remedy: unusable}
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			word := b.Head.Fleet
			if !o.DryRun {
				if err := force.check(a, word); err != nil {
					return err
				}
				if err := force.ask(c.Context(), a, word, "bring back "+backupText(b)); err != nil {
					return err
				}
			}
			o.Force = force.on
			client, err := a.changer()
			if err != nil {
				return err
			}
			wait := a.patience("still bringing it back, for 10m at most; Ctrl-C stops that, and `divert status` shows whether the plan of the next epoch is there")
			outcome, err := client.Restore(c.Context(), io.NopCloser(f), o)
			wait()
			if err != nil {
				return err
			}
			return (&telling{app: a}).final(outcome, o.DryRun)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Reason, "reason", "", "`WHY`, for the audit log")
	f.BoolVar(&o.DryRun, "dry-run", false, "show what would change, and change nothing")
	f.BoolVar(&o.Audit, "audit", false, "put back the audit records that the store lacks, and nothing else")
	force.flags(c, "FLEET")
	return c
}

// Package crashfs owns a file system in memory, for tests, that is no better than
// POSIX promises: what was not synced may be lost at a crash, torn, or kept while
// what was written before it is lost. It is never part of a program.
package crashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/divertdns/divert/director/store/fsys"
)

// ErrDead is what every operation of a process gives once it has died.
var ErrDead = errors.New("this process is dead")

// Trouble is what befalls a disk or its process.
type Trouble int

// The troubles. Those below Kill leave the process alive.
const (
	Unknown Trouble = iota
	None
	NoSpace     // one operation is refused: ENOSPC
	Full        // all that would take room are, from one on, until Mend
	IOError     // one operation is refused: EIO. A sync drops what it was to write
	Kill        // the process dies; what it wrote is there
	Power       // the machine dies
	troubleNext // how many there are
)

func (t Trouble) String() string {
	return [...]string{"unknown", "none", "no space", "full", "I/O error", "kill", "power"}[t]
}

// Case says when which trouble comes.
type Case struct {
	Trouble Trouble
	At      int    // the operation, counted from 1
	Seed    uint64 // of what survives
}

func (c Case) String() string {
	return fmt.Sprintf("%s at operation %d, seed %d", c.Trouble, c.At, c.Seed)
}

// Cases gives every trouble at each of so many operations, with so many draws.
func Cases(operations, draws int) func(yield func(Case) bool) {
	return func(yield func(Case) bool) {
		for t := NoSpace; t < troubleNext; t++ {
			for at := 1; at <= operations; at++ {
				for seed := range draws {
					if !yield(Case{Trouble: t, At: at, Seed: uint64(seed)}) {
						return
					}
				}
			}
		}
	}
}

// Disk is such a file system. It has one process at a time, and one goroutine of it.
type Disk struct {
	Log []string // what was asked, for who looks for a fault

	trouble Case
	rng     *rand.Rand
	root    *node
	ops     int
	process int // the one that is alive
	dead    bool
	power   bool // it died by the machine's
	full    bool
}

// New makes an empty one.
func New(c Case) *Disk {
	return &Disk{trouble: c, rng: rand.New(rand.NewPCG(c.Seed, uint64(c.At))), root: newNode(fs.ModeDir | 0o700)}
}

// Operations says how many there were.
func (d *Disk) Operations() int { return d.ops }

// Dead tells whether the process has died.
func (d *Disk) Dead() bool { return d.dead }

// Trouble is what comes, or came.
func (d *Disk) Trouble() Trouble { return d.trouble.Trouble }

// Power tells whether it died with the machine.
func (d *Disk) Power() bool { return d.power }

// Mend ends all trouble.
func (d *Disk) Mend() { d.trouble, d.full = Case{}, false }

// Restart ends the process, if it lives, and begins another. If it was the machine that
// died, what survived is drawn. Trouble that is still to come comes.
func (d *Disk) Restart() {
	if d.power {
		d.root.lose(d.rng)
	}
	d.dead, d.power = false, false
	d.process++
}

// PowerLoss is a restart of the machine.
func (d *Disk) PowerLoss() {
	d.power = true
	d.Restart()
}

// step counts an operation. done tells whether one that is not refused reaches the
// kernel; it may where the process dies of it.
func (d *Disk) step(process int, room bool, what ...string) (done bool, err error) {
	if d.dead || process != d.process {
		return false, ErrDead
	}
	d.ops++
	d.Log = append(d.Log, strings.Join(what, " "))
	if d.full && room {
		return false, syscall.ENOSPC
	}
	if d.ops != d.trouble.At {
		return true, nil
	}
	switch d.trouble.Trouble {
	case NoSpace:
		if room {
			return false, syscall.ENOSPC
		}
	case Full:
		d.full = true
		if room {
			return false, syscall.ENOSPC
		}
	case IOError:
		return false, syscall.EIO
	case Kill, Power:
		d.dead, d.power = true, d.trouble.Trouble == Power
		return d.rng.IntN(2) == 0, ErrDead
	}
	return true, nil
}

func wrong(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// find gives a node, or the folder that it would be in.
func (d *Disk) find(name string) (in, n *node, base string) {
	n = d.root
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if n == nil || n.names == nil {
			return nil, nil, part
		}
		in, base = n, part
		n = n.names[part]
	}
	return in, n, base
}

// OpenFile opens and makes files.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	in, n, base := d.find(name)
	if n == nil && (in == nil || flag&os.O_CREATE == 0) {
		_, err := d.step(d.process, false, "open", name)
		return nil, wrong("open", name, errors.Join(fs.ErrNotExist, err))
	}
	if n != nil && flag&os.O_EXCL != 0 {
		return nil, wrong("open", name, fs.ErrExist)
	}
	done, err := d.step(d.process, n == nil, "open", name)
	if done {
		switch {
		case n == nil:
			n = newNode(perm)
			in.change(move{to: base, node: n})
		case flag&os.O_TRUNC != 0:
			n.truncate(0)
		}
	}
	if err != nil {
		return nil, wrong("open", name, err)
	}
	f := &file{disk: d, process: d.process, name: name, node: n, reads: flag&(os.O_WRONLY|os.O_RDWR) != os.O_WRONLY, writes: flag&(os.O_WRONLY|os.O_RDWR) != 0, appends: flag&os.O_APPEND != 0}
	return f, nil
}

// Stat tells what a name is.
func (d *Disk) Stat(name string) (fs.FileInfo, error) {
	if _, err := d.step(d.process, false, "stat", name); err != nil {
		return nil, wrong("stat", name, err)
	}
	_, n, base := d.find(name)
	if n == nil {
		return nil, wrong("stat", name, fs.ErrNotExist)
	}
	return info{base, n}, nil
}

// ReadDir lists a folder.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	if _, err := d.step(d.process, false, "readdir", name); err != nil {
		return nil, wrong("readdir", name, err)
	}
	_, n, _ := d.find(name)
	if n == nil || n.names == nil {
		return nil, wrong("readdir", name, fs.ErrNotExist)
	}
	var out []fs.DirEntry
	for _, base := range n.sorted() {
		out = append(out, fs.FileInfoToDirEntry(info{base, n.names[base]}))
	}
	return out, nil
}

// Mkdir makes a folder.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	in, n, base := d.find(name)
	switch {
	case n != nil:
		return wrong("mkdir", name, fs.ErrExist)
	case in == nil:
		return wrong("mkdir", name, fs.ErrNotExist)
	}
	done, err := d.step(d.process, true, "mkdir", name)
	if done {
		in.change(move{to: base, node: newNode(fs.ModeDir | perm)})
	}
	if err != nil {
		return wrong("mkdir", name, err)
	}
	return nil
}

// Rename renames within a folder.
func (d *Disk) Rename(from, to string) error { return d.name("rename", from, to) }

// Link gives a file a second name in its folder.
func (d *Disk) Link(from, to string) error { return d.name("link", from, to) }

func (d *Disk) name(op, from, to string) error {
	in, n, base := d.find(from)
	there, old, next := d.find(to)
	switch {
	case n == nil:
		return wrong(op, from, fs.ErrNotExist)
	case in != there:
		return wrong(op, to, errors.ErrUnsupported) // no store does
	case op == "link" && old != nil:
		return wrong(op, to, fs.ErrExist)
	}
	m := move{to: next, node: n}
	if op == "rename" {
		m.from = base
	}
	done, err := d.step(d.process, false, op, from, to)
	if done {
		in.change(m)
	}
	if err != nil {
		return wrong(op, from, err)
	}
	return nil
}

// Remove takes a name away.
func (d *Disk) Remove(name string) error {
	in, n, base := d.find(name)
	if n == nil {
		_, err := d.step(d.process, false, "remove", name)
		return wrong("remove", name, errors.Join(fs.ErrNotExist, err))
	}
	done, err := d.step(d.process, false, "remove", name)
	if done {
		in.change(move{from: base})
	}
	if err != nil {
		return wrong("remove", name, err)
	}
	return nil
}

// SyncDir keeps the names of a folder.
func (d *Disk) SyncDir(name string) error {
	_, n, _ := d.find(name)
	if n == nil || n.names == nil {
		return wrong("sync", name, fs.ErrNotExist)
	}
	done, err := d.step(d.process, false, "syncdir", name)
	switch {
	case done:
		n.sync()
	case errors.Is(err, syscall.EIO):
		n.drop(d.rng)
	}
	if err != nil {
		return wrong("sync", name, err)
	}
	return nil
}

type info struct {
	name string
	node *node
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.node.data)) }
func (i info) Mode() fs.FileMode  { return i.node.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.node.names != nil }
func (i info) Sys() any           { return nil }

// file is an open one.
type file struct {
	disk    *Disk
	process int
	name    string
	node    *node
	at      int
	reads   bool
	writes  bool
	appends bool
}

func (f *file) Read(p []byte) (int, error) {
	if _, err := f.disk.step(f.process, false, "read", f.name); err != nil {
		return 0, wrong("read", f.name, err)
	}
	if !f.reads {
		return 0, wrong("read", f.name, syscall.EBADF)
	}
	if f.at >= len(f.node.data) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[f.at:])
	f.at += n
	return n, nil
}

// Write writes, or a part where it ends in trouble.
func (f *file) Write(p []byte) (int, error) {
	if !f.writes {
		return 0, wrong("write", f.name, syscall.EBADF)
	}
	if f.disk.dead || f.process != f.disk.process {
		return 0, ErrDead
	}
	_, err := f.disk.step(f.process, true, "write", f.name)
	if err != nil {
		p = p[:f.disk.rng.IntN(len(p)+1)]
	}
	if f.appends {
		f.at = len(f.node.data)
	}
	f.node.write(f.at, p)
	f.at += len(p)
	if err != nil {
		return len(p), wrong("write", f.name, err)
	}
	return len(p), nil
}

func (f *file) Chmod(mode fs.FileMode) error {
	done, err := f.disk.step(f.process, false, "chmod", f.name)
	if done {
		f.node.mode = mode
	}
	return err
}

func (f *file) Truncate(size int64) error {
	done, err := f.disk.step(f.process, false, "truncate", f.name)
	if done {
		f.node.truncate(int(size))
	}
	if err != nil {
		return wrong("truncate", f.name, err)
	}
	return nil
}

func (f *file) Sync() error {
	done, err := f.disk.step(f.process, false, "sync", f.name)
	switch {
	case done:
		f.node.sync()
	case errors.Is(err, syscall.EIO):
		f.node.drop(f.disk.rng)
	}
	if err != nil {
		return wrong("sync", f.name, err)
	}
	return nil
}

// Close closes, which keeps nothing.
func (f *file) Close() error {
	if _, err := f.disk.step(f.process, false, "close", f.name); err != nil {
		return wrong("close", f.name, err)
	}
	return nil
}

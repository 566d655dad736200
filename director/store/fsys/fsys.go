// Package fsys owns how stores write files: so that a crash at any instant leaves
// the old or the new one. It never knows what they hold.
package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is what stores ask of a file system. OS is the one of this machine; that of
// package crashfs loses and reorders what was not synced.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Link(from, to string) error
	Remove(name string) error
	// SyncDir has the names in a folder outlast the machine. Syncing a file does not.
	SyncDir(name string) error
}

// File is an open file.
type File interface {
	io.ReadWriteCloser
	Chmod(mode fs.FileMode) error
	Truncate(size int64) error
	Sync() error
}

// OS is the file system of this machine.
type OS struct{}

// OpenFile is os.OpenFile.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

// Stat is os.Stat.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir is os.ReadDir.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Mkdir is os.Mkdir.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Link is os.Link.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir is fsync(2) of the folder.
func (OS) SyncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Temporary ends the name of a file that is being written. What has it and is found
// at a start is what an interrupted write left.
const Temporary = ".tmp"

// Replace writes a file, for this user alone, so that a crash at any instant leaves
// the old one or the new one, and the new one once it has returned nil: a file
// aside is synced, renamed into place, and the folder synced. It is tried again from
// the beginning or not at all: after a sync that was refused, the kernel takes what it
// could not write for written, and a second one says that all is well.
func Replace(fsys FS, path string, write func(io.Writer) error) error {
	aside := path + Temporary
	f, err := fsys.OpenFile(aside, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Chmod(0o600) // of one that was left there
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(aside, path)
	}
	if err != nil {
		_ = fsys.Remove(aside)
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// MkdirAll makes a folder and those above it where they are absent, and has their names
// outlast the machine: a file that is synced in a folder that is not is lost with it.
func MkdirAll(fsys FS, dir string, perm fs.FileMode) error {
	parent := filepath.Dir(dir)
	if info, err := fsys.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is no folder", dir)
		}
		// Whoever made it may have been killed before it was synced. If it cannot be
		// now, nothing is worse than it was.
		_ = fsys.SyncDir(parent)
		return nil
	}
	if parent != dir {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// A folder may be one that this user may write and not read.
	if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		_ = fsys.Remove(dir) // a later start must not take one for there that may be gone
		return err
	}
	return nil
}

// ReadFile reads a file whole, or its first octets up to a limit.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return io.ReadAll(io.LimitReader(f, limit))
}

// Folder is a folder of small files, for whoever knows no file system.
type Folder struct {
	FS  FS
	Dir string
}

// maxSmall is far more than any of them has.
const maxSmall = 64 << 10

// Path gives the path of a file.
func (f Folder) Path(name string) string { return filepath.Join(f.Dir, name) }

// Read reads a file.
func (f Folder) Read(name string) ([]byte, error) { return ReadFile(f.FS, f.Path(name), maxSmall) }

// Replace writes a file, as Replace does.
func (f Folder) Replace(name string, content []byte) error {
	return Replace(f.FS, f.Path(name), func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// Remove takes a file away.
func (f Folder) Remove(name string) error { return f.FS.Remove(f.Path(name)) }

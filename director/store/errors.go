package store

import (
	"errors"
	"fmt"

	"github.com/divertdns/divert/director/plan"
)

var (
	// ErrConflict says that the plan in the store is not the one that was
	// read. Nothing was written: read again, decide again.
	ErrConflict = errors.New("the plan changed meanwhile")
	// ErrNotLeader says that the term a write was bound to is over. Nothing
	// was written.
	ErrNotLeader = errors.New("this director's leadership is over")
	// ErrUnavailable says that etcd did not serve. Nothing was written.
	ErrUnavailable = errors.New("etcd is not available")
	// ErrDone comes with the stored result of a command that was committed
	// before under the same ID (S4).
	ErrDone = errors.New("the command was already done")
	// ErrReused says that an ID already names another command.
	ErrReused = errors.New("this ID already names another command: use a fresh one")
	// ErrUnreadable says that what is stored under a key is not what belongs there.
	ErrUnreadable = errors.New("cannot be read: it was damaged")
	// ErrTooLarge says that a plan or a spec passes what one store takes.
	ErrTooLarge = errors.New("too large for the store")
)

// unreadable names what cannot be read.
type unreadable struct{ what string }

func (u *unreadable) Error() string { return u.what + " " + ErrUnreadable.Error() }

// Is makes it one of ErrUnreadable.
func (u *unreadable) Is(target error) bool { return target == ErrUnreadable }

// UnknownOutcome says that a write was sent and no answer came: it may have
// been done, or be done yet. Repeating the command under the same ID is safe
// and tells (S4).
type UnknownOutcome struct {
	ID  string
	Err error // the last thing that went wrong
}

func (u *UnknownOutcome) Error() string {
	return fmt.Sprintf("it is not known whether command %s was done (%v): repeat it with the same ID", u.ID, u.Err)
}

// Unwrap gives the cause.
func (u *UnknownOutcome) Unwrap() error { return u.Err }

// Missing says that the store lacks blobs which a plan names, and that the
// writer did not bring. A director that holds the spec can: Commit writes all
// the Chunks that it is given.
type Missing struct{ Hashes []plan.Hash }

func (m *Missing) Error() string {
	return fmt.Sprintf("the store lacks %d blobs of the spec, the first is %s", len(m.Hashes), m.Hashes[0].Short())
}

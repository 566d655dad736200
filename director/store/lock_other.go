//go:build !unix

package store

// LockDir has no lock that dies with the process on this system, and takes none.
func LockDir(string) (release func(), err error) { return func() {}, nil }

//go:build !unix

package etcd

// LimitConnections does nothing where a process' files are not limited.
func LimitConnections() error { return nil }

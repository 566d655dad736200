// Package local owns a whole fleet of real processes on loopback: etcd,
// directors, clusters and the relays between them, for `divert demo` and the
// end-to-end tests. It never needs a privilege, and never touches a process that
// it did not start.
package local

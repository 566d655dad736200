// Package e2e owns the end-to-end suite: real `divert serve` processes, a real
// `divert etcd`, real HTTP backends and real queries. It has tests only, and
// never runs what is not its own.
package e2e

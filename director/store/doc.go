// Package store owns where the fleet's intent is kept: the plan, its blobs,
// the audit log, command results and acknowledgements in etcd, written only by
// fenced transactions, and the last good generations on this director's disk.
// It never decides what a plan says (director/core does), nor whether a plan
// may be used (director/plan does), and no answer ever waits for it.
package store

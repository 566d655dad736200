// Package etcd owns the two ways in which divert meets etcd as an election: it
// runs etcd's server as a process of its own (Serve, Child), and it campaigns
// for the leadership with a leased key (Campaign). It never writes a plan, and
// never runs a server inside a director's own process.
package etcd

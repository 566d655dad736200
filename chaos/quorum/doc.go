// Package quorum tries commands on what they are kept in: a real etcd of three members,
// killed, paused and parted, and leaders that stop or die at any step of a write. It has
// tests only, and never touches a store that is not its own.
package quorum

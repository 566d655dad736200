// Command lab measures how soon a fleet of real directors takes a dead endpoint out of
// its answers, and that it takes no living one out: real processes in network
// namespaces of its own, packets dropped by nftables and delayed by a relay, and gdnsd
// and PowerDNS beside it under the same faults. It never touches what is outside its
// namespaces, and leaves nothing behind.
package main

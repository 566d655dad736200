// Package policy judges people's commands by rules that the fleet's owners wrote in Rego:
// it reads a bundle, compiles it once with builtins that have no network, clock, random or
// host, and says what the rules deny of one input, within a deadline. It never changes
// anything, never fetches anything, and is never asked on the way of an answer, a failover
// or a leader's own write. It is the only door to OPA.
package policy

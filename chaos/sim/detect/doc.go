// Package detect simulates the detection of a dead target: observers who probe it
// through a network that loses, delays and bursts, their suspicion, and the rule by
// which they agree. It owns the made-up world only; suspicion, caps and threshold are
// health's own. It is pure and seeded, so the same seed gives the same result, and
// never opens a socket or looks at a clock.
package detect

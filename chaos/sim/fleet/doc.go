// Package fleet simulates a whole fleet: directors that agree, plan and crash, a
// model of etcd, a network that loses and parts, people who command, and targets that
// die. It owns the made-up world, and the checks of INVARIANTS after every step; what
// directors decide is director/core's, director/steer's, director/plan's,
// director/store's and health's own code. It is pure and seeded, so the same scenario
// gives the same run, and never opens a socket, starts a goroutine or looks at a clock.
package fleet

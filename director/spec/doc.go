// Package spec owns the resource kinds and the director's settings: parsing,
// defaults, cross-checks and differences. It never reads a network and never
// decides what to do about a spec.
package spec

// Package gossip owns how directors find and hear each other: memberlist, a
// director's signing identity, and the signed envelope that carries opaque
// payloads. It drops and counts what is malformed, unsigned, foreign, stale or
// replayed. It never interprets a payload and never decides who may vote: the
// roster is asked for, not kept.
package gossip

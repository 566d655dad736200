// Package plan owns the fenced document of intent: its encoding, identity,
// order and signature. It never decides what a plan should say (director/core
// does) and never stores one (director/store does).
package plan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative director/plan/plan.proto

// Format is the envelope format that this code writes and the newest it reads.
const Format = 1

// Reader is the newest content of plans that this code reads: a plan names in
// MinReader what it takes.
const Reader = ReaderDangers

// What a plan may take of its readers. One that knows less would refuse the spec, or,
// of what came with ReaderProbes, read it as something else; told by MinReader it says
// that it is too old.
const (
	ReaderFirst      = 1
	ReaderHostnames  = 2  // endpoints that are hostnames
	ReaderProbes     = 3  // probes besides http and tcp, how they are combined, what clusters are reached through, and how sites return
	ReaderPaced      = 4  // drains in steps
	ReaderRollout    = 5  // a spec that some directors try first
	ReaderInterlocks = 6  // interlocks in the spec: one who passed over them would commit what they forbid
	ReaderSpill      = 7  // what sites shed since they are too busy
	ReaderOperators  = 8  // operators: one who knows none would go on answering with what they drain
	ReaderPersons    = 9  // two persons: one who knows of none would commit what waits for the second
	ReaderPolicy     = 10 // a policy: one who knows none would commit what it denies
	ReaderAccess     = 12 // tokens of access: one who knows none would not hold a plan to how many there may be, and for how long
	ReaderFleet      = 13 // a turn-over of the gossip key: one who knows none would be left behind by it
	ReaderSecrets    = 14 // secrets of the fleet: one who knows none would go on without them, and re-encrypt none
	ReaderResidency  = 15 // residency by policy: one who knows none would answer with what it keeps from clients
	ReaderDangers    = 17 // all that takes two persons now: one who knows less would commit by one what others refuse
)

// Hash is the SHA-256 of a payload as it was written.
type Hash [sha256.Size]byte

// Sum hashes a payload.
func Sum(payload []byte) Hash { return sha256.Sum256(payload) }

// String gives the hash in full, in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short gives the first eight octets in hexadecimal, for people.
func (h Hash) Short() string { return hex.EncodeToString(h[:8]) }

// Identity names one plan (S3): two plans are the same when all four fields
// are. The zero Identity is "no plan".
type Identity struct {
	Fleet    string
	Epoch    uint64
	Revision uint64
	Hash     Hash
}

// IsZero tells whether the identity names no plan.
func (i Identity) IsZero() bool { return i == Identity{} }

// Compare orders by epoch, then revision: our own counters, never etcd's (S3).
// The fleet and the hash take no part; callers refuse another fleet, and the
// same order with another hash, before they compare.
func (i Identity) Compare(o Identity) int {
	return cmp.Or(cmp.Compare(i.Epoch, o.Epoch), cmp.Compare(i.Revision, o.Revision))
}

// String is what `plan.divert. CH TXT` answers and ParseIdentity reads:
// "fleet=… epoch=… revision=… hash=…", the hash in full.
func (i Identity) String() string {
	return fmt.Sprintf("fleet=%s epoch=%d revision=%d hash=%s", i.Fleet, i.Epoch, i.Revision, i.Hash)
}

// ParseIdentity reads what String wrote.
func ParseIdentity(s string) (Identity, error) {
	var i Identity
	var sum string
	if _, err := fmt.Sscanf(s, "fleet=%s epoch=%d revision=%d hash=%s", &i.Fleet, &i.Epoch, &i.Revision, &sum); err != nil {
		return Identity{}, fmt.Errorf("plan identity %q: %w", s, err)
	}
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != len(i.Hash) {
		return Identity{}, fmt.Errorf("plan identity %q: the hash is not %d hexadecimal octets", s, len(i.Hash))
	}
	copy(i.Hash[:], raw)
	return i, nil
}

// Director finds a roster entry by name; nil when there is none.
func (p *Plan) Director(name string) *Director {
	for _, d := range p.GetRoster() {
		if d.GetName() == name {
			return d
		}
	}
	return nil
}

// Switch finds a switch by name; nil, which is off, when nobody has turned it.
func (p *Plan) Switch(name string) *Switch {
	for _, s := range p.GetSwitches() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

// Token finds a token by name; nil when there is none.
func (p *Plan) Token(name string) *Token {
	for _, t := range p.GetTokens() {
		if t.GetName() == name {
			return t
		}
	}
	return nil
}

// Active lists the roster entries that count in N: every name not removed,
// those without a key too.
func (p *Plan) Active() []*Director {
	var out []*Director
	for _, d := range p.GetRoster() {
		if d.GetStanding() == Director_ACTIVE {
			out = append(out, d)
		}
	}
	return out
}

// Holder finds the active director that owns a public key; nil when none does.
func (p *Plan) Holder(key []byte) *Director {
	for _, d := range p.Active() {
		if len(key) > 0 && bytes.Equal(d.GetKey(), key) {
			return d
		}
	}
	return nil
}

// Soaking gives the rollout under way; nil when there is none.
func (p *Plan) Soaking() *Rollout {
	if r := p.GetRollout(); r.GetState() == Rollout_SOAKING && r.GetCanary() != nil {
		return r
	}
	return nil
}

// Canary tells whether a director answers from the spec of a rollout.
func (p *Plan) Canary(director string) bool {
	return slices.Contains(p.Soaking().GetOn(), director)
}

// Specs lists the documents that a plan needs: what is answered from, then what a rollout
// tries. What `divert revert` would go back to is not among them.
func (p *Plan) Specs() []*SpecRef {
	out := []*SpecRef{p.GetSpec()}
	if r := p.Soaking(); r != nil {
		out = append(out, r.GetCanary())
	}
	return out
}

// Kept lists the documents whose blobs are not to be collected.
func (p *Plan) Kept() []*SpecRef {
	out := p.Specs()
	if p.GetPrevious() != nil {
		out = append(out, p.GetPrevious())
	}
	if p.GetPolicy() != nil {
		out = append(out, p.GetPolicy().GetBundle())
	}
	for _, r := range p.GetRequests() {
		if r.GetBundle() != nil {
			out = append(out, r.GetBundle())
		}
	}
	if p.GetVault() != nil {
		out = append(out, p.GetVault())
	}
	return out
}

// Secret finds a secret by its name; nil where there is none.
func (p *Plan) Secret(name string) *Secret {
	for _, s := range p.GetSecrets() {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

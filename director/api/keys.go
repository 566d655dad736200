package api

import (
	"time"

	"github.com/divertdns/divert/director/core"
)

// GossipKey says under which keys a director gossips: their fingerprints, and nothing from
// which one could be had.
type GossipKey struct {
	Key   string   `json:"key"`             // it sends under this one
	Also  string   `json:"also,omitempty"`  // and takes what comes under this one, too
	Fleet string   `json:"fleet,omitempty"` // what the plan says all have; none before the first turn-over
	Turn  *KeyTurn `json:"turn,omitempty"`  // under way
}

// EnrolToken takes one director into the roster; the token itself nobody has but its holder.
type EnrolToken struct {
	ID     string    `json:"id"`
	Name   string    `json:"name,omitempty"` // the director that it is for; none: any new one
	Site   string    `json:"site,omitempty"`
	Author string    `json:"author"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Over   bool      `json:"over,omitempty"` // it ended unused
}

// KeyTurn is a turn-over from one gossip key to another.
type KeyTurn struct {
	ID     string          `json:"id"`
	From   string          `json:"from"`
	To     string          `json:"to"`
	Phase  string          `json:"phase"` // add, use, remove
	Doing  string          `json:"doing"` // the same in words
	Back   bool            `json:"back,omitempty"`
	Author string          `json:"author"`
	Reason string          `json:"reason"`
	Since  time.Time       `json:"since"`           // when the phase began
	Waits  []core.TurnWait `json:"waits,omitempty"` // who has not done it yet, as the asked director sees it
}

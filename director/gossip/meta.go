package gossip

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/encoding/protowire"
)

// Meta is what a director says of itself to all that share its gossip. It is a
// hint: only the roster says who counts.
type Meta struct {
	Fleet   string            // fleet ID; "" before a plan is known
	Site    string            // fault domain, as its own settings have it
	DNS     string            // host:port at which peers ask it plan.divert.; "" of a witness
	HasPlan bool              // it holds a plan
	Key     ed25519.PublicKey // filled in by the Node
	Gossip  string            // advertised gossip address, filled in by the Node
	// Geo is the hash of the geo table that it places clients by, in hexadecimal; "" =
	// it does not say. It is left out where it would not fit.
	Geo string
	// Reads is the newest content of plans that it reads; 0 = it does not say. It is left
	// out where it would not fit.
	Reads uint32
}

// The fields of version 1, in protobuf's wire format, so that a later version
// may add some and this one skips them.
const (
	metaVersion = 1
	metaTag     = "divert meta v1\x00"

	metaFleet   protowire.Number = 1
	metaSite    protowire.Number = 2
	metaDNS     protowire.Number = 3
	metaHasPlan protowire.Number = 4
	metaKey     protowire.Number = 5
	metaGossip  protowire.Number = 6
	metaGeo     protowire.Number = 7
	metaReads   protowire.Number = 8

	maxGeo = 16 // octets
)

// seal encodes the meta and proves the possession of its key: the signature
// covers the name and the address, so nobody can show it under another.
func (m Meta) seal(name string, key ed25519.PrivateKey) ([]byte, error) {
	if !m.plain() {
		return nil, fmt.Errorf("what %s says of itself holds a character that does not print, or a fleet ID of more than %d octets", name, maxFleet)
	}
	raw := []byte{metaVersion}
	text := func(n protowire.Number, s string) {
		if s != "" {
			raw = protowire.AppendTag(raw, n, protowire.BytesType)
			raw = protowire.AppendString(raw, s)
		}
	}
	text(metaFleet, m.Fleet)
	text(metaSite, m.Site)
	text(metaDNS, m.DNS)
	text(metaKey, string(m.Key))
	text(metaGossip, m.Gossip)
	if m.HasPlan {
		raw = protowire.AppendTag(raw, metaHasPlan, protowire.VarintType)
		raw = protowire.AppendVarint(raw, 1)
	}
	// A director that said all else before these were there to be said must go on
	// saying that.
	if reads := protowire.AppendVarint(protowire.AppendTag(nil, metaReads, protowire.VarintType), uint64(m.Reads)); m.Reads > 0 && len(raw)+len(reads)+ed25519.SignatureSize <= memberlist.MetaMaxSize {
		raw = append(raw, reads...)
	}
	if hash, err := hex.DecodeString(m.Geo); err != nil || len(hash) > maxGeo {
		return nil, fmt.Errorf("the hash of a geo table is %q", m.Geo)
	} else if len(raw)+2+len(hash)+ed25519.SignatureSize <= memberlist.MetaMaxSize {
		text(metaGeo, string(hash))
	}
	raw = append(raw, ed25519.Sign(key, metaSigned(name, raw))...)
	if len(raw) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("what %s says of itself takes %d octets, memberlist carries %d: shorten its site or its DNS address", name, len(raw), memberlist.MetaMaxSize)
	}
	return raw, nil
}

var errMeta = errors.New("meta is malformed or not signed by its key")

// openMeta reads what a director says of itself and checks that it holds the
// key that it names.
func openMeta(name string, raw []byte) (Meta, error) {
	end := len(raw) - ed25519.SignatureSize
	if end < 1 || len(raw) > memberlist.MetaMaxSize || raw[0] != metaVersion {
		return Meta{}, errMeta
	}
	var m Meta
	for rest := raw[1:end]; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return Meta{}, errMeta
		}
		rest = rest[n:]
		var size int
		switch typ {
		case protowire.BytesType:
			var v []byte
			if v, size = protowire.ConsumeBytes(rest); size >= 0 {
				m.set(num, v)
			}
		case protowire.VarintType:
			var v uint64
			if v, size = protowire.ConsumeVarint(rest); size >= 0 {
				m.number(num, v)
			}
		default:
			size = protowire.ConsumeFieldValue(num, typ, rest)
		}
		if size < 0 {
			return Meta{}, errMeta
		}
		rest = rest[size:]
	}
	if len(m.Key) != ed25519.PublicKeySize || !m.plain() || !ed25519.Verify(m.Key, metaSigned(name, raw[:end]), raw[end:]) {
		return Meta{}, errMeta
	}
	if addr, err := netip.ParseAddrPort(m.Gossip); err != nil || addr.String() != m.Gossip {
		return Meta{}, errMeta
	}
	return m, nil
}

// plain says that the texts may be shown to people.
func (m Meta) plain() bool {
	for _, s := range []string{m.Fleet, m.Site, m.DNS} {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return false
		}
	}
	return len(m.Fleet) <= maxFleet
}

func (m *Meta) number(num protowire.Number, v uint64) {
	switch num {
	case metaHasPlan:
		m.HasPlan = v != 0
	case metaReads:
		m.Reads = uint32(min(v, math.MaxUint32))
	}
}

func (m *Meta) set(num protowire.Number, v []byte) {
	switch num {
	case metaFleet:
		m.Fleet = string(v)
	case metaSite:
		m.Site = string(v)
	case metaDNS:
		m.DNS = string(v)
	case metaKey:
		m.Key = append(ed25519.PublicKey(nil), v...)
	case metaGossip:
		m.Gossip = string(v)
	case metaGeo:
		if m.Geo = ""; len(v) <= maxGeo {
			m.Geo = hex.EncodeToString(v)
		}
	}
}

func metaSigned(name string, body []byte) []byte {
	out := append([]byte(metaTag), byte(len(name)))
	out = append(out, name...)
	return append(out, body...)
}

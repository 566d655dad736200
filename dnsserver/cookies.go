package dnsserver

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

// cookieTick is how often the secrets are looked at. It is well below the time for
// which those of the next epoch are held ready.
const cookieTick = time.Minute

// cookieKey is what the secrets of all epochs are made from.
func cookieKey(secret []byte) []byte {
	if len(secret) > 0 {
		return secret
	}
	own := make([]byte, sha256.Size)
	rand.Read(own) // it never fails: crypto/rand
	return own
}

// cookieKeys is what secrets are made from, and which of them are in force.
type cookieKeys struct {
	own []byte // that of the options

	mu      sync.Mutex
	shared  [][]byte // see UseCookies
	pending bool
	made    []int64 // epochs of the secrets in force
}

// maxCookieKeys bounds what a packet with a bad cookie costs: one hash each.
const maxCookieKeys = 4

// UseCookies has cookies made from the first of the keys, and taken from each of them and
// from that of the options; with none, from that alone. While pending, they are made from
// that of the options still.
func (s *Server) UseCookies(keys [][]byte, pending bool) error {
	if len(keys) > maxCookieKeys {
		return fmt.Errorf("dns cookies: %d keys, at most %d", len(keys), maxCookieKeys)
	}
	for _, k := range keys {
		if len(k) < 16 {
			return fmt.Errorf("dns cookies: a key of %d octets can be guessed", len(k))
		}
	}
	s.cookieKeys.mu.Lock()
	defer s.cookieKeys.mu.Unlock()
	s.cookieKeys.shared, s.cookieKeys.pending = slices.Clone(keys), pending
	return s.makeCookies(time.Now())
}

// secretsAt derives the secrets that are needed at t. Directors with the same key
// derive the same (HKDF, RFC 5869), and the epoch makes each useless for all others.
func secretsAt(t time.Time, keys ...[]byte) (answer.CookieSecrets, error) {
	var out answer.CookieSecrets
	for _, key := range keys {
		for _, epoch := range answer.CookieEpochs(t) {
			info := binary.BigEndian.AppendUint64([]byte("divert dns cookie "), uint64(epoch))
			derived, err := hkdf.Key(sha256.New, key, nil, string(info), 16)
			if err != nil {
				return nil, err
			}
			out = append(out, answer.CookieSecret{Epoch: epoch, Key: [16]byte(derived)})
		}
	}
	return out, nil
}

// rotate keeps the secrets those of now until ctx ends.
func (s *Server) rotate(ctx context.Context) error {
	tick := time.NewTicker(cookieTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := s.turnCookies(now); err != nil {
				return err
			}
		}
	}
}

func (s *Server) turnCookies(now time.Time) error {
	s.cookieKeys.mu.Lock()
	defer s.cookieKeys.mu.Unlock()
	if slices.Equal(s.cookieKeys.made, answer.CookieEpochs(now)) {
		return nil
	}
	return s.makeCookies(now)
}

// makeCookies has the secrets of now in force, under the lock of their keys.
func (s *Server) makeCookies(now time.Time) error {
	keys := append(slices.Clone(s.cookieKeys.shared), s.cookieKeys.own)
	if s.cookieKeys.pending {
		keys = append([][]byte{s.cookieKeys.own}, s.cookieKeys.shared...)
	}
	next, err := secretsAt(now, keys...)
	if err != nil {
		return err
	}
	s.cookieKeys.made = answer.CookieEpochs(now)
	s.cookies.Store(&next)
	return nil
}

// pressure tells when a worker has more than it can do: it reads full batches, one
// after the other. Then who sends a cookie that proves nothing is told to come with
// a good one (RFC 7873 section 5.2.3).
type pressure struct {
	full  int // batches in a row
	until time.Time
}

const (
	pressedAfter = 32 // batches
	pressedFor   = time.Second
)

func (p *pressure) note(full bool, now time.Time) bool {
	if !full {
		p.full = 0
	} else if p.full++; p.full >= pressedAfter {
		p.until = now.Add(pressedFor)
	}
	return now.Before(p.until)
}

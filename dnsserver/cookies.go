package dnsserver

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
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

// secretsAt derives the secrets that are needed at t. Directors with the same key
// derive the same (HKDF, RFC 5869), and the epoch makes each useless for all others.
func secretsAt(key []byte, t time.Time) (answer.CookieSecrets, error) {
	var out answer.CookieSecrets
	for _, epoch := range answer.CookieEpochs(t) {
		info := binary.BigEndian.AppendUint64([]byte("divert dns cookie "), uint64(epoch))
		derived, err := hkdf.Key(sha256.New, key, nil, string(info), 16)
		if err != nil {
			return nil, err
		}
		out = append(out, answer.CookieSecret{Epoch: epoch, Key: [16]byte(derived)})
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
	old := s.cookies.Load()
	epochs := answer.CookieEpochs(now)
	if old != nil && slices.EqualFunc(epochs, *old, func(e int64, c answer.CookieSecret) bool { return e == c.Epoch }) {
		return nil
	}
	next, err := secretsAt(s.cookieKey, now)
	if err != nil {
		return err
	}
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

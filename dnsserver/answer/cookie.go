package answer

import (
	"net/netip"
	"time"

	"github.com/dchest/siphash"
)

// DNS cookies (RFC 7873), made as RFC 9018 says, so that all directors of a fleet
// take one another's: a client that moves between them keeps its own.

const (
	clientCookieLen = 8
	serverCookieLen = 16
	minServerCookie = 8 // of any maker
	maxServerCookie = 32

	// A cookie is good for an hour, and made anew after half of it (RFC 9018
	// section 4.3). A clock that is ahead of ours by less than this is believed.
	cookieLife   = time.Hour
	cookieRenew  = 30 * time.Minute
	cookieAhead  = 5 * time.Minute
	cookieFormat = 1
)

// CookieEpoch is how long one secret makes cookies.
const CookieEpoch = 24 * time.Hour

// CookieSecret is a secret of one epoch.
type CookieSecret struct {
	Epoch int64 // Unix time / CookieEpoch, of the cookies that it makes
	Key   [16]byte
}

// CookieSecrets are those of all the epochs whose cookies may be good now: the
// time of a cookie names the one that made it, so no roll-over is ever seen. Of those
// of one epoch the first makes cookies, and what the others made is good, too: while a
// fleet turns its key over, some have the next one and some do not. nil means no
// cookies.
type CookieSecrets []CookieSecret

// EpochOf gives the epoch of cookies that are made at t.
func EpochOf(t time.Time) int64 { return floorDiv(t.Unix(), int64(CookieEpoch/time.Second)) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// CookieEpochs lists the epochs whose secrets are needed at t.
func CookieEpochs(t time.Time) []int64 {
	first, last := EpochOf(t.Add(-cookieLife)), EpochOf(t.Add(cookieAhead))
	out := []int64{first}
	for first < last {
		first++
		out = append(out, first)
	}
	return out
}

func (s CookieSecrets) of(epoch int64) *CookieSecret {
	for i := range s {
		if s[i].Epoch == epoch {
			return &s[i]
		}
	}
	return nil
}

// CookieState is what a query's cookie proves about its sender.
type CookieState uint8

// The states of a cookie.
const (
	CookieNone  CookieState = iota // none was sent, or none is understood
	CookieNew                      // a client's alone: it may be anybody's
	CookieBad                      // with a server's part that is not good, or no longer
	CookieValid                    // the address is no spoofed one
)

// cookie is the option as sent.
type cookie struct {
	present bool
	client  [clientCookieLen]byte
	server  []byte // as sent
	state   CookieState
	renew   bool // what is sent back is new
}

// parse reads the option; false: its length is not one of RFC 7873 section 4.
func (c *cookie) parse(body []byte) (ok bool) {
	n := len(body) - clientCookieLen
	if n < 0 || n > 0 && n < minServerCookie || n > maxServerCookie {
		return false
	}
	c.present = true
	copy(c.client[:], body)
	c.server = body[clientCookieLen:]
	return true
}

// judge sets the cookie's state.
func (c *cookie) judge(secrets CookieSecrets, from netip.Addr, now time.Time) {
	if !c.present || len(secrets) == 0 {
		c.present = false
		return
	}
	c.state, c.renew = CookieNew, true
	if len(c.server) == 0 {
		return
	}
	c.state = CookieBad
	if len(c.server) != serverCookieLen || c.server[0] != cookieFormat {
		return
	}
	// RFC 1982 arithmetic, as RFC 9018 section 4.3 wants it.
	age := int64(int32(uint32(now.Unix()) - be32(c.server[4:])))
	if age > int64(cookieLife/time.Second) || age < -int64(cookieAhead/time.Second) {
		return
	}
	epoch, first := floorDiv(now.Unix()-age, int64(CookieEpoch/time.Second)), true
	for i := range secrets {
		if secrets[i].Epoch != epoch {
			continue
		}
		if c.hash(&secrets[i], (*[8]byte)(c.server), from) == le64(c.server[8:]) {
			c.state = CookieValid
			c.renew = age > int64(cookieRenew/time.Second) || !first
			return
		}
		first = false
	}
}

// hash is that of RFC 9018 section 4.4: client cookie, version, reserved,
// timestamp and the client's address.
func (c *cookie) hash(secret *CookieSecret, head *[8]byte, from netip.Addr) uint64 {
	var input [clientCookieLen + 8 + 16]byte
	copy(input[:], c.client[:])
	copy(input[clientCookieLen:], head[:])
	n := clientCookieLen + 8
	if from.Is4() || from.Is4In6() {
		b := from.As4()
		n += copy(input[n:], b[:])
	} else {
		b := from.As16()
		n += copy(input[n:], b[:])
	}
	return siphash.Hash(le64(secret.Key[:]), le64(secret.Key[8:]), input[:n])
}

// size is what the option takes in a reply.
func (c *cookie) size() int {
	if !c.present {
		return 0
	}
	return 4 + clientCookieLen + serverCookieLen
}

// write appends the option of the reply.
func (c *cookie) write(w *writer, secrets CookieSecrets, from netip.Addr, now time.Time) {
	w.uint16(optionCookie)
	w.uint16(clientCookieLen + serverCookieLen)
	w.msg = append(w.msg, c.client[:]...)
	if !c.renew {
		w.msg = append(w.msg, c.server...)
		return
	}
	head := [8]byte{cookieFormat}
	put32(head[4:], uint32(now.Unix()))
	secret := secrets.of(EpochOf(now))
	if secret == nil {
		secret = &secrets[len(secrets)-1]
	}
	hash := c.hash(secret, &head, from)
	w.msg = append(w.msg, head[:]...)
	var sum [8]byte
	putLE64(sum[:], hash)
	w.msg = append(w.msg, sum[:]...)
}

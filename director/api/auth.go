package api

import (
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/divertdns/divert/director/access"
)

// errUnknown is all that is said of a credential that is no good: which part of it was
// wrong helps nobody who should know.
var (
	errUnknown = errors.New("this token is not in force: it was never made, has expired or was revoked")
	errNobody  = errors.New("who asks is not said")
)

// authenticate finds out who asks. Whoever sends a bearer's token goes by that alone,
// whatever else he might show. On loopback whoever has none is nobody in particular.
func (s *Server) authenticate(via string, r *http.Request) (access.Identity, error) {
	if text, given := bearer(r); given {
		return s.bearerOf(r, text, time.Now())
	}
	switch via {
	case viaSocket:
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		id, err := s.peerIdentity(conn)
		if errors.Is(err, errNoPeer) { // reading needs nobody's name here
			return s.anonymous(), nil
		}
		return id, err
	case viaTLS:
		return s.certified(r, time.Now())
	default:
		return s.anonymous(), nil
	}
}

// anonymous is whoever asks on loopback without a credential. As long as nothing says who
// may do what, the whole machine may read all.
func (s *Server) anonymous() access.Identity {
	return access.Identity{
		Who: string(access.Loopback), Method: access.Loopback,
		Guarded: len(s.grants) > 0 || s.issuer != nil || s.reviews != nil,
	}
}

// bearer gives the token of a request (RFC 6750 section 2.1: in the header, nowhere
// else).
func bearer(r *http.Request) (text string, given bool) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", false
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", true // something is claimed, and it is no token
	}
	return strings.TrimSpace(rest), true
}

func (s *Server) bearerOf(r *http.Request, text string, now time.Time) (access.Identity, error) {
	if s.reviews != nil && strings.Count(text, ".") == 2 {
		if id, ours, err := s.reviews.Review(r.Context(), network(r.RemoteAddr), text); ours {
			if err != nil {
				return access.Identity{}, err
			}
			id.Grants = access.Granted(s.grants, id.Who, id.Groups)
			return id, nil
		}
	}
	if s.issuer != nil && strings.Count(text, ".") == 2 {
		id, err := s.issuer.Identify(text, now)
		if err != nil {
			return access.Identity{}, err
		}
		id.Grants = access.Granted(s.grants, id.Who, id.Groups)
		return id, nil
	}
	sum, ok := access.SumSecret(text)
	if !ok || s.bearers == nil {
		return access.Identity{}, errUnknown
	}
	b, ok := access.Find(s.bearers(), sum, now)
	if !ok {
		return access.Identity{}, errUnknown
	}
	return b.Identity(), nil
}

// certified is who a client's certificate names. The handshake has verified it; a
// connection may outlive it.
func (s *Server) certified(r *http.Request, now time.Time) (access.Identity, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return access.Identity{}, errNobody
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if now.After(leaf.NotAfter) {
		return access.Identity{}, errors.New("the client's certificate has expired")
	}
	if pair := s.files.Current(); pair != nil && pair.Revoked(leaf) {
		return access.Identity{}, errors.New("the client's certificate was revoked: ask for a new one")
	}
	return certIdentity(leaf, s.grants)
}

func certIdentity(leaf *x509.Certificate, grants []access.Grant) (access.Identity, error) {
	who, err := access.Name(access.Certificate, leaf.Subject.CommonName)
	if err != nil {
		return access.Identity{}, err
	}
	id := access.Identity{Who: who, Method: access.Certificate, Expires: leaf.NotAfter}
	for _, o := range leaf.Subject.Organization {
		id.Groups = append(id.Groups, access.Group(access.Certificate, o))
	}
	id.Grants = access.Granted(grants, id.Who, id.Groups)
	return id, nil
}

// peerIdentity is the operating system's user at the other end of a unix socket, as the
// kernel vouches for it: by name, or "uid 1234" for one that this machine has no name
// for. This process's own user, and root, may do all: they could change the director
// itself.
func (s *Server) peerIdentity(conn net.Conn) (access.Identity, error) {
	uid, err := peerID(conn)
	if err != nil {
		return access.Identity{}, err
	}
	id := access.Identity{Method: access.Unix}
	number := strconv.FormatUint(uint64(uid), 10)
	name := "uid " + number
	u, err := user.LookupId(number)
	if err == nil && u.Username != "" {
		name = u.Username
	}
	if id.Who, err = access.Name(access.Unix, name); err != nil {
		return access.Identity{}, err
	}
	if uid == 0 || int(uid) == os.Getuid() {
		id.Grants = []access.Grant{access.Whole(id.Who)}
		return id, nil
	}
	if u != nil && s.sharesSocket() {
		id.Groups = unixGroups(u)
	}
	id.Grants = access.Granted(s.grants, id.Who, id.Groups)
	return id, nil
}

// unixGroups are the groups that the system's files list for a user. Of those that a
// process has taken on beside them the kernel's word says nothing.
func unixGroups(u *user.User) []string {
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	var out []string
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			out = append(out, access.Group(access.Unix, g.Name))
		}
	}
	return out
}

// still tells whether whoever began to follow the events may go on.
func (s *Server) still(r *http.Request) bool {
	id, err := s.authenticate(listenerOf(r.Context()), r)
	if err != nil {
		return false
	}
	ok, _ := access.Allow(id, access.See)
	return ok
}

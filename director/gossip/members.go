package gossip

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxMembers bounds what others can make this director remember.
const maxMembers = 256

// Member is a director that gossips with this one, as it describes itself.
type Member struct {
	Name  string
	Addr  string // host:port that it advertises
	Meta  Meta
	Since time.Time // when it was last seen to join, on this clock
}

// members is the Node's own copy of the membership: what memberlist hands out
// are pointers into its live state. memberlist's events write it.
type members struct {
	node *Node

	mu    sync.Mutex
	known map[string]member
	// moved holds where members say that they are now, while memberlist still
	// holds them to be elsewhere.
	moved map[string]memberlist.Node
	// last holds where registered directors that are gone were last.
	last map[string]string
	// proofs remembers the metas whose signature was verified, since the same
	// one comes many times.
	proofs map[[sha256.Size]byte]Meta
}

type member struct {
	Member
	node memberlist.Node // a copy
}

func newMembers(n *Node) *members {
	return &members{node: n, known: map[string]member{}, moved: map[string]memberlist.Node{}, last: map[string]string{}, proofs: map[[sha256.Size]byte]Meta{}}
}

// Members lists the directors that gossip with this one, itself included, by
// name. A suspect that may still answer is one of them.
func (n *Node) Members() []Member {
	own := n.opts.Fleet()
	n.members.mu.Lock()
	defer n.members.mu.Unlock()
	out := make([]Member, 0, len(n.members.known))
	for _, m := range n.members.known {
		if n.members.genuine(m, own) {
			out = append(out, m.Member)
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// foreign tells whether two fleets are known and differ. A director without a
// plan is of no fleet yet.
func foreign(own, other string) bool { return own != "" && other != "" && own != other }

// genuine tells whether a member is of our fleet and has the roster's key or,
// where the roster has none, the key that its name speaks under now. One that
// was let in before the fleet or the key was known may not be: it must not stand
// in the way of the director whose name it took, nor must a lost disk's record.
func (s *members) genuine(m member, own string) bool {
	pin := s.node.opts.Keys(m.Name)
	if len(pin) == 0 && m.Name != s.node.opts.Name {
		pin = s.node.claims.of(m.Name, time.Now())
	}
	return !foreign(own, m.Meta.Fleet) && (len(pin) == 0 || bytes.Equal(pin, m.Meta.Key))
}

// admit decides whether memberlist may take a node in. A name that the roster
// knows is taken with the roster's key only, and no other fleet at all.
func (s *members) admit(node *memberlist.Node) error {
	if node.Name == s.node.opts.Name {
		// Ourselves, at the start and as others remember us: memberlist must
		// hear of that, to raise its incarnation above what they remember.
		return nil
	}
	meta, err := s.describe(node)
	if err != nil {
		s.node.metrics.drop(badMeta)
		return err
	}
	if foreign(s.node.opts.Fleet(), meta.Fleet) {
		s.node.metrics.drop(foreignFleet)
		return fmt.Errorf("%s is of another fleet", node.Name)
	}
	if pin := s.node.opts.Keys(node.Name); len(pin) > 0 && !bytes.Equal(pin, meta.Key) {
		s.node.metrics.drop(changedKey)
		return fmt.Errorf("%s has another key than the roster's", node.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[node.Name]; !ok && len(s.known) >= maxMembers {
		s.node.metrics.drop(memberLimit)
		return errors.New("too many members")
	}
	return nil
}

// describe opens a node's meta, which must be of its name and address.
func (s *members) describe(node *memberlist.Node) (Meta, error) {
	if !validName(node.Name) || len(node.Meta) > memberlist.MetaMaxSize {
		return Meta{}, errMeta
	}
	sum := sha256.Sum256(append([]byte(node.Name+"\x00"), node.Meta...))
	s.mu.Lock()
	meta, ok := s.proofs[sum]
	s.mu.Unlock()
	if !ok {
		var err error
		if meta, err = openMeta(node.Name, node.Meta); err != nil {
			return Meta{}, err
		}
		s.mu.Lock()
		if len(s.proofs) >= 2*maxMembers {
			clear(s.proofs)
		}
		s.proofs[sum] = meta
		s.mu.Unlock()
	}
	ip, _ := netip.AddrFromSlice(node.Addr)
	if netip.AddrPortFrom(ip.Unmap(), node.Port).String() != meta.Gossip {
		return Meta{}, fmt.Errorf("%s is announced at an address that it does not claim", node.Name)
	}
	return meta, nil
}

// announced gives what was last verified under a key, of a member or of one that
// was refused; the key alone where that is nothing.
func (s *members) announced(key ed25519.PublicKey) Meta {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Meta{Key: key}
	for _, meta := range s.proofs {
		if bytes.Equal(meta.Key, key) && (out.Gossip == "" || meta.Gossip < out.Gossip) {
			out = meta
		}
	}
	return out
}

// set takes over what memberlist says of a live node.
func (s *members) set(node *memberlist.Node, joined bool) {
	meta, err := s.describe(node)
	if err != nil {
		return
	}
	node = &memberlist.Node{
		Name: node.Name, Addr: slices.Clone(node.Addr), Port: node.Port,
		PMin: node.PMin, PMax: node.PMax, PCur: node.PCur,
	}
	s.mu.Lock()
	delete(s.moved, node.Name)
	delete(s.last, node.Name)
	old := s.known[node.Name]
	since := old.Since
	if joined {
		since = time.Now()
	}
	s.known[node.Name] = member{Member: Member{Name: node.Name, Addr: meta.Gossip, Meta: meta, Since: since}, node: *node}
	count := len(s.known)
	s.mu.Unlock()
	s.node.metrics.members.Set(float64(count))
	if joined && node.Name != s.node.opts.Name {
		s.node.log.Info("director joined", slog.String("director", node.Name), slog.String("addr", meta.Gossip))
	}
}

// move remembers the address under which a registered member came back.
func (s *members) move(node *memberlist.Node) {
	if node.Name == s.node.opts.Name || len(s.node.opts.Keys(node.Name)) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[node.Name]; ok {
		s.moved[node.Name] = memberlist.Node{Name: node.Name, Addr: slices.Clone(node.Addr), Port: node.Port}
	}
}

func (s *members) remove(name string) {
	registered := len(s.node.opts.Keys(name)) > 0
	s.mu.Lock()
	m, was := s.known[name]
	if was && registered && (len(s.last) < maxMembers || s.last[name] != "") {
		s.last[name] = m.Addr
	}
	delete(s.known, name)
	delete(s.moved, name)
	count := len(s.known)
	s.mu.Unlock()
	s.node.metrics.members.Set(float64(count))
	if was && name != s.node.opts.Name {
		s.node.log.Info("director no longer answers gossip", slog.String("director", name))
	}
}

// others lists the members to speak to, one that has moved at both places.
func (s *members) others() []memberlist.Node {
	own := s.node.opts.Fleet()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]memberlist.Node, 0, len(s.known))
	for name, m := range s.known {
		if name == s.node.opts.Name || !s.genuine(m, own) {
			continue
		}
		out = append(out, m.node)
		if moved, ok := s.moved[name]; ok {
			out = append(out, moved)
		}
	}
	return out
}

// where gives the places of a member, the likeliest first.
func (s *members) where(name string) []memberlist.Node {
	own := s.node.opts.Fleet()
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.known[name]
	if !ok || !s.genuine(m, own) {
		return nil
	}
	if moved, ok := s.moved[name]; ok {
		return []memberlist.Node{moved, m.node}
	}
	return []memberlist.Node{m.node}
}

func (s *members) has(name string) bool { return len(s.where(name)) > 0 }

// addresses lists where each registered director may be found: where the
// roster remembers it, and where it was last.
func (n *Node) addresses() map[string][]string {
	out := map[string][]string{}
	for name, addr := range n.opts.Peers() {
		if addr != "" {
			out[name] = append(out[name], addr)
		}
	}
	n.members.mu.Lock()
	last := maps.Clone(n.members.last)
	n.members.mu.Unlock()
	for name, addr := range last {
		if !slices.Contains(out[name], addr) && len(n.opts.Keys(name)) > 0 {
			out[name] = append(out[name], addr)
		}
	}
	return out
}

// at tells whether a member advertises an address.
func (s *members) at(addr string) bool {
	own := s.node.opts.Fleet()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.known {
		if m.Addr == addr && s.genuine(m, own) {
			return true
		}
	}
	return false
}

// fleets lists the fleets that members say they are of, a few at most.
func (s *members) fleets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, m := range s.known {
		if m.Meta.Fleet != "" && !slices.Contains(out, m.Meta.Fleet) && len(out) < 8 {
			out = append(out, m.Meta.Fleet)
		}
	}
	return out
}

package gossip

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// patience bounds waits for what must happen; nothing is measured by it.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
		<-tick.C
	}
}

// fast shortens every timer, memberlist's too, so that minutes pass in a
// second.
func fast(tu *tuning) {
	tu.tick, tu.redial, tu.meta = 10*time.Millisecond, 60*time.Millisecond, 50*time.Millisecond
	c := tu.list
	c.ProbeInterval, c.ProbeTimeout = 50*time.Millisecond, 25*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 2, 2
	c.GossipInterval, c.GossipToTheDeadTime = 20*time.Millisecond, 100*time.Millisecond
	c.PushPullInterval, c.TCPTimeout = 200*time.Millisecond, 2*time.Second
	c.DeadNodeReclaimTime = 100 * time.Millisecond
}

// fleet is what the directors of a test agree on.
type fleet struct {
	mu     sync.Mutex
	id     string
	keys   map[string]ed25519.PublicKey
	peers  map[string]string
	secret []byte
}

func newFleet(id string) *fleet {
	return &fleet{id: id, keys: map[string]ed25519.PublicKey{}, peers: map[string]string{}}
}

func (f *fleet) key(name string) ed25519.PublicKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[name]
}

func (f *fleet) register(name string, key ed25519.PublicKey, addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name], f.peers[name] = key, addr
}

// identity makes a key that depends on the name and the salt alone.
func identity(name, salt string, boot uint64) Identity {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name+"/"+salt)
	return Identity{Name: name, Key: ed25519.NewKeyFromSeed(seed), Boot: boot}
}

// peer is a running node and what it was told.
type peer struct {
	*Node
	stop func()

	mu   sync.Mutex
	got  []Message
	meta Meta
}

func (p *peer) deliver(m Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, m)
}

func (p *peer) messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Message(nil), p.got...)
}

// heard tells whether a payload came from a director.
func (p *peer) heard(from, payload string) bool {
	for _, m := range p.messages() {
		if m.From == from && string(m.Payload) == payload {
			return true
		}
	}
	return false
}

func (p *peer) names() string {
	var out []string
	for _, m := range p.Members() {
		out = append(out, m.Name)
	}
	return strings.Join(out, " ")
}

func (p *peer) droppedFor(r reason) float64 {
	return testutil.ToFloat64(p.metrics.dropped.WithLabelValues(string(r)))
}

// start runs a node of a fleet on loopback until the test ends.
func start(t *testing.T, f *fleet, id Identity, change func(*Options)) *peer {
	t.Helper()
	p := &peer{meta: Meta{Site: "site-" + id.Name}}
	opts := Options{
		Identity: id, Listen: "127.0.0.1:0", Secrets: secretsOf(f.secret),
		Fleet: func() string {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.id
		},
		Keys: f.key,
		Peers: func() map[string]string {
			f.mu.Lock()
			defer f.mu.Unlock()
			return maps.Clone(f.peers)
		},
		Meta: func() Meta {
			f.mu.Lock()
			fleet := f.id
			f.mu.Unlock()
			p.mu.Lock()
			defer p.mu.Unlock()
			m := p.meta
			m.Fleet = fleet
			return m
		},
		Deliver:    p.deliver,
		Kinds:      map[uint8]string{7: "test"},
		Registerer: prometheus.NewRegistry(),
		Log:        slog.New(slog.DiscardHandler),
		tune:       fast,
	}
	if change != nil {
		change(&opts)
	}
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	p.Node = n
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: Run: %v", id.Name, err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

func join(peers ...*peer) func(*Options) {
	return func(o *Options) {
		for _, p := range peers {
			o.Join = append(o.Join, p.Addr().String())
		}
	}
}

// crash ends a node without a word to the others.
func crash(t *testing.T, p *peer) {
	t.Helper()
	eventually(t, "node to run", func() bool { return p.list.Load() != nil })
	if err := p.transport.Shutdown(); err != nil {
		t.Fatal(err)
	}
}

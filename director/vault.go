package director

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/secret"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	vaultFile  = "secrets.vault" // in the data folder: ciphertexts alone
	vaultMail  = 64
	vaultTick  = 500 * time.Millisecond // between two looks at the plan
	vaultTell  = 5 * time.Second        // between two words of one's own
	vaultFresh = 20 * time.Second       // what was said longer ago says nothing
	vaultSeek  = time.Second            // between two tries to get the vault
	maxInForce = 3                      // versions of a secret: two of the plan, and one that stays where one cannot be read
)

// coffer owns what the directors share: the ciphertexts on this director's disk, and what it
// could decrypt of them. The plan names versions and hashes alone. It never stops anything:
// what cannot be had or read leaves what was in force before. Run alone moves it.
type coffer struct {
	name    string
	key     ed25519.PrivateKey
	open    *secret.Identity // nil: this director can read none
	file    string
	horizon *horizon
	fetch   func(context.Context, [][]byte) (map[plan.Hash][]byte, error) // from the store
	links   outbox
	want    func(from string, hash []byte) // asks a peer for a chunk
	use     func(shared) error             // puts values into force
	changed func()
	log     *slog.Logger
	now     func() time.Time
	shown   *vaultMetrics
	mail    chan gossip.Message
	chunks  chan []byte // that peers sent

	mu      sync.Mutex
	held    secret.Vault // the last whole one; on the disk where stored is its hash
	sum     plan.Hash
	octets  []byte
	values  map[string][]value // by secret, what is in force: the one to use first
	done    []byte             // hash of the vault that this director goes by, on the disk too
	trouble string
	lacks   []string // secrets of which a version cannot be read; none where there is other trouble
	said    map[string]vaultSaid

	// by run alone
	opened map[secret.Sum]value
	stored plan.Hash
	sought time.Time
	asked  int // how many peers were
	told   time.Time
	tell   bool
	inUse  shared
	whole  bool // inUse was put into force here, all of what a plan says
}

// value is one version of a secret in the clear. It draws itself as nothing.
type value struct {
	number uint32
	sum    secret.Sum // of the ciphertext that it was read from
	octets []byte
	why    string // it cannot be read
}

// String keeps a value out of logs.
func (v value) String() string { return fmt.Sprintf("version %d", v.number) }

// GoString is String.
func (v value) GoString() string { return v.String() }

// vaultSaid is what another director said of secrets.
type vaultSaid struct {
	word core.SecretWord
	at   time.Time
}

type vaultMetrics struct {
	versions   prometheus.Gauge
	unreadable prometheus.Gauge
}

func newVaultMetrics(reg prometheus.Registerer) *vaultMetrics {
	f := promauto.With(reg)
	return &vaultMetrics{
		versions:   f.NewGauge(prometheus.GaugeOpts{Name: "divert_secret_versions", Help: "Versions of the fleet's secrets that the plan names."}),
		unreadable: f.NewGauge(prometheus.GaugeOpts{Name: "divert_secret_versions_unreadable", Help: "Those of them that this director does not have or cannot decrypt: it goes on with what it had."}),
	}
}

// shared is what the parts of a director take from secrets.
type shared struct {
	cookies [][]byte            // the one that makes cookies first
	pending bool                // none of them makes cookies yet, since some directors know none
	keys    map[string][][]byte // of TSIG, by the key's name, the one that signs first
}

// String keeps values out of logs.
func (s shared) String() string {
	return fmt.Sprintf("%d keys of cookies, %d of TSIG", len(s.cookies), len(s.keys))
}

// GoString is String.
func (s shared) GoString() string { return s.String() }

// openVault reads what the disk holds; what cannot be read is none, and said.
func openVault(v *coffer) *coffer {
	v.opened, v.said, v.values = map[secret.Sum]value{}, map[string]vaultSaid{}, map[string][]value{}
	v.mail, v.chunks = make(chan gossip.Message, vaultMail), make(chan []byte, 4)
	var err error
	if v.open, err = secret.NewIdentity(v.key); err != nil {
		v.log.Error("this director can read no secrets of the fleet", slog.Any("err", err))
	}
	octets, err := fsys.ReadFile(fsys.OS{}, v.file, secret.MaxVault)
	if errors.Is(err, fs.ErrNotExist) {
		return v
	}
	if err == nil {
		err = v.take(octets)
		v.stored = v.sum
	}
	if err != nil {
		v.log.Warn("the secrets on this disk are not used; others have them", slog.String("file", v.file), slog.Any("err", err))
	}
	return v
}

// newVault makes the vault of a director whose parts are there.
func (d *Director) newVault() *coffer {
	return openVault(&coffer{
		name: d.settings.Name, key: d.secretKey(), file: filepath.Join(d.settings.DataDir, vaultFile), horizon: d.horizon,
		fetch: d.store.Chunks, links: d.links, want: func(from string, hash []byte) { d.courier.post(from, kindChunkWant, hash) },
		use: func(s shared) error { return d.front.use(s) }, changed: d.changes.tell,
		log: d.log, now: d.now, shown: newVaultMetrics(d.registry),
	})
}

// secretKey is the key that secrets are read with, of a director that takes no boot, too.
func (d *Director) secretKey() ed25519.PrivateKey {
	if d.mute == nil {
		return d.identity.Key
	}
	key, err := gossip.PeekKey(fsys.Folder{FS: fsys.OS{}, Dir: d.settings.DataDir}, d.settings.Name)
	if err != nil {
		return nil
	}
	return key
}

// take has a vault at hand.
func (v *coffer) take(octets []byte) error {
	held, err := secret.DecodeVault(octets)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.held, v.octets, v.sum = held, octets, plan.Sum(octets)
	return nil
}

// at gives the octets of the vault that a plan names, where it is at hand.
func (v *coffer) at(p *plan.Plan) []byte {
	if v == nil || p.GetVault() == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.octets == nil || !bytes.Equal(v.sum[:], p.GetVault().GetHash()) {
		return nil
	}
	return v.octets
}

// with adds the vault that a plan in force names to chunks at hand, where it is at hand.
func (v *coffer) with(f *inForce, chunks map[plan.Hash][]byte) map[plan.Hash][]byte {
	octets := v.at(f.sealed.Plan)
	if octets == nil {
		return chunks
	}
	out := maps.Clone(chunks)
	out[plan.Sum(octets)] = octets // which fit one chunk
	return out
}

// received leaves a chunk of a peer to run, which knows whether it was wanted.
func (v *coffer) received(chunk []byte) {
	if v == nil {
		return
	}
	select {
	case v.chunks <- chunk:
	default:
	}
}

// deliver takes a message in without waiting.
func (v *coffer) deliver(m gossip.Message) bool {
	select {
	case v.mail <- m:
		return true
	default:
		return false
	}
}

func (v *coffer) run(ctx context.Context) error {
	tick := time.NewTicker(vaultTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-v.mail:
			v.message(m)
			continue
		case c := <-v.chunks:
			v.chunkCame(c)
		case <-tick.C:
		}
		v.seek(ctx)
		v.look()
	}
}

// seek gets the vault that the plan names, from the store and from peers by turns: what it
// is was signed, so that it does not matter who brings it.
func (v *coffer) seek(ctx context.Context) {
	f := v.horizon.current()
	if f == nil || f.sealed.Plan.GetVault() == nil || v.at(f.sealed.Plan) != nil || v.now().Sub(v.sought) < vaultSeek {
		return
	}
	v.sought = v.now()
	ref := f.sealed.Plan.GetVault()
	if from := v.holder(f.sealed.Plan); from != "" {
		v.want(from, ref.GetHash())
	}
	ctx, cancel := context.WithTimeout(ctx, vaultSeek)
	defer cancel()
	chunks, err := v.fetch(ctx, ref.GetChunks())
	if err != nil {
		return // that the store is silent is told elsewhere
	}
	for _, c := range chunks {
		v.chunkCame(c)
	}
}

// holder names a peer that may have the vault of a plan, each time another one.
func (v *coffer) holder(p *plan.Plan) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var names []string
	for name, s := range v.said {
		if bytes.Equal(s.word.Vault, p.GetVault().GetHash()) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	v.asked++
	return names[v.asked%len(names)]
}

// chunkCame takes what is the vault that the plan names, and nothing else.
func (v *coffer) chunkCame(c []byte) {
	f := v.horizon.current()
	if f == nil || v.at(f.sealed.Plan) != nil {
		return
	}
	if sum := plan.Sum(c); !bytes.Equal(sum[:], f.sealed.Plan.GetVault().GetHash()) {
		return
	}
	if err := v.take(c); err != nil {
		v.log.Error("the secrets that the plan names cannot be read", slog.Any("err", err))
	}
}

// look brings what is in force to what the plan says, as far as this director can, and
// says so.
func (v *coffer) look() {
	f := v.horizon.current()
	if f == nil {
		return
	}
	p := f.sealed.Plan
	trouble, lacks, unread := v.follow(p)
	if err := v.store(p); err != nil {
		trouble, unread = append(trouble, "cannot write its secrets: "+err.Error()), nil
	}
	var done []byte
	if p.GetVault() != nil && (lacks == 0 && len(trouble) == 0 || len(unread) > 0) {
		done = p.GetVault().GetHash()
	}
	v.shown.versions.Set(float64(len(core.SecretSums(p))))
	v.shown.unreadable.Set(float64(lacks))
	v.mu.Lock()
	text := strings.Join(trouble, "; ")
	if !bytes.Equal(done, v.done) || text != v.trouble {
		if text != "" && text != v.trouble {
			v.log.Error("secrets of the fleet cannot be used here; what was in force stays", slog.String("why", text))
		}
		v.done, v.trouble, v.tell = done, text, true
	}
	v.lacks = unread
	v.mu.Unlock()
	if now := v.now(); v.tell || now.Sub(v.told) >= vaultTell {
		changed := v.tell
		v.told, v.tell = now, false
		if word := v.own(p); word.Recipient != "" {
			if _, err := v.links.Broadcast(kindSecrets, encodeSecretWord(word)); err != nil {
				v.log.Debug("secrets not told", slog.Any("err", err))
			}
		}
		if changed {
			v.changed()
		}
	}
}

// follow decrypts what is new and puts it into force. Lacks is how many versions are not
// here or cannot be read. Unread names the secrets that they are of, where all are here and
// nothing else is amiss.
func (v *coffer) follow(p *plan.Plan) (trouble []string, lacks int, unread []string) {
	v.mu.Lock()
	held := v.held
	v.mu.Unlock()
	next, known, missing := map[string][]value{}, map[secret.Sum]value{}, false
	for _, s := range p.GetSecrets() {
		name := s.GetName()
		good := []value{}
		for _, version := range s.GetVersions() {
			if len(version.GetSum()) != len(secret.Sum{}) { // which Check refuses
				lacks, missing = lacks+1, true
				continue
			}
			sum := secret.Sum(version.GetSum())
			got, seen := v.opened[sum]
			if blob, here := held[sum]; !seen && here {
				got, seen = v.decrypt(p.GetFleet(), s, version, blob), true
			}
			if seen {
				known[sum] = got
			}
			switch {
			case !seen:
				lacks, missing = lacks+1, true
			case got.why != "":
				lacks++
				if !slices.Contains(unread, name) {
					unread = append(unread, name)
				}
				trouble = append(trouble, fmt.Sprintf("cannot read version %d of %s: %s", version.GetNumber(), name, got.why))
			default:
				good = append(good, value{number: version.GetNumber(), sum: sum, octets: got.octets})
			}
		}
		if len(good) < len(s.GetVersions()) { // what was in force stays
			for _, old := range v.values[name] {
				if !slices.ContainsFunc(good, func(g value) bool { return g.number == old.number }) {
					good = append(good, old)
				}
			}
		}
		if i := slices.IndexFunc(good, func(g value) bool { return g.number == s.GetUse() }); i > 0 {
			good[0], good[i] = good[i], good[0]
		}
		next[name] = good[:min(len(good), maxInForce)]
	}
	v.opened = known
	v.mu.Lock()
	v.values = next
	v.mu.Unlock()
	amiss := v.apply(p, next, lacks == 0)
	if missing || len(amiss) > 0 || v.at(p) == nil {
		unread = nil
	}
	return append(trouble, amiss...), lacks, unread
}

package director

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	ringMail  = 64
	ringTick  = 500 * time.Millisecond // between two looks at the plan and at the file
	ringTell  = 2 * time.Second        // between two words of one's own
	ringFresh = 10 * time.Second       // what was said longer ago says nothing
	ringGive  = time.Second            // between two times that one director is given the key
	ringTries = time.Minute            // between two looks whether the key file can be written
	ringOpens = 50 * time.Millisecond  // between two sealed keys of one director that are opened
	drawnFile = "gossip.next"          // in the data folder: the key that this director would turn to
)

// keyring owns the gossip keys that this director holds and their file. The plan says what
// is to be done with them, by their fingerprints; the next key itself goes from who has it
// to who lacks it, sealed, and is nowhere else. Each phase is in the file before it is in
// force, and in force before it is said. run alone writes keys and the file.
type keyring struct {
	name    string
	path    string // of the key file; "" = this director gossips without a key
	folder  fsys.Folder
	horizon *horizon
	links   outbox
	rekey   func([][]byte) error
	changed func()
	log     *slog.Logger
	now     func() time.Time
	shown   *keyringMetrics
	private hpke.PrivateKey // of this process
	public  []byte
	mail    chan gossip.Message
	drawing chan struct{} // capacity 1: whoever draws the next key, or forgets it

	mu      sync.Mutex
	keys    [][]byte // the one to send under first
	done    uint64   // plan revision of the phase that is done
	trouble string
	said    map[string]ringSaid

	// by run alone
	file      os.FileInfo // as it was when it was last read or written
	given     map[string]time.Time
	got       []byte               // the key that is turned to, from another director
	opened    map[string]time.Time // by who sent it, of the last ringOpens
	told      time.Time
	tell      bool
	tried     time.Time // whether the key file can be written
	unwritten string    // why not
}

// ringSaid is what another director said of its keys.
type ringSaid struct {
	ring core.KeyRing
	at   time.Time
}

type keyringMetrics struct {
	phase     prometheus.Gauge
	lacks     prometheus.Gauge
	unwritten prometheus.Gauge
}

func newKeyringMetrics(reg prometheus.Registerer) *keyringMetrics {
	f := promauto.With(reg)
	return &keyringMetrics{
		unwritten: f.NewGauge(prometheus.GaugeOpts{Name: "divert_gossip_key_unwritable", Help: "1 while this director cannot write its gossip key file, which a turn-over of the key needs."}),
		phase:     f.NewGauge(prometheus.GaugeOpts{Name: "divert_gossip_key_phase", Help: "Phase of the turn-over of the gossip key under way: 1 all add, 2 all use, 3 all remove; 0 there is none."}),
		lacks:     f.NewGauge(prometheus.GaugeOpts{Name: "divert_gossip_key_lacking", Help: "1 where this director does not hold the gossip key that the plan names."}),
	}
}

// openKeyring makes the ring, once the gossip port is bound under the keys of the file.
func (d *Director) openKeyring(shown *metrics) error {
	d.keys = &keyring{
		name: d.settings.Name, path: d.settings.Gossip.KeyFile, folder: fsys.Folder{FS: fsys.OS{}, Dir: d.settings.DataDir}, horizon: d.horizon,
		links: d.links, rekey: d.links.Rekey, changed: d.changes.tell, log: d.log, now: d.now, shown: newKeyringMetrics(d.registry),
	}
	d.own = newOwnFiles(d.settings, d.registry, d.log, d.now, d.changes.tell)
	d.tokens = make(chan gossip.Message, claimMail)
	d.loop.claims = func(m gossip.Message) {
		select {
		case d.tokens <- m:
		default:
			shown.overflow.WithLabelValues("tokens").Inc()
		}
	}
	d.loop.keys = func(m gossip.Message) {
		if !d.keys.deliver(m) {
			shown.overflow.WithLabelValues("gossip keys").Inc()
		}
	}
	d.commander.rings = d.keys.rings
	return d.keys.prepare(d.secrets)
}

// prepare makes the ring of a director that began with keys from its file.
func (k *keyring) prepare(keys [][]byte) error {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("drawing a key: %w", err)
	}
	if k.private, err = hpke.NewDHKEMPrivateKey(private); err != nil {
		return fmt.Errorf("drawing a key: %w", err)
	}
	k.public = private.PublicKey().Bytes()
	k.keys, k.said, k.given, k.opened = keys, map[string]ringSaid{}, map[string]time.Time{}, map[string]time.Time{}
	k.mail, k.drawing = make(chan gossip.Message, ringMail), make(chan struct{}, 1)
	if k.path != "" {
		k.file, _ = os.Stat(k.path) // it has just been read; if not, it is read again
	}
	return nil
}

// deliver takes a message in without waiting.
func (k *keyring) deliver(m gossip.Message) bool {
	select {
	case k.mail <- m:
		return true
	default:
		return false
	}
}

func (k *keyring) run(ctx context.Context) error {
	if len(k.keys) == 0 {
		<-ctx.Done() // gossip that began without a key goes on without
		return nil
	}
	tick := time.NewTicker(ringTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-k.mail:
			k.message(m)
		case <-tick.C:
		}
		k.look()
	}
}

// look brings this director's ring to where the plan wants it, and says so.
func (k *keyring) look() {
	k.reread()
	f := k.horizon.current()
	if f == nil {
		return
	}
	turn := f.sealed.Plan.GetGossipKey().GetTurn()
	k.shown.phase.Set(float64(turn.GetPhase()))
	trouble := ""
	if err := k.follow(f.sealed.Plan); err != nil {
		trouble = err.Error()
	}
	k.try()
	trouble = cmp.Or(trouble, k.unwritten)
	done := uint64(0)
	if turn != nil && core.Abides(turn, fingerprints(k.keys)) {
		done = turn.GetRevision()
	}
	k.mu.Lock()
	if done != k.done || trouble != k.trouble {
		k.done, k.trouble, k.tell = done, trouble, true
	}
	k.mu.Unlock()
	if now := k.now(); k.tell || now.Sub(k.told) >= ringTell {
		changed := k.tell
		k.told, k.tell = now, false
		ring := k.own()
		if _, err := k.links.Broadcast(kindKeyRing, ringWord{ring: ring, public: k.public}.encode()); err != nil {
			k.log.Debug("gossip keys not told", slog.Any("err", err))
		}
		lacks := 0.0
		if keyless(f.sealed.Plan, ring.Keys) {
			lacks = 1
		}
		k.shown.lacks.Set(lacks)
		if changed {
			k.changed() // who looks at the status sees it
		}
	}
}

// follow does what the phase asks for: first in the file, then in the ring in force. What
// would cut another director off waits until that one has said that it does not.
func (k *keyring) follow(p *plan.Plan) error {
	turn := p.GetGossipKey().GetTurn()
	if turn == nil || k.got != nil && core.Fingerprint(k.got) != turn.GetTo() {
		k.got = nil // of a turn-over before
	}
	if turn == nil {
		return nil
	}
	own, have := fingerprints(k.keys), slices.Clone(k.keys)
	if !slices.Contains(own, turn.GetTo()) {
		// Beside the one that all send under, which is the first but after a turn-over that
		// was lost with a store; a third one gives way.
		old := max(0, slices.Index(own, turn.GetFrom()))
		if next := k.next(turn.GetTo()); next != nil {
			have = [][]byte{have[old], next}
		} else if turn.GetPhase() == plan.KeyTurn_ADD { // somebody has it, and gives it
			have[0], have[old] = have[old], have[0]
		}
	}
	want, held := core.Turned(turn, fingerprints(have))
	if !held {
		want = fingerprints(have)
	}
	if slices.Equal(want, own) {
		return nil
	}
	next, why := core.Toward(p, k.name, own, want, k.rings())
	if slices.Equal(next, own) {
		return errors.New("cannot do it yet: " + why)
	}
	have = append(have, k.keys...)
	var keys [][]byte
	for _, f := range next {
		keys = append(keys, have[slices.Index(fingerprints(have), f)])
	}
	if err := k.write(keys); err != nil {
		return fmt.Errorf("cannot write its key file: %w", err)
	}
	if err := k.use(keys); err != nil {
		return err
	}
	k.log.Info("gossip key turned over", slog.String("phase", core.PhaseText(turn)), slog.Any("holds", shorts(keys)), slog.String("why", turn.GetReason()))
	k.undraw(keys)
	return nil
}

// undraw forgets the key that this director has drawn, if it is one of those: another may
// have been drawn since, for a turn-over that nobody has begun yet.
func (k *keyring) undraw(keys [][]byte) {
	k.drawing <- struct{}{}
	defer func() { <-k.drawing }()
	drawn := k.drawn()
	if drawn == nil || !slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, drawn) }) {
		return
	}
	if err := k.folder.Remove(drawnFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.Warn("a gossip key that was drawn and is in use now stays in the data folder", slog.Any("err", err))
	}
}

// next finds the key that is turned to, given or drawn; nil where it is not here.
func (k *keyring) next(fingerprint string) []byte {
	for _, key := range [][]byte{k.got, k.drawn()} {
		if key != nil && core.Fingerprint(key) == fingerprint {
			return key
		}
	}
	return nil
}

// use takes keys into force.
func (k *keyring) use(keys [][]byte) error {
	if err := k.rekey(keys); err != nil {
		return err
	}
	k.mu.Lock()
	k.keys = keys
	k.mu.Unlock()
	k.tell = true
	return nil
}

// reread takes what a person has put into the key file, without a restart.
func (k *keyring) reread() {
	info, err := os.Stat(k.path)
	if err != nil || k.file != nil && os.SameFile(info, k.file) && info.ModTime().Equal(k.file.ModTime()) && info.Size() == k.file.Size() {
		return
	}
	keys, err := gossip.LoadSecrets(k.path)
	if err != nil {
		return // half a file, maybe: the next look reads it again, and until then the keys stay
	}
	k.file = info
	if slices.EqualFunc(keys, k.keys, bytes.Equal) {
		return
	}
	if err := k.use(keys); err != nil {
		k.log.Error("the gossip keys of the file are not used", slog.String("file", k.path), slog.Any("err", err))
		return
	}
	k.log.Info("gossip key file read again", slog.String("file", k.path), slog.Any("holds", shorts(keys)))
}

// message takes in what another registered director says.
func (k *keyring) message(m gossip.Message) {
	f := k.horizon.current()
	if f == nil {
		return
	}
	turn, now := f.sealed.Plan.GetGossipKey().GetTurn(), k.now()
	if m.Kind == kindKey {
		fingerprint, sealed, err := decodeSealed(m.Payload)
		if err != nil || turn == nil || fingerprint != turn.GetTo() || slices.Contains(fingerprints(k.keys), fingerprint) {
			return
		}
		maps.DeleteFunc(k.opened, func(_ string, at time.Time) bool { return now.Sub(at) >= ringOpens })
		if _, late := k.opened[m.From]; late {
			return // by sender, so that nobody's rubbish keeps another's key out
		}
		k.opened[m.From] = now
		secret, err := openSecret(k.private, sealed, f.sealed.Identity.Fleet, k.name, fingerprint)
		if err != nil {
			k.log.Debug("gossip key refused", slog.String("peer", m.From), slog.Any("err", err))
			return
		}
		k.got = secret
		return
	}
	w, err := decodeRingWord(m.Payload)
	if err != nil {
		return
	}
	k.mu.Lock()
	before := k.said[m.From].ring
	for name := range k.said {
		if f.sealed.Plan.Director(name) == nil {
			delete(k.said, name)
			delete(k.given, name)
		}
	}
	k.said[m.From] = ringSaid{ring: w.ring, at: now}
	k.mu.Unlock()
	if before.Turn != w.ring.Turn || before.Trouble != w.ring.Trouble || !slices.Equal(before.Keys, w.ring.Keys) {
		k.changed()
	}
	if turn == nil || slices.Contains(w.ring.Keys, turn.GetTo()) || now.Sub(k.given[m.From]) < ringGive {
		return
	}
	if i := slices.Index(fingerprints(k.keys), turn.GetTo()); i >= 0 {
		k.given[m.From] = now
		sealed, err := sealSecret(w.public, k.keys[i], f.sealed.Identity.Fleet, m.From)
		if err == nil {
			_, err = k.links.Send(m.From, kindKey, encodeSealed(turn.GetTo(), sealed))
		}
		if err != nil {
			k.log.Debug("gossip key not given", slog.String("to", m.From), slog.Any("err", err))
		}
	}
}

// own is what this director says of its keys.
func (k *keyring) own() core.KeyRing {
	k.mu.Lock()
	defer k.mu.Unlock()
	return core.KeyRing{Keys: fingerprints(k.keys), Turn: k.done, Trouble: k.trouble}
}

// rings is what the directors that are heard say of their keys, this one included.
func (k *keyring) rings() map[string]core.KeyRing {
	now := k.now()
	out := map[string]core.KeyRing{k.name: k.own()}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, s := range maps.All(k.said) {
		if now.Sub(s.at) <= ringFresh {
			out[name] = s.ring
		}
	}
	return out
}

// propose gives the key in use and the next one, which is on the disk before anybody hears
// of it. One that was drawn before and never turned to is as good as new.
func (k *keyring) propose(dryRun bool) (*core.KeyTurn, error) {
	k.drawing <- struct{}{} // also of what is drawn and taken into use meanwhile
	defer func() { <-k.drawing }()
	own := k.own()
	if len(own.Keys) == 0 {
		return &core.KeyTurn{}, nil // core says what to do
	}
	if err := k.writable(); err != nil {
		return nil, &core.Refusal{
			Reason: "this director cannot write its gossip key file anew: " + err.Error(),
			Remedy: "move " + k.path + " to where it can, such as its data folder (mode 0600), name that as gossip.keyFile, and restart; at every director",
		}
	}
	out := &core.KeyTurn{From: own.Keys[0]}
	if dryRun {
		return out, nil
	}
	next := k.drawn()
	if next == nil || slices.Contains(own.Keys, core.Fingerprint(next)) {
		next = make([]byte, 32)
		if _, err := rand.Read(next); err != nil {
			return nil, fmt.Errorf("drawing a gossip key: %w", err)
		}
		if err := k.folder.Replace(drawnFile, gossip.FormatSecrets([][]byte{next})); err != nil {
			return nil, &core.Refusal{Reason: "the next gossip key cannot be kept in this director's data folder: " + err.Error(), Remedy: "give the command to another director with --server"}
		}
	}
	out.To = core.Fingerprint(next)
	return out, nil
}

// drawn reads the key that this director has drawn; nil where there is none.
func (k *keyring) drawn() []byte {
	raw, err := k.folder.Read(drawnFile)
	if err != nil {
		return nil
	}
	if keys := gossip.ParseSecrets(raw); len(keys) == 1 {
		return keys[0]
	}
	return nil
}

func fingerprints(keys [][]byte) []string {
	out := make([]string, 0, len(keys))
	for _, key := range keys {
		out = append(out, core.Fingerprint(key))
	}
	return out
}

// shorts names keys for people.
func shorts(keys [][]byte) []string {
	out := fingerprints(keys)
	for i := range out {
		out[i] = out[i][:8]
	}
	return out
}

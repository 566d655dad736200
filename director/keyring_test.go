package director

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys"
)

var oldKey, newKey = []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")

// ringPost carries what keyrings say to one another at once, as gossip would; ringNet[to].
type ringPost struct {
	from string
	net  map[string]*keyring
	sent [][]byte
}

func (p *ringPost) Send(to string, kind uint8, payload []byte) (gossip.Message, error) {
	p.sent = append(p.sent, payload)
	m := gossip.Message{From: p.from, Kind: kind, Payload: payload, Pinned: true}
	if k := p.net[to]; k != nil {
		k.message(m)
	}
	return m, nil
}

func (p *ringPost) Broadcast(kind uint8, payload []byte) (m gossip.Message, err error) {
	for to := range p.net {
		if to != p.from {
			m, err = p.Send(to, kind, payload)
		}
	}
	return m, err
}

func (p *ringPost) Alarms() map[string]string { return nil }
func (p *ringPost) Refresh()                  {}

// ringWorld is keyrings of three directors under one plan, on disks of their own.
type ringWorld struct {
	t     *testing.T
	now   time.Time
	rings map[string]*keyring
	used  map[string][][]byte // what each node is told to gossip under
	posts map[string]*ringPost
	plan  *plan.Plan
	log   bytes.Buffer
}

func newRingWorld(t *testing.T) *ringWorld {
	t.Helper()
	w := &ringWorld{
		t: t, now: time.Date(2026, 1, 2, 13, 0, 0, 0, time.UTC), rings: map[string]*keyring{}, used: map[string][][]byte{}, posts: map[string]*ringPost{},
		plan: &plan.Plan{},
	}
	for _, name := range []string{"d1", "d2", "d3"} {
		w.plan.Roster = append(w.plan.Roster, &plan.Director{Name: name, Key: []byte(name), Standing: plan.Director_ACTIVE})
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "gossip.key"), gossip.FormatSecrets([][]byte{oldKey}), 0o644); err != nil {
			t.Fatal(err)
		}
		w.boot(name, dir)
	}
	return w
}

// boot begins a keyring as a process does, with what its file says.
func (w *ringWorld) boot(name, dir string) {
	w.t.Helper()
	keys, err := gossip.LoadSecrets(filepath.Join(dir, "gossip.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.used[name] = keys
	w.posts[name] = &ringPost{from: name, net: w.rings}
	k := &keyring{
		name: name, path: filepath.Join(dir, "gossip.key"), folder: fsys.Folder{FS: fsys.OS{}, Dir: dir}, horizon: &horizon{}, links: w.posts[name],
		rekey: func(keys [][]byte) error { w.used[name] = keys; return nil }, changed: func() {}, now: func() time.Time { return w.now },
		log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), shown: newKeyringMetrics(prometheus.NewRegistry()),
	}
	if err := k.prepare(keys); err != nil {
		w.t.Fatal(err)
	}
	w.rings[name] = k
}

// phase puts a phase into force everywhere.
func (w *ringWorld) phase(p plan.KeyTurn_Phase, revision uint64) {
	w.plan.GossipKey = &plan.GossipKey{Turn: &plan.KeyTurn{Id: "t", From: core.Fingerprint(oldKey), To: w.to(), Phase: p, Revision: revision}}
	w.tick(6)
}

func (w *ringWorld) to() string {
	if t := w.plan.GetGossipKey().GetTurn(); t != nil {
		return t.GetTo()
	}
	turn, err := w.rings["d1"].propose(false)
	if err != nil {
		w.t.Fatal(err)
	}
	return turn.To
}

func (w *ringWorld) tick(n int) {
	f := &inForce{sealed: &plan.Sealed{Plan: w.plan, Identity: plan.Identity{Fleet: "f", Epoch: 1, Revision: w.plan.GetGossipKey().GetTurn().GetRevision()}}}
	for range n {
		w.now = w.now.Add(ringTell)
		for _, name := range []string{"d1", "d2", "d3"} {
			if k := w.rings[name]; k != nil {
				k.horizon.force = f
				k.look()
			}
		}
	}
}

// A turn-over on real files, with a director that is killed in each phase: the ring in force
// is the file's, who is started anew goes on where it was, and what is sent, logged and shown
// holds no key.
func TestKeyring(t *testing.T) {
	w := newRingWorld(t)
	for i, phase := range []plan.KeyTurn_Phase{plan.KeyTurn_ADD, plan.KeyTurn_USE, plan.KeyTurn_REMOVE} {
		dir := filepath.Dir(w.rings["d2"].path)
		if i > 0 {
			delete(w.rings, "d2") // away when the phase begins
		}
		w.phase(phase, uint64(10+i))
		if i > 0 {
			if waits := core.TurnWaits(w.plan, w.rings["d3"].rings()); len(waits) != 1 || waits[0].Director != "d2" {
				t.Errorf("%s: waits for %v, want d2", phase, waits)
			}
			w.boot("d2", dir)
			w.tick(3)
		}
		for name, k := range w.rings {
			if waits := core.TurnWaits(w.plan, k.rings()); len(waits) > 0 {
				t.Fatalf("%s: %s waits for %v", phase, name, waits)
			}
			onDisk, err := gossip.LoadSecrets(k.path)
			if err != nil || !reflect.DeepEqual(onDisk, w.used[name]) {
				t.Errorf("%s: %s gossips under other keys than its file holds: %v", phase, name, err)
			}
			if info, err := os.Stat(k.path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode of the file of %s: %v", phase, name, info.Mode())
			}
		}
	}
	// The next turn-over, of one who was given the last key, begins before anybody has
	// looked at the end of that one.
	w.plan.GossipKey = nil
	drawn, err := w.rings["d3"].propose(false)
	if err != nil {
		t.Fatal(err)
	}
	w.plan.GossipKey = &plan.GossipKey{Turn: &plan.KeyTurn{Id: "u", From: core.Fingerprint(w.rings["d1"].keys[0]), To: drawn.To, Phase: plan.KeyTurn_ADD, Revision: 20}}
	w.tick(6)
	if waits := core.TurnWaits(w.plan, w.rings["d1"].rings()); len(waits) > 0 {
		t.Errorf("the next one, right behind: waits for %v", waits)
	}
	secret := w.rings["d1"].keys[0]
	if len(w.rings["d3"].keys) != 2 || !bytes.Equal(w.rings["d3"].keys[0], secret) || bytes.Equal(secret, oldKey) {
		t.Fatal("it does not end with a new key")
	}
	var s api.Status
	w.rings["d1"].describe(&s, w.plan)
	shown, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	texts := [][]byte{shown, w.log.Bytes()}
	for _, p := range w.posts {
		texts = append(texts, p.sent...)
	}
	for _, text := range texts {
		for _, key := range [][]byte{oldKey, secret} {
			if bytes.Contains(text, key) || bytes.Contains(text, bytes.TrimSpace(gossip.FormatSecrets([][]byte{key}))) {
				t.Errorf("a key is in %q", text)
			}
		}
	}
	if w.rings["d1"].drawn() != nil {
		t.Error("the key that was drawn stays in the data folder")
	}
}

// A key file that cannot be written holds the turn-over up, with the reason, and changes
// nothing; mended, it goes on.
func TestKeyringUnwritable(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d2"]
	aside := k.path + fsys.Temporary
	if err := os.MkdirAll(filepath.Join(aside, "x"), 0o700); err != nil { // also root cannot write there
		t.Fatal(err)
	}
	w.phase(plan.KeyTurn_ADD, 10)
	waits := core.TurnWaits(w.plan, w.rings["d1"].rings())
	if len(waits) != 1 || waits[0].Director != "d2" || !strings.Contains(waits[0].Why, "cannot write its key file") {
		t.Errorf("waits for %v", waits)
	}
	if len(w.used["d2"]) != 1 {
		t.Error("a key is in force that is not on the disk")
	}
	if err := os.RemoveAll(aside); err != nil {
		t.Fatal(err)
	}
	w.tick(3)
	if waits := core.TurnWaits(w.plan, w.rings["d1"].rings()); len(waits) > 0 {
		t.Errorf("mended, and it waits for %v", waits)
	}
}

// Where the key file cannot be written, its director begins no turn-over and says so before
// there is one; mended, it does.
func TestKeyringUnwritableBefore(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d2"]
	dir := filepath.Dir(k.path)
	file := k.path
	k.path = filepath.Join(dir, "no", "gossip.key") // a folder that is not there is not writable for root either
	w.tick(2)
	if _, err := k.propose(false); err == nil || !strings.Contains(err.Error(), "cannot write its gossip key file") {
		t.Errorf("proposes: %v", err)
	}
	if said := w.rings["d1"].rings()["d2"].Trouble; !strings.Contains(said, "cannot write its key file") {
		t.Errorf("d1 hears %q of d2", said)
	}
	k.path = file
	w.tick(8)
	if said := w.rings["d1"].rings()["d2"].Trouble; said != "" {
		t.Errorf("mended: %q", said)
	}
	if _, err := k.propose(false); err != nil {
		t.Errorf("mended: %v", err)
	}
	if left, err := filepath.Glob(k.path + ".try-*"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// A folder that ceases to be writable alerts within a minute, with no turn-over in sight, and
// is seen by the metric; mended, it is quiet again.
func TestKeyringUnwritableLater(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d2"]
	alerts := func() (out []string) {
		var s api.Status
		k.describe(&s, w.plan)
		return s.Alerts
	}
	gauge := func() float64 { return testutil.ToFloat64(k.shown.unwritten) }
	w.tick(2)
	if got := alerts(); len(got) > 0 || gauge() != 0 {
		t.Fatalf("from the start: %q, %v", got, gauge())
	}
	file := k.path
	k.path = filepath.Join(filepath.Dir(file), "no", "gossip.key")
	w.now = w.now.Add(ringTries)
	w.tick(2)
	if got := alerts(); len(got) != 1 || !strings.Contains(got[0], "cannot write its key file") || !strings.Contains(got[0], "put another file in its place") || gauge() != 1 {
		t.Errorf("not writable: %q, %v", got, gauge())
	}
	k.path = file
	w.now = w.now.Add(ringFresh)
	w.tick(2)
	if got := alerts(); len(got) > 0 || gauge() != 0 {
		t.Errorf("mended: %q, %v", got, gauge())
	}
}

// Rubbish that a director sends keeps no other's key out, and is not opened without end.
func TestKeyringOpensBySender(t *testing.T) {
	w := newRingWorld(t)
	w.plan.GossipKey = &plan.GossipKey{Turn: &plan.KeyTurn{Id: "t", From: core.Fingerprint(oldKey), To: core.Fingerprint(newKey), Phase: plan.KeyTurn_ADD, Revision: 10}}
	k := w.rings["d2"]
	k.horizon.force = &inForce{sealed: &plan.Sealed{Plan: w.plan, Identity: plan.Identity{Fleet: "f", Epoch: 1, Revision: 10}}}
	sealed, err := sealSecret(k.public, newKey, "f", "d2")
	if err != nil {
		t.Fatal(err)
	}
	send := func(from string, sealed []byte) {
		k.message(gossip.Message{From: from, Kind: kindKey, Payload: encodeSealed(core.Fingerprint(newKey), sealed), Pinned: true})
	}
	send("d3", []byte("rubbish"))
	send("d3", sealed)
	if k.got != nil {
		t.Fatal("one director's are opened one right after another")
	}
	send("d1", sealed)
	if !bytes.Equal(k.got, newKey) {
		t.Error("d3's rubbish kept d1's key out")
	}
	w.now = w.now.Add(time.Second)
	send("d9", []byte("rubbish"))
	if len(k.opened) != 1 {
		t.Errorf("remembers %d senders", len(k.opened))
	}
}

// A person's file is read again without a restart; half a file changes nothing.
func TestKeyringReread(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d1"]
	for _, tc := range []struct {
		file string
		want [][]byte
	}{
		{"half a fi", [][]byte{oldKey}},
		{string(gossip.FormatSecrets([][]byte{newKey, oldKey})), [][]byte{newKey, oldKey}},
		{"", [][]byte{newKey, oldKey}},
		{string(newKey), [][]byte{newKey}},
	} {
		if err := os.WriteFile(k.path, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		k.look()
		if !reflect.DeepEqual(w.used["d1"], tc.want) {
			t.Errorf("after %q: %q", tc.file, w.used["d1"])
		}
	}
}

// Who comes back with the old key alone when all others have removed it is told what to do.
func TestKeyringAway(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d3"]
	alerts := func() string {
		var s api.Status
		s.Now = w.now
		k.describe(&s, w.plan)
		return strings.Join(s.Alerts, "\n")
	}
	if got := alerts(); got != "" {
		t.Errorf("before: %s", got)
	}
	w.plan.GossipKey = &plan.GossipKey{Current: core.Fingerprint(newKey)}
	if got := alerts(); !strings.Contains(got, "copy the key file") || !strings.Contains(got, k.path) {
		t.Errorf("got %q", got)
	}
}

// A key that was drawn is proposed until it is turned to, so that nobody is left with one
// that he does not have where the outcome of a command is unknown; never one that is in use.
func TestKeyringProposes(t *testing.T) {
	w := newRingWorld(t)
	k := w.rings["d1"]
	first, err := k.propose(false)
	if err != nil || first.From != core.Fingerprint(oldKey) || !core.ParseFingerprint(first.To) || first.To == first.From {
		t.Fatalf("proposes %+v, %v", first, err)
	}
	if again, err := k.propose(false); err != nil || *again != *first {
		t.Errorf("the second time %+v, %v", again, err)
	}
	if err := k.folder.Replace(drawnFile, gossip.FormatSecrets([][]byte{oldKey})); err != nil {
		t.Fatal(err)
	}
	if again, err := k.propose(false); err != nil || again.To == again.From || again.To == first.To {
		t.Errorf("one that is in use: %+v, %v", again, err)
	}
	if info, err := os.Stat(k.folder.Path(drawnFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// No key is drawn, and none comes to the disk, for who may not turn keys over.
func TestKeyringAsksWhoMay(t *testing.T) {
	d := &Director{keys: newRingWorld(t).rings["d1"]}
	by := &access.Identity{Who: "cert:ann", Method: access.Certificate, Grants: []access.Grant{{Role: access.Operator, Scopes: []access.Scope{{Kind: access.Fleet}}}}}
	out, err := d.Do(t.Context(), core.Command{ID: "r", Verb: core.KeyRotate, Author: "cert:ann", By: by, Reason: "x"}, nil)
	if err != nil || out.Code != 1 || !strings.Contains(out.Error, "takes admin") {
		t.Errorf("got %+v, %v, want a refusal", out, err)
	}
	if d.keys.drawn() != nil {
		t.Error("a key was drawn for who may not have it turned to")
	}
}

// A sealed key opens for the one director and process, fleet and key that it was sealed for.
func TestSealedSecret(t *testing.T) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealSecret(private.PublicKey().Bytes(), newKey, "f", "d2")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openSecret(mine, sealed, "f", "d2", core.Fingerprint(newKey)); err != nil || !bytes.Equal(got, newKey) {
		t.Fatalf("got %q, %v", got, err)
	}
	flipped := slices.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for _, tc := range []struct{ name, fleet, to, of, sealed string }{
		{"another fleet", "g", "d2", core.Fingerprint(newKey), string(sealed)},
		{"another director", "f", "d3", core.Fingerprint(newKey), string(sealed)},
		{"another key", "f", "d2", core.Fingerprint(oldKey), string(sealed)},
		{"a flipped bit", "f", "d2", core.Fingerprint(newKey), string(flipped)},
		{"nothing", "f", "d2", core.Fingerprint(newKey), ""},
	} {
		if _, err := openSecret(mine, []byte(tc.sealed), tc.fleet, tc.to, tc.of); err == nil {
			t.Errorf("%s: it opens", tc.name)
		}
	}
	// Whoever holds the seal and sends another key than the plan names has it refused.
	other, err := hpke.Seal(mine.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), sealedInfo("f", "d2", core.Fingerprint(newKey)), oldKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSecret(mine, other, "f", "d2", core.Fingerprint(newKey)); err == nil {
		t.Error("took a key of another fingerprint")
	}
	if _, err := sealSecret(make([]byte, 32), newKey, "f", "d2"); err == nil {
		t.Error("sealed to a point of low order")
	}
}

func FuzzKeyRingWords(f *testing.F) {
	f.Add(ringWord{ring: core.KeyRing{Keys: []string{core.Fingerprint(oldKey)}, Turn: 7, Trouble: "disk"}, public: make([]byte, 32)}.encode())
	f.Add(encodeSealed(core.Fingerprint(oldKey), make([]byte, 80)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if w, err := decodeRingWord(payload); err == nil {
			if len(w.public) != ringPublic || len(w.ring.Keys) > gossip.MaxSecrets {
				t.Errorf("%+v", w)
			}
			again, err := decodeRingWord(w.encode())
			if err != nil || !reflect.DeepEqual(again.ring, w.ring) {
				t.Errorf("%+v is read back as %+v, %v", w, again, err)
			}
		}
		if of, sealed, err := decodeSealed(payload); err == nil && (!core.ParseFingerprint(of) || len(sealed) > maxSealed) {
			t.Errorf("%s %d", of, len(sealed))
		}
	})
}

// A turn-over that was lost with a store may leave two keys on each director, one sent under
// here and the other there. The next one keeps the key that it turns over from on all of
// them, so that nobody is deaf to the others.
func TestKeyringAfterLostTurn(t *testing.T) {
	w := newRingWorld(t)
	third := []byte("00000000000000001111111111111111")
	for name, keys := range map[string][][]byte{"d1": {oldKey, third}, "d2": {third, oldKey}, "d3": {third, oldKey}} {
		path := w.rings[name].path
		if err := os.WriteFile(path, gossip.FormatSecrets(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		w.boot(name, filepath.Dir(path))
	}
	w.phase(plan.KeyTurn_ADD, 1)
	for name, k := range w.rings {
		if got := fingerprints(k.keys); got[0] != core.Fingerprint(oldKey) || got[1] != w.to() || len(got) != 2 {
			t.Errorf("%s has %v", name, got)
		}
	}
}

package director

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/divertdns/divert/director/secret"
)

// vaultWorld is the vaults of three directors under one plan, on disks of their own, with a
// store that can be taken away.
type vaultWorld struct {
	t      *testing.T
	now    time.Time
	dir    string
	vaults map[string]*coffer
	used   map[string]shared
	plan   *plan.Plan
	blobs  secret.Vault
	stored map[plan.Hash][]byte // in the store
	away   bool                 // the store
	log    bytes.Buffer
	sent   [][]byte
}

func vaultKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// vaultPost carries words and chunks at once, as gossip would.
type vaultPost struct {
	from string
	w    *vaultWorld
}

func (p *vaultPost) Send(string, uint8, []byte) (m gossip.Message, err error) { return m, nil }

func (p *vaultPost) Broadcast(kind uint8, payload []byte) (gossip.Message, error) {
	p.w.sent = append(p.w.sent, payload)
	m := gossip.Message{From: p.from, Kind: kind, Payload: payload, Pinned: true}
	for name, v := range p.w.vaults {
		if name != p.from {
			v.message(m)
		}
	}
	return m, nil
}

func (p *vaultPost) Alarms() map[string]string { return nil }
func (p *vaultPost) Refresh()                  {}

func newVaultWorld(t *testing.T) *vaultWorld {
	t.Helper()
	w := &vaultWorld{
		t: t, now: time.Date(2026, 1, 2, 13, 0, 0, 0, time.UTC), dir: t.TempDir(), vaults: map[string]*coffer{}, used: map[string]shared{},
		plan: &plan.Plan{Fleet: "f"}, blobs: secret.Vault{}, stored: map[plan.Hash][]byte{},
	}
	for _, name := range []string{"d1", "d2", "d3"} {
		w.plan.Roster = append(w.plan.Roster, &plan.Director{Name: name, Key: vaultKey(name).Public().(ed25519.PublicKey), Standing: plan.Director_ACTIVE})
		w.boot(name)
	}
	return w
}

// boot begins a vault as a process does, with what its disk has.
func (w *vaultWorld) boot(name string) *coffer {
	w.t.Helper()
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	delete(w.used, name)
	w.vaults[name] = openVault(&coffer{
		name: name, key: vaultKey(name), file: filepath.Join(dir, vaultFile), horizon: &horizon{},
		fetch: func(context.Context, [][]byte) (map[plan.Hash][]byte, error) {
			if w.away {
				return nil, errors.New("the store is away")
			}
			return w.stored, nil
		},
		links: &vaultPost{name, w},
		want: func(from string, hash []byte) {
			if c, ok := w.vaults[from].with(w.force(), map[plan.Hash][]byte{})[plan.Hash(hash)]; ok {
				w.vaults[name].chunkCame(c)
			}
		},
		use: func(s shared) error { w.used[name] = s; return nil }, changed: func() {}, now: func() time.Time { return w.now },
		log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), shown: newVaultMetrics(prometheus.NewRegistry()),
	})
	return w.vaults[name]
}

func (w *vaultWorld) force() *inForce {
	return &inForce{sealed: &plan.Sealed{Plan: w.plan, Identity: plan.Identity{Fleet: "f", Epoch: 1, Revision: w.plan.GetRevision()}}}
}

// version encrypts a value to some directors, and names it in the plan.
func (w *vaultWorld) version(number uint32, value []byte, readers ...string) *plan.SecretVersion {
	w.t.Helper()
	var to []string
	for _, r := range readers {
		to = append(to, w.vaults[r].open.Recipient())
	}
	blob, err := secret.Seal("f", core.CookieSecret, value, to)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := w.blobs.Put(blob)
	return &plan.SecretVersion{Number: number, Sum: sum[:], Size: uint32(len(blob)), Readers: readers}
}

// put has the plan name versions of the key of cookies.
func (w *vaultWorld) put(use uint32, versions ...*plan.SecretVersion) {
	w.t.Helper()
	w.plan.Revision++
	w.plan.Secrets = []*plan.Secret{{Name: core.CookieSecret, Use: use, Versions: versions}}
	var order []secret.Sum
	for _, v := range versions {
		order = append(order, secret.Sum(v.GetSum()))
	}
	octets, err := w.blobs.Encode(order)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := plan.Sum(octets)
	w.plan.Vault = &plan.SpecRef{Hash: sum[:], Size: uint64(len(octets)), Chunks: [][]byte{sum[:]}}
	w.stored = map[plan.Hash][]byte{sum: octets}
}

func (w *vaultWorld) tick(n int) {
	f := w.force()
	for range n {
		w.now = w.now.Add(vaultTell)
		for _, name := range []string{"d1", "d2", "d3"} {
			if v := w.vaults[name]; v != nil {
				v.horizon.force = f
				v.seek(w.t.Context())
				v.look()
			}
		}
	}
}

func (w *vaultWorld) waits() []core.TurnWait {
	return core.SecretWaits(w.plan, w.vaults["d1"].words(w.plan))
}

func (w *vaultWorld) alerts(name string) string {
	var s api.Status
	w.vaults[name].describe(&s, w.plan)
	return strings.Join(s.Alerts, "\n")
}

var valueOne, valueTwo = []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")

// A value comes from the store, or from a peer while that is away, is on the disk before it
// is acknowledged, and in force again after a start with nobody there; nothing that is sent,
// logged, shown or on the disk holds it.
func TestVaultDistributes(t *testing.T) {
	w := newVaultWorld(t)
	w.put(0, w.version(1, valueOne, "d1", "d2", "d3"))
	d3 := w.vaults["d3"]
	delete(w.vaults, "d3")
	w.tick(3)
	if waits := w.waits(); len(waits) != 1 || waits[0].Director != "d3" {
		t.Errorf("waits for %v, want d3", waits)
	}
	if u := w.used["d1"]; len(u.cookies) != 1 || !bytes.Equal(u.cookies[0], valueOne) || !u.pending {
		t.Errorf("d1 uses %#v, pending %t", u, u.pending)
	}
	w.away = true
	w.vaults["d3"] = d3
	w.tick(3)
	if waits := w.waits(); len(waits) > 0 {
		t.Errorf("without the store: waits for %v", waits)
	}
	w.put(1, w.plan.Secrets[0].Versions[0])
	w.tick(2)
	if u := w.used["d3"]; len(u.cookies) != 1 || u.pending {
		t.Errorf("d3 uses %#v, pending %t", u, u.pending)
	}
	// Alone, with the disk.
	w.vaults = map[string]*coffer{}
	v := w.boot("d2")
	v.horizon.force = w.force()
	v.begin()
	if u := w.used["d2"]; len(u.cookies) != 1 || !bytes.Equal(u.cookies[0], valueOne) {
		t.Errorf("d2 alone uses %#v", u)
	}
	disk, err := os.ReadFile(v.file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(v.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the vault: %v", info.Mode())
	}
	shown, err := json.Marshal(v.view(w.plan))
	if err != nil {
		t.Fatal(err)
	}
	drawn := fmt.Sprintf("%v %+v %#v %v %#v", v.values, v.opened, v.values, w.used["d2"], w.used["d2"])
	for _, text := range append(w.sent, disk, shown, w.log.Bytes(), []byte(drawn)) {
		if bytes.Contains(text, valueOne[:12]) || bytes.Contains(text, []byte("48 49 50 51")) || bytes.Contains(text, []byte("0x30, 0x31")) {
			t.Errorf("a value is in %q", text)
		}
	}
}

// What a director cannot read, or cannot write, it says, and it goes on with what it had:
// also after a value that nobody could read, or that is none.
func TestVaultKeepsLastGood(t *testing.T) {
	w := newVaultWorld(t)
	one := w.version(1, valueOne, "d1", "d2", "d3")
	w.put(1, one)
	w.tick(3)
	garbage := w.blobs.Put([]byte("no age file"))
	for _, tc := range []struct {
		name string
		two  *plan.SecretVersion
		want string
	}{
		{"encrypted to others", w.version(2, valueTwo, "d1", "d2"), "it is not encrypted to this director's key"},
		{"no ciphertext", &plan.SecretVersion{Number: 2, Sum: garbage[:], Size: 11, Readers: []string{"d1"}}, "damaged, or no age file"},
		{"too short", w.version(2, []byte("short"), "d1", "d2", "d3"), "could be guessed"},
	} {
		w.put(2, tc.two)
		w.tick(3)
		if u := w.used["d3"]; len(u.cookies) != 1 || !bytes.Equal(u.cookies[0], valueOne) {
			t.Errorf("%s: d3 goes on with %#v", tc.name, u)
		}
		if got := w.alerts("d3"); !strings.Contains(got, tc.want) || !strings.Contains(got, "goes on with the secrets that it had") {
			t.Errorf("%s: d3 alerts %q", tc.name, got)
		}
		if got := w.alerts("d1"); !strings.Contains(got, "d3 cannot read version 2 of cookie") {
			t.Errorf("%s: d1 alerts %q", tc.name, got)
		}
		if waits := w.waits(); !slices.ContainsFunc(waits, func(t core.TurnWait) bool { return t.Director == "d3" }) {
			t.Errorf("%s: waits for %v", tc.name, waits)
		}
		if n := testutil.ToFloat64(w.vaults["d3"].shown.unreadable); n != 1 {
			t.Errorf("%s: %v are unreadable", tc.name, n)
		}
	}
	w.put(2, one, w.version(2, valueTwo, "d1", "d2", "d3"))
	if err := os.RemoveAll(filepath.Dir(w.vaults["d2"].file)); err != nil { // also root cannot write there
		t.Fatal(err)
	}
	w.tick(3)
	if u := w.used["d2"]; len(u.cookies) != 2 || !bytes.Equal(u.cookies[0], valueTwo) {
		t.Errorf("a disk that cannot be written: d2 uses %#v", u)
	}
	if waits := w.waits(); len(waits) != 1 || waits[0].Director != "d2" || !strings.Contains(waits[0].Why, "cannot write its secrets") {
		t.Errorf("waits for %v", waits)
	}
	if err := os.MkdirAll(filepath.Dir(w.vaults["d2"].file), 0o700); err != nil {
		t.Fatal(err)
	}
	w.tick(3)
	if waits := w.waits(); len(waits) > 0 || w.alerts("d1") != "" {
		t.Errorf("mended: waits for %v, alerts %q", waits, w.alerts("d1"))
	}
}

// A peer, or a store, that has something else than the plan names brings nothing.
func TestVaultRefusesOthers(t *testing.T) {
	w := newVaultWorld(t)
	w.put(1, w.version(1, valueOne, "d1", "d2", "d3"))
	other, err := w.blobs.Encode([]secret.Sum{w.blobs.Put([]byte("another"))})
	if err != nil {
		t.Fatal(err)
	}
	w.stored = map[plan.Hash][]byte{plan.Hash(w.plan.GetVault().GetHash()): other, plan.Sum(other): other}
	w.tick(3)
	v := w.vaults["d1"]
	v.chunkCame(other)
	if v.octets != nil || len(w.used["d1"].cookies) > 0 {
		t.Error("it took what the plan does not name")
	}
	if err := os.WriteFile(v.file, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.boot("d1").octets != nil || !strings.Contains(w.log.String(), "the secrets on this disk are not used") {
		t.Error("a torn file is taken")
	}
}

// The leader encrypts to those that are left, what it can read alone.
func TestVaultDue(t *testing.T) {
	w := newVaultWorld(t)
	w.put(1, w.version(1, valueOne, "d1", "d3"))
	w.plan.Recipients = core.SecretRecipients(w.plan, map[string]core.SecretWord{"d1": w.vaults["d1"].own(w.plan), "d3": w.vaults["d3"].own(w.plan)}, w.now)
	w.tick(3)
	c := w.vaults["d1"].due(w.force())
	if c == nil || len(c.SecretStep.Sealed) != 1 || !slices.Equal(c.SecretStep.Sealed[0].Readers, []string{"d1", "d2", "d3"}) {
		t.Fatalf("got %+v", c)
	}
	if got, err := w.vaults["d2"].open.Open("f", core.CookieSecret, c.SecretStep.Sealed[0].Blob); err != nil || !bytes.Equal(got, valueOne) {
		t.Errorf("d2 reads %q, %v", got, err)
	}
	if c := w.vaults["d2"].due(w.force()); c == nil || len(c.SecretStep.Sealed) != 0 {
		t.Errorf("d2 cannot read it, and leads to %+v", c)
	}
	if strings.Contains(fmt.Sprintf("%+v", c), string(valueOne[:12])) {
		t.Error("the command holds the value")
	}
}

// eventuallyUsed waits until a version is used, of a director with a real store.
func eventuallyUsed(t *testing.T, d *Director, name string, version uint32) {
	t.Helper()
	eventually(t, fmt.Sprintf("version %d of %s is used", version, name), func() bool {
		return d.horizon.current().sealed.Plan.Secret(name).GetUse() == version && len(d.Secrets().Waits) == 0
	})
}

func settingOf(t *testing.T, d *Director, name string, value []byte) core.Command {
	t.Helper()
	var s api.Secrets
	eventually(t, "it says to whom secrets are encrypted", func() bool { s = d.Secrets(); return len(s.Recipients) > 0 })
	blob, err := secret.Seal(s.Fleet, name, value, []string{s.Recipients[0].Key})
	if err != nil {
		t.Fatal(err)
	}
	return core.Command{ID: newID(), Verb: core.SecretSet, Author: "ann", Reason: "test", For: core.DefaultGrace(name), Secret: &core.SecretWish{Name: name, Blob: blob, Recipients: s.Recipients}}
}

// A director with a real store: set, turned over, backed up and brought back into a store that
// was lost; the log has who set what, and a backup the ciphertexts alone.
func TestSecretsOfOneDirector(t *testing.T) {
	d := solo(t)
	gave(t, d, settingOf(t, d, core.CookieSecret, valueOne))
	eventuallyUsed(t, d, core.CookieSecret, 1)
	id := gave(t, d, settingOf(t, d, core.CookieSecret, valueTwo))
	eventuallyUsed(t, d, core.CookieSecret, 2)
	records, err := d.Audit(t.Context(), id.Revision, 1)
	if err != nil || len(records) != 1 || records[0].What != "set secret cookie, version 2" || records[0].Who != "ann" {
		t.Errorf("the record: %+v, %v", records, err)
	}
	var backup bytes.Buffer
	if err := d.Backup(t.Context(), &backup, false); err != nil {
		t.Fatal(err)
	}
	octets := d.vault.at(d.horizon.current().sealed.Plan)
	if !bytes.Contains(backup.Bytes(), octets) || bytes.Contains(backup.Bytes(), valueOne[:12]) || bytes.Contains(backup.Bytes(), valueTwo[:12]) {
		t.Error("the backup has no ciphertexts, or more than these")
	}
	// Who takes the sockets over has them from the disk, before there is a director.
	var log bytes.Buffer
	f, err := newFront(d.settings, tableOf(nil), newSurvey(""), nil, nil, false, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f.share(d.settings, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "2 keys of cookies, 0 of TSIG") {
		t.Errorf("a front at rest: %s", &log)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.run(over); err != nil {
		t.Error(err)
	}
	// The store loses the vault, and gets it back from the disk.
	v := vault{t, d}
	blob := "blob/" + plan.Hash(d.horizon.current().sealed.Plan.GetVault().GetHash()).String()
	v.remove(blob)
	if _, _, err := d.commander.recover(t.Context(), "ann", false); err != nil {
		t.Fatal(err)
	}
	if got := v.get(blob); got != string(octets) {
		t.Error("the store has not got the vault back")
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.SecretRemove, Author: "ann", Reason: "test", Secret: &core.SecretWish{Name: core.CookieSecret}})
	eventually(t, "no secret is in force", func() bool { return len(d.Secrets().Secrets) == 0 })
	if p := d.horizon.current().sealed.Plan; p.GetMinReader() >= plan.ReaderSecrets || p.GetVault() != nil {
		t.Errorf("the plan without secrets takes a reader of %d", p.GetMinReader())
	}
}

// Nobody but who may do everything sets, removes or lists secrets.
func TestSecretsAskWhoMay(t *testing.T) {
	for _, role := range []access.Role{access.Viewer, access.Operator, access.Admin} {
		by := access.Identity{Who: "cert:ann", Method: access.Certificate, Grants: []access.Grant{{Role: role, Scopes: []access.Scope{{Kind: access.Fleet}}}}}
		for _, action := range []access.Action{access.Secrets, access.Action(core.SecretSet), access.Action(core.SecretRemove)} {
			if ok, _ := access.Allow(by, action); ok != (role == access.Admin) {
				t.Errorf("%s %s: %t", role, action, ok)
			}
		}
	}
}

func FuzzSecretWords(f *testing.F) {
	f.Add(encodeSecretWord(core.SecretWord{Recipient: "age1x", Signature: make([]byte, 64), Vault: make([]byte, 32), Trouble: "disk"}))
	f.Add(encodeSecretWord(core.SecretWord{Recipient: "age1x", Signature: make([]byte, 64), Trouble: "x", Lacks: []string{"cookie", "tsig/a"}}))
	f.Add([]byte{8, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		w, err := decodeSecretWord(payload)
		if err != nil {
			return
		}
		again, err := decodeSecretWord(encodeSecretWord(w))
		if err != nil || !reflect.DeepEqual(again, w) {
			t.Errorf("%+v is read back as %+v, %v", w, again, err)
		}
	})
}

// A secret that was removed and set anew has a version 1 again. Who has not got it yet gives
// nobody the value of before in its place.
func TestVaultSetAnew(t *testing.T) {
	w := newVaultWorld(t)
	w.put(1, w.version(1, valueOne, "d1", "d3"))
	w.tick(3)
	v := w.vaults["d1"]
	w.put(1, w.version(1, valueTwo, "d1", "d3"))
	v.horizon.force = w.force()
	v.look()
	if got := w.used["d1"].cookies; len(got) != 1 || !bytes.Equal(got[0], valueOne) {
		t.Fatalf("what was in force went: %q", got)
	}
	if c := v.due(w.force()); c != nil && len(c.SecretStep.Sealed) > 0 {
		t.Error("it encrypts the value of before anew, in the place of the one that was set")
	}
	w.tick(3)
	c := v.due(w.force())
	if c == nil || len(c.SecretStep.Sealed) != 1 {
		t.Fatalf("got %+v", c)
	}
	if got, err := w.vaults["d2"].open.Open("f", core.CookieSecret, c.SecretStep.Sealed[0].Blob); err != nil || !bytes.Equal(got, valueTwo) {
		t.Errorf("d2 reads %q, %v", got, err)
	}
}

// A director that begins behind a front ends what the one before had in force there and the
// plan has no more; what it lacks, it leaves.
func TestVaultEndsWhatWasBefore(t *testing.T) {
	w := newVaultWorld(t)
	w.tick(1)
	if _, told := w.used["d1"]; !told {
		t.Error("what the director before had in force stays, though the plan has no secret")
	}
	w.put(1, w.version(1, valueOne, "d1", "d2", "d3"))
	w.away = true
	v := w.boot("d2")
	v.horizon.force = w.force()
	v.look()
	if s, told := w.used["d2"]; told {
		t.Errorf("without the vault it puts %s into force", s)
	}
}

// A director that says a key that nothing can be encrypted to keeps no other from being
// encrypted to.
func TestVaultBadRecipient(t *testing.T) {
	w := newVaultWorld(t)
	w.put(1, w.version(1, valueOne, "d1"))
	w.tick(3)
	good := w.vaults["d3"].open.Recipient()
	bad := good[:len(good)-1] + map[bool]string{true: "p", false: "q"}[strings.HasSuffix(good, "q")]
	delete(w.vaults["d1"].said, "d3")
	w.vaults["d1"].message(gossip.Message{From: "d3", Kind: kindSecrets, Pinned: true, Payload: encodeSecretWord(core.SecretWord{
		Recipient: bad, Signature: core.SignRecipient(vaultKey("d3"), "f", "d3", bad),
	})})
	c := w.vaults["d1"].due(w.force())
	if c == nil || len(c.SecretStep.Sealed) != 1 || !slices.Equal(c.SecretStep.Sealed[0].Readers, []string{"d1", "d2"}) {
		t.Errorf("got %+v", c)
	}
}

package core

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/divertdns/divert/director/plan"
)

// ageKey makes what looks as a director's public key does.
func ageKey(n int) string {
	letters := "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	return "age1" + strings.Repeat("q", 57) + string(letters[n%32])
}

// says is a director's word that it goes by the plan in force.
func (w *world) says(name string, n int) SecretWord {
	p := w.s.Plan.Plan
	key := ageKey(n)
	return SecretWord{Recipient: key, Signature: SignRecipient(keyOf(name), p.GetFleet(), name, key), Vault: p.GetVault().GetHash()}
}

func (w *world) allSay() map[string]SecretWord {
	out := map[string]SecretWord{}
	for i, d := range w.s.Plan.Plan.Active() {
		if len(d.GetKey()) > 0 {
			out[d.GetName()] = w.says(d.GetName(), i)
		}
	}
	return out
}

func (w *world) setting(name, blob string) Command {
	c := Command{Verb: SecretSet, Reason: "r", For: DefaultGrace(name), Secret: &SecretWish{Name: name, Blob: []byte(blob)}}
	for _, r := range SecretRecipients(w.s.Plan.Plan, w.allSay(), w.s.Now) {
		c.Secret.Recipients = append(c.Secret.Recipients, SecretRecipient{Director: r.GetName(), Key: r.GetKey(), Signature: r.GetSignature()})
	}
	return c
}

// leadSecrets has the leader write what is due, as one that can read all.
func (w *world) leadSecrets(words map[string]SecretWord) bool {
	w.t.Helper()
	w.s.Secrets = words
	need := SecretsDue(w.s.Plan.Plan, words, w.s.Now)
	if need == nil {
		return false
	}
	step := &SecretStep{}
	for _, n := range need.Seal {
		step.Sealed = append(step.Sealed, SealedSecret{SealNeed: n, Blob: []byte(fmt.Sprintf("%s %d to %v at %d", n.Name, n.Number, n.Readers, w.s.Plan.Identity.Revision))})
	}
	return !w.do(Command{ID: SecretStepID(w.s.Plan.Identity), Verb: SecretAdvance, SecretStep: step}).Noop
}

// A secret's life: given, used once all have it, turned over with both accepted, the old one
// ended by its grace; in each plan at most names, versions and hashes.
func TestSecretTurnedOver(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	for _, name := range []string{CookieSecret, "tsig/secondary.example.net"} {
		w.do(w.setting(name, "ciphertext one of "+name))
		for number := uint32(1); number <= 2; number++ {
			if number == 2 {
				w.do(w.setting(name, "ciphertext two of "+name))
			}
			s := w.s.Plan.Plan.Secret(name)
			if s.GetUse() != number-1 || len(s.GetVersions()) != int(number) || w.s.Plan.Plan.GetMinReader() != plan.ReaderSecrets {
				t.Fatalf("%s, version %d given: %v", name, number, s)
			}
			// Whoever is missing, in trouble or behind holds it up, and is named.
			for victim := range w.allSay() {
				for why, spoil := range map[string]func(*SecretWord) bool{
					"is not heard":         func(*SecretWord) bool { return false },
					"has not got them yet": func(s *SecretWord) bool { s.Vault = bytes.Repeat([]byte{1}, 32); return true },
					"cannot read":          func(s *SecretWord) bool { s.Trouble = "cannot read version 1"; return true },
				} {
					words := w.allSay()
					word := words[victim]
					if spoil(&word) {
						words[victim] = word
					} else {
						delete(words, victim)
					}
					if waits := SecretWaits(w.s.Plan.Plan, words); len(waits) != 1 || waits[0].Director != victim || !strings.Contains(waits[0].Why, why) {
						t.Errorf("%s %s: waits for %v", victim, why, waits)
					}
					if w.leadSecrets(words); w.s.Plan.Plan.Secret(name).GetUse() == number {
						t.Fatalf("%s is used though %s %s", name, victim, why)
					}
				}
			}
			if !w.leadSecrets(w.allSay()) || w.s.Plan.Plan.Secret(name).GetUse() != number {
				t.Fatalf("%s: version %d is not used though all have it: %v", name, number, w.s.Plan.Plan.Secret(name))
			}
		}
		w.refused(w.setting(name, "three"), "is accepted still")
		if w.leadSecrets(w.allSay()) {
			t.Fatal("the version before ends before its grace")
		}
		w.s.Now = w.s.Now.Add(DefaultGrace(name))
		if !w.leadSecrets(w.allSay()) || len(w.s.Plan.Plan.Secret(name).GetVersions()) != 1 {
			t.Fatal("the version before does not end")
		}
		w.do(w.setting(name, "ciphertext three of "+name))
		w.refused(w.setting(name, "four"), "is not used yet")
		w.refused(Command{Verb: SecretRemove, Reason: "r", Secret: &SecretWish{Name: name, Version: 2}}, "is the one that is used")
		w.do(Command{Verb: SecretRemove, Reason: "taken back", Secret: &SecretWish{Name: name, Version: 3}})
		if s := w.s.Plan.Plan.Secret(name); len(s.GetVersions()) != 1 || s.GetUse() != 2 {
			t.Errorf("taken back: %v", s)
		}
	}
	for _, name := range []string{CookieSecret, "tsig/secondary.example.net"} {
		w.do(Command{Verb: SecretRemove, Reason: "r", Secret: &SecretWish{Name: name}})
	}
	if p := w.s.Plan.Plan; len(p.GetSecrets())+len(p.GetRecipients()) > 0 || p.GetVault() != nil || p.GetMinReader() >= plan.ReaderSecrets {
		t.Errorf("without secrets the plan says %v %v %v, reader %d", p.GetSecrets(), p.GetRecipients(), p.GetVault(), p.GetMinReader())
	}
	for _, a := range w.audit {
		if strings.Contains(a.String(), "ciphertext") {
			t.Errorf("the audit log holds what was set: %v", a)
		}
	}
}

func TestSecretRefused(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	good := w.setting(CookieSecret, "blob")
	for _, tc := range []struct {
		want  string
		spoil func(*Command)
	}{
		{"no secret is named", func(c *Command) { c.Secret = nil }},
		{"is no secret", func(c *Command) { c.Secret.Name = "dnssec/x" }},
		{"is no secret", func(c *Command) { c.Secret.Name = "tsig/" }},
		{"is no secret", func(c *Command) { c.Secret.Name = "tsig/UPPER" }},
		{"is no secret", func(c *Command) { c.Secret.Name = "tsig/../x" + strings.Repeat("y", 200) }},
		{"octets encrypted", func(c *Command) { c.Secret.Blob = nil }},
		{"octets encrypted", func(c *Command) { c.Secret.Blob = make([]byte, maxSecretBlob+1) }},
		{"needs a reason", func(c *Command) { c.Reason = "" }},
		{"would be accepted for", func(c *Command) { c.For = time.Minute }},
		{"would be accepted for", func(c *Command) { c.For = 91 * 24 * time.Hour }},
		{"encrypted to 1 to", func(c *Command) { c.Secret.Recipients = nil }},
		{"has not signed", func(c *Command) { c.Secret.Recipients[0].Key = ageKey(9) }},
		{"has not signed", func(c *Command) { c.Secret.Recipients[0].Director = "d2" }},
		{"has not signed", func(c *Command) { c.Secret.Recipients[0].Director = "d9" }},
		{"has not signed", func(c *Command) { c.Secret.Recipients[1] = c.Secret.Recipients[0] }},
	} {
		c := good
		wish := *good.Secret
		wish.Recipients = slices.Clone(wish.Recipients)
		c.Secret = &wish
		tc.spoil(&c)
		w.refused(c, tc.want)
	}
	w.refused(Command{Verb: SecretRemove, Reason: "r"}, "there is no secret")
	w.refused(Command{Verb: SecretRemove, Reason: "r", Secret: &SecretWish{Name: CookieSecret}}, "there is no secret")
	w.s.Readers = map[string]uint32{"d1": plan.Reader, "d2": plan.ReaderFleet, "d3": plan.Reader}
	w.refused(good, "too new for d2")
	w.s.Readers = nil
	for i := range maxSecrets {
		w.do(w.setting(fmt.Sprintf("tsig/k%d", i), fmt.Sprint(i)))
	}
	w.refused(good, "which is the most")
}

// Whoever leaves the roster, or comes back with another key, reads nothing that is encrypted
// from then on, and is named until the value is another. Nobody's key is taken that he has
// not signed.
func TestSecretRosterChanges(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.do(w.setting(CookieSecret, "one"))
	w.leadSecrets(w.allSay())
	w.do(Command{Verb: DirectorRemove, Reason: "r", Force: true, Director: &Director{Name: "d3"}})
	if recipient(w.s.Plan.Plan, "d3") != nil {
		t.Error("the key of a director that was removed stays")
	}
	words := w.allSay()
	forged := words["d2"]
	forged.Recipient = ageKey(20)
	words["d2"] = forged
	w.leadSecrets(words)
	v := w.s.Plan.Plan.Secret(CookieSecret).GetVersions()[0]
	if !slices.Equal(v.GetReaders(), []string{"d1", "d2"}) || !slices.Equal(v.GetLeft(), []string{"d3"}) || recipient(w.s.Plan.Plan, "d2").GetKey() == forged.Recipient {
		t.Errorf("got %v", w.s.Plan.Plan.Secret(CookieSecret))
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	words = w.allSay()
	words["d2"] = w.says("d2", 21) // a key of its own, signed
	w.leadSecrets(words)
	if got := recipient(w.s.Plan.Plan, "d2").GetKey(); got != ageKey(21) {
		t.Errorf("d2's next key: %s", got)
	}
	// A leader that can read nothing leaves the need.
	w.s.Now = w.s.Now.Add(recipientHold)
	words["d2"] = w.says("d2", 22)
	w.s.Secrets = words
	w.do(Command{ID: SecretStepID(w.s.Plan.Identity), Verb: SecretAdvance})
	if v := w.s.Plan.Plan.Secret(CookieSecret).GetVersions()[0]; slices.Contains(v.GetReaders(), "d2") {
		t.Errorf("d2 is said to read what is encrypted to its key of before: %v", v.GetReaders())
	}
	if need := SecretsDue(w.s.Plan.Plan, words, w.s.Now); need == nil || len(need.Seal) != 1 {
		t.Errorf("and it is not due: %+v", need)
	}
	w.do(w.setting(CookieSecret, "two"))
	if left := SecretLeft(w.s.Plan.Plan, w.s.Plan.Plan.Secret(CookieSecret).GetVersions()[1]); len(left) > 0 {
		t.Errorf("the next value could be read by %v", left)
	}
}

// A director that says another key at each look, each of them signed, has the leader write
// once an hour.
func TestSecretRecipientsAlternate(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.do(w.setting(CookieSecret, "one"))
	w.leadSecrets(w.allSay())
	writes := 0
	for i := range 3 * 360 { // three hours, each ten seconds
		w.s.Now = w.s.Now.Add(10 * time.Second)
		words := w.allSay()
		words["d2"] = w.says("d2", 20+i%2)
		if w.leadSecrets(words) {
			writes++
		}
	}
	if writes < 2 || writes > 4 {
		t.Errorf("%d writes in three hours", writes)
	}
	// A director that was replaced waits for nothing.
	w.do(Command{Verb: DirectorRemove, Reason: "r", Force: true, Director: &Director{Name: "d2"}})
	w.leadSecrets(w.allSay())
	w.s.Plan.Plan.Recipients = append(w.s.Plan.Plan.Recipients, &plan.Recipient{Name: "d3", Key: ageKey(25), Signature: make([]byte, 64), Since: timestamppb.New(w.s.Now)})
	w.s.Plan.Plan.Recipients = slices.DeleteFunc(w.s.Plan.Plan.Recipients, func(r *plan.Recipient) bool { return r.GetName() == "d3" && r.GetKey() != ageKey(25) })
	for _, r := range SecretRecipients(w.s.Plan.Plan, w.allSay(), w.s.Now) {
		if r.GetName() == "d3" && r.GetKey() == ageKey(25) {
			t.Error("a public key that the roster's key has not signed is held on to")
		}
	}
}

// A version of one secret that the leader cannot encrypt anew holds up no other secret.
func TestSecretHeldUpAlone(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.do(w.setting("tsig/a", "one"))
	w.leadSecrets(w.allSay())
	w.do(w.setting(CookieSecret, "one"))
	p := w.s.Plan.Plan
	p.Secret("tsig/a").Versions[0].Readers = []string{"d3"} // which nobody else can read
	need := SecretsDue(p, w.allSay(), w.s.Now)
	if need == nil || len(need.Seal) != 1 || need.Seal[0].Name != "tsig/a" || !slices.Equal(need.Use, []string{CookieSecret}) {
		t.Errorf("got %+v", need)
	}
	p.Secret(CookieSecret).Versions[0].Readers = []string{"d3"}
	if need := SecretsDue(p, w.allSay(), w.s.Now); need == nil || len(need.Seal) != 2 || len(need.Use) > 0 {
		t.Errorf("one that is to be encrypted anew itself: %+v", need)
	}
}

// S7: what no leader may write of secrets, and what every director refuses.
func TestSecretsRogue(t *testing.T) {
	w := newWorld(t)
	w.joinAll()
	w.do(w.setting(CookieSecret, "one"))
	if err := checkSecrets(w.s.Plan.Plan); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*plan.Plan){
		"a key that is not signed":        func(p *plan.Plan) { p.Recipients[0].Key = ageKey(30) },
		"a key of another":                func(p *plan.Plan) { p.Recipients[0].Name = "d2" },
		"a key of nobody":                 func(p *plan.Plan) { p.Recipients[0].Name = "d9" },
		"one key twice":                   func(p *plan.Plan) { p.Recipients = append(p.Recipients, p.Recipients[0]) },
		"no vault":                        func(p *plan.Plan) { p.Vault = nil },
		"a vault of two blobs":            func(p *plan.Plan) { p.Vault.Chunks = append(p.Vault.Chunks, p.Vault.Chunks[0]) },
		"a vault of another hash":         func(p *plan.Plan) { p.Vault.Hash = make([]byte, 32) },
		"a vault of no secrets":           func(p *plan.Plan) { p.Secrets = nil },
		"a name twice":                    func(p *plan.Plan) { p.Secrets = append(p.Secrets, p.Secrets[0]) },
		"a name that there is not":        func(p *plan.Plan) { p.Secrets[0].Name = "x" },
		"no version":                      func(p *plan.Plan) { p.Secrets[0].Versions = nil },
		"versions out of order":           func(p *plan.Plan) { v := p.Secrets[0].Versions; p.Secrets[0].Versions = append(v, v[0]) },
		"the use of what is not there":    func(p *plan.Plan) { p.Secrets[0].Use = 7 },
		"a hash that is none":             func(p *plan.Plan) { p.Secrets[0].Versions[0].Sum = []byte("x") },
		"a ciphertext that is too large":  func(p *plan.Plan) { p.Secrets[0].Versions[0].Size = maxSecretBlob + 1 },
		"more secrets than there may be":  func(p *plan.Plan) { p.Secrets = slices.Repeat(p.Secrets, maxSecrets+1) },
		"more readers than there may be":  func(p *plan.Plan) { p.Secrets[0].Versions[0].Readers = make([]string, maxRecipients+1) },
		"a version that is numbered zero": func(p *plan.Plan) { p.Secrets[0].Versions[0].Number = 0 },
	} {
		c, err := w.try(Command{Verb: Freeze, Reason: "r", For: time.Hour, Scope: "fleet"})
		if err != nil {
			t.Fatal(err)
		}
		if spoil(c.Plan); checkSecrets(c.Plan) == nil {
			t.Errorf("took a plan with %s", name)
		}
	}
}

// Whatever comes in whatever order, no version is used that some registered director lacks,
// and what is used is never dropped; each plan passes the next director's check.
func TestSecretsAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.joinAll()
		has := map[string][]byte{} // the vault that each goes by
		for i := range 40 {
			p := w.s.Plan.Plan
			who := rapid.SampledFrom([]string{"d1", "d2", "d3"}).Draw(rt, "who")
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				c := w.setting(CookieSecret, fmt.Sprintf("blob %d", i))
				if _, err := w.try(c); err == nil {
					w.do(c)
				}
			case 1:
				c := Command{Verb: SecretRemove, Reason: "r", Secret: &SecretWish{Name: CookieSecret, Version: uint32(rapid.IntRange(0, 4).Draw(rt, "version"))}}
				if _, err := w.try(c); err == nil {
					w.do(c)
				}
			case 2, 3:
				has[who] = p.GetVault().GetHash()
			case 4:
				w.s.Now = w.s.Now.Add(time.Hour)
			case 5:
				words := w.allSay()
				for name, word := range words {
					word.Vault = has[name]
					words[name] = word
				}
				before := p.Secret(CookieSecret).GetUse()
				w.leadSecrets(words)
				if now := w.s.Plan.Plan.Secret(CookieSecret).GetUse(); now > before {
					for name := range maps.Keys(words) {
						if !bytes.Equal(has[name], p.GetVault().GetHash()) {
							rt.Fatalf("version %d is used, and %s has not got it", now, name)
						}
					}
				}
			}
			if err := checkSecrets(w.s.Plan.Plan); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// vaulted does what the writer of a plan does for secrets.
func vaulted(c Change) {
	if c.Revault {
		sum := sha256.Sum256(bytes.Join(SecretSums(c.Plan), nil))
		c.Plan.Vault = &plan.SpecRef{Hash: sum[:], Size: 1, Chunks: [][]byte{sum[:]}}
	}
}

// TestSecretWaitsForSecond: a secret whose setting waits for a second person is in the request
// alone: the plan that asks names no ciphertext of it, and none is written beside (S16).
func TestSecretWaitsForSecond(t *testing.T) {
	w := newPair(t)
	c := w.setting(CookieSecret, "blob")
	c.Force = true
	got, err := w.via("d1", "alice", c)
	if err != nil || got.Request == nil {
		t.Fatalf("got %v, %v, want that it waits", got.Request, err)
	}
	if len(got.Blobs) > 0 || got.Revault || len(got.Plan.GetSecrets()) > 0 {
		t.Errorf("the plan that asks brings %d ciphertexts, revault %t, secrets %v", len(got.Blobs), got.Revault, got.Plan.GetSecrets())
	}
	w.take(got)
	done, err := w.via("d2", "bob", Command{Verb: Approve, Scope: got.Request.GetId()})
	if err != nil || len(done.Blobs) != 1 || len(done.Plan.GetSecrets()) != 1 {
		t.Errorf("approved: %d ciphertexts, %v", len(done.Blobs), err)
	}
}

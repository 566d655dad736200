package dnsserver

import (
	"bytes"
	"encoding/base64"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// signedWith packs a query that is signed with a secret.
func signedWith(t *testing.T, secret []byte) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetAxfr("example.org.")
	m.SetTsig("secondary.example.net.", dns.HmacSHA256, 300, time.Now().Unix())
	packet, _, err := dns.TsigGenerate(m, base64.StdEncoding.EncodeToString(secret), "", false)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// A key that is shared is good by each of its secrets and by no other, and by none before it
// has any; what a signature was replayed against stays over a change of the secrets.
func TestSharedKeys(t *testing.T) {
	old, next, foreign := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)
	s := &Server{transferring: TransferOptions{Keys: []Key{{Name: "secondary.example.net", Algorithm: "hmac-sha256", Shared: true}}}}
	ring, err := newKeyring(s.transferring.Keys, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.keys.Store(&ring)
	judge := func(packet []byte) (sig signature) {
		t.Helper()
		at := bytes.LastIndex(packet, []byte("\x09secondary")) // not compressed: the TSIG's name
		if !s.keys.Load().verify(&sig, packet, at, time.Now()) {
			t.Fatal("no signature is found")
		}
		return sig
	}
	for _, step := range []struct {
		name    string
		secrets [][]byte
		good    [][]byte
	}{
		{"none yet", nil, nil},
		{"the first", [][]byte{old}, [][]byte{old}},
		{"two, the old one signs", [][]byte{old, next}, [][]byte{old, next}},
		{"two, the new one signs", [][]byte{next, old}, [][]byte{old, next}},
		{"the new one alone", [][]byte{next}, [][]byte{next}},
	} {
		if err := s.UseSecrets(map[string][][]byte{"Secondary.Example.NET.": step.secrets}); err != nil {
			t.Fatal(err)
		}
		for _, secret := range [][]byte{old, next, foreign} {
			want := false
			for _, g := range step.good {
				want = want || bytes.Equal(g, secret)
			}
			if sig := judge(signedWith(t, secret)); (sig.fault == 0) != want {
				t.Errorf("%s: signed with %x: fault %d", step.name, secret[:1], sig.fault)
			} else if want && !bytes.Equal(sig.key.secret, secret) {
				t.Errorf("%s: the reply would be signed with another secret", step.name)
			}
		}
		if signer := (*s.keys.Load())["\x09secondary\x07example\x03net\x00"]; len(step.secrets) > 0 && !bytes.Equal(signer.secret, step.secrets[0]) {
			t.Errorf("%s: NOTIFY is signed with another secret", step.name)
		}
	}
	sent := signedWith(t, next)
	sig := judge(sent)
	if sig.replayed(time.Now()) {
		t.Fatal("replayed the first time")
	}
	if err := s.UseSecrets(map[string][][]byte{"secondary.example.net": {old, next}}); err != nil {
		t.Fatal(err)
	}
	if sig = judge(sent); !sig.replayed(time.Now()) {
		t.Error("a change of the secrets lets what was sent be sent again")
	}
	for _, bad := range [][][]byte{{old[:15]}, {old, next, old, next, old}} {
		if s.UseSecrets(map[string][][]byte{"secondary.example.net": bad}) == nil {
			t.Errorf("took %d secrets of %d octets", len(bad), len(bad[0]))
		}
	}
	if sig := judge(signedWith(t, old)); sig.fault != 0 {
		t.Error("what is refused takes the keys in force away")
	}
	if from := netip.MustParseAddr("192.0.2.1"); !s.admits(from, true) || s.admits(from, false) {
		t.Error("a key that is shared is none that is asked for")
	}
}

// While keys of cookies are turned over, what each of them made is good, the first makes
// new ones, and what another one made comes back anew.
func TestSharedCookies(t *testing.T) {
	s := &Server{cookieKeys: cookieKeys{own: bytes.Repeat([]byte{9}, 32)}}
	old, next := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	now := time.Now()
	if err := s.turnCookies(now); err != nil {
		t.Fatal(err)
	}
	first := func() answer.CookieSecret { return (*s.cookies.Load())[0] }
	own := first()
	for _, keys := range [][][]byte{{old}, {old, next}, {next, old}, {next}, nil} {
		if err := s.UseCookies(keys, false); err != nil {
			t.Fatal(err)
		}
		want, err := secretsAt(now, append(slices.Clone(keys), s.cookieKeys.own)...)
		if err != nil {
			t.Fatal(err)
		}
		if got := *s.cookies.Load(); !slices.Equal(got, want) {
			t.Errorf("got %d secrets, want %d, the first of the first key", len(got), len(want))
		}
	}
	if err := s.UseCookies([][]byte{next}, true); err != nil || first() != own || len(*s.cookies.Load())%2 != 0 {
		t.Errorf("a key that not all know yet makes cookies: %v", err)
	}
	if err := s.UseCookies(nil, false); err != nil || first() != own {
		t.Error("without shared keys it is not what it was")
	}
	if err := s.UseCookies([][]byte{old, next}, false); err != nil {
		t.Fatal(err)
	}
	held := s.cookies.Load()
	if err := s.turnCookies(now); err != nil || s.cookies.Load() != held {
		t.Error("secrets of the same epochs are made anew")
	}
	if err := s.turnCookies(now.Add(48 * time.Hour)); err != nil || len(*s.cookies.Load())%3 != 0 || first().Epoch == own.Epoch {
		t.Error("the next epoch's are not made of all keys")
	}
	if s.UseCookies([][]byte{old[:15]}, false) == nil || s.UseCookies([][]byte{old, old, old, old, old}, false) == nil {
		t.Error("took a short key, or five")
	}
}

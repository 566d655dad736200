package gossip

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func secretsOf(secret []byte) [][]byte {
	if len(secret) == 0 {
		return nil
	}
	return [][]byte{secret}
}

func TestLoadSecrets(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	line := base64.StdEncoding.EncodeToString(key) + "\n"
	second := base64.StdEncoding.EncodeToString(key[:24]) + "\n"
	tests := []struct {
		name string
		file string
		want []int
	}{
		{"16 octets", string(key[:16]), []int{16}},
		{"24 octets", string(key[:24]), []int{24}},
		{"32 octets", string(key), []int{32}},
		{"base64 line", line, []int{32}},
		{"base64 in two lines", line[:20] + "\n" + line[20:], []int{32}},
		{"two keys", line + second, []int{32, 24}},
		{"two keys, as an editor on Windows leaves them", strings.ReplaceAll(line+second, "\n", "\r\n"), []int{32, 24}},
		{"one key twice", line + line, nil},
		{"three keys", line + second + base64.StdEncoding.EncodeToString(key[:16]), nil},
		{"half a file", line + second[:20], nil},
		{"empty", "", nil},
		{"a password", "secret\n", nil},
		{"base64 of 20 octets", base64.StdEncoding.EncodeToString(key[:20]), nil},
		{"far too long", strings.Repeat("A", 1<<16), nil},
	}
	for _, tc := range tests {
		path := filepath.Join(t.TempDir(), "gossip.key")
		if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadSecrets(path)
		var sizes []int
		for _, k := range got {
			sizes = append(sizes, len(k))
		}
		if fmt.Sprint(sizes) != fmt.Sprint(tc.want) || (err == nil) != (len(tc.want) > 0) {
			t.Errorf("%s: got %v, %v, want %v", tc.name, sizes, err, tc.want)
		}
		if again := ParseSecrets(FormatSecrets(got)); fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("%s: what was written is read as %v, not %v", tc.name, again, got)
		}
	}
	if _, err := LoadSecrets(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file gave a key")
	}
}

func FuzzParseSecrets(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Add([]byte("MDEyMzQ1Njc4OWFiY2RlZg==\nZmVkY2JhOTg3NjU0MzIxMA==\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys := ParseSecrets(raw)
		if len(keys) > 0 && checkSecrets(keys) != nil {
			t.Errorf("%q was read as what no node takes", raw)
		}
	})
}

// Every ring of two of four keys, to every other: what Rekey leaves is what was asked for,
// while others decrypt with it (run with -race: memberlist's own removal moves keys under
// its readers).
func TestRekey(t *testing.T) {
	t.Parallel()
	key := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n)}, 16+8*(n%3)) }
	var rings [][][]byte
	for i := range 4 {
		rings = append(rings, [][]byte{key(i)})
		for j := range 4 {
			if i != j {
				rings = append(rings, [][]byte{key(i), key(j)})
			}
		}
	}
	n := &Node{}
	var err error
	if n.ring, err = newRing(rings[0]); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, k := range n.ring.GetKeys() {
				if !keySize(k) {
					t.Error("a reader sees half a key")
				}
			}
		}
	})
	for _, from := range rings {
		for _, to := range rings {
			for _, ring := range [][][]byte{from, to} {
				if err := n.Rekey(ring); err != nil {
					t.Fatal(err)
				}
				if got := n.ring.GetKeys(); fmt.Sprint(got) != fmt.Sprint(ring) {
					t.Fatalf("from %q the ring is %q, want %q", from, got, ring)
				}
			}
		}
	}
	close(stop)
	wg.Wait()
	for _, bad := range [][][]byte{nil, {[]byte("short")}, {key(0), key(1), key(2)}} {
		if n.Rekey(bad) == nil {
			t.Errorf("took %q", bad)
		}
	}
	if (&Node{}).Rekey(rings[0]) == nil {
		t.Error("a node without a key was given one")
	}
}

// Three directors turn their key over under traffic, one after the other in each phase, so
// that rings are mixed at every step; one comes back as another process in between. No
// vote is lost, and nothing is heard that does not decrypt.
func TestTurnOverUnderTraffic(t *testing.T) {
	t.Parallel()
	f := newFleet("f1")
	was, is := []byte("0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")
	f.secret = was
	ids := []Identity{identity("d1", "", 1), identity("d2", "", 1), identity("d3", "", 1)}
	first := start(t, f, ids[0], nil)
	peers := []*peer{first, start(t, f, ids[1], join(first)), start(t, f, ids[2], join(first))}
	for i, p := range peers {
		f.register(ids[i].Name, ids[i].Public(), p.Addr().String())
	}
	all := func() bool {
		for _, p := range peers {
			if len(p.Members()) != len(peers) {
				return false
			}
		}
		return true
	}
	eventually(t, "all to be members", all)

	sent := map[string][]string{}
	say := func() { // one vote of each, and all of it is heard before the next: loopback loses nothing by itself
		for _, p := range peers {
			text := fmt.Sprintf("vote %d of %s", len(sent[p.opts.Name]), p.opts.Name)
			if _, err := p.Broadcast(7, []byte(text)); err != nil {
				t.Fatal(err)
			}
			sent[p.opts.Name] = append(sent[p.opts.Name], text)
		}
		for _, from := range peers {
			for _, to := range peers {
				if from == to {
					continue
				}
				last := sent[from.opts.Name][len(sent[from.opts.Name])-1]
				eventually(t, to.opts.Name+" to hear "+last, func() bool { return to.heard(from.opts.Name, last) })
			}
		}
	}
	phases := []struct {
		name string
		ring [][]byte
	}{{"add", [][]byte{was, is}}, {"use", [][]byte{is, was}}, {"remove", [][]byte{is}}}
	for n, phase := range phases {
		for i, p := range peers {
			say()
			if err := p.Rekey(phase.ring); err != nil {
				t.Fatal(err)
			}
			say()
			if i == n { // killed half way through the phase, and back with what its file says
				p.stop()
				ids[i].Boot++
				others := []*peer{peers[(i+1)%3], peers[(i+2)%3]}
				back := start(t, f, ids[i], func(o *Options) {
					o.Secrets = phase.ring
					join(others...)(o)
				})
				back.got = append(back.got, p.messages()...)
				peers[i] = back
				f.register(ids[i].Name, ids[i].Public(), back.Addr().String())
				eventually(t, ids[i].Name+" to be back in phase "+phase.name, func() bool {
					return all() && strings.Contains(back.names(), "d1") && others[0].members.where(ids[i].Name)[0].Port == back.Addr().Port() &&
						others[1].members.where(ids[i].Name)[0].Port == back.Addr().Port()
				})
			}
		}
	}
	deadline := time.Now().Add(500 * time.Millisecond) // push/pull and probes under the new key, too
	for time.Now().Before(deadline) {
		say()
	}
	for _, p := range peers {
		if lost := p.droppedFor(undecryptable); lost != 0 {
			t.Errorf("%s could not decrypt %v packets", p.opts.Name, lost)
		}
	}
	// And the old key opens nothing any more.
	late := start(t, f, identity("d4", "", 1), join(peers...))
	eventually(t, "who holds the old key alone to be counted, by its joins over TCP alone", func() bool {
		return peers[0].droppedFor(undecryptable)+peers[1].droppedFor(undecryptable)+peers[2].droppedFor(undecryptable) > 0
	})
	if len(late.Members()) > 1 {
		t.Errorf("the old key lets in: %s", late.names())
	}
}

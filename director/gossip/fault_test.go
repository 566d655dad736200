package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/relay"
)

// userPacket frames a message as memberlist does, without its key.
func userPacket(raw []byte) []byte {
	out := append([]byte{labelType, byte(len(label))}, label...)
	return append(append(out, 8), raw...) // 8 is memberlist's userMsg
}

// F13: corrupt, foreign, unsigned, replayed, stale and oversized input is
// dropped, each counted by its reason, and none of it is delivered.
func TestJunkIsCounted(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d2 := identity("d2", "", 9)
	f.register("d2", d2.Public(), "")
	p := start(t, f, identity("d1", "", 1), nil)
	conn, err := net.Dial("udp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	send := func(packet []byte) {
		t.Helper()
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	seal := func(fleet string, boot uint64, seq uint64) []byte {
		return Seal(fleet, 7, "d2", d2.Key, boot, 1, seq, []byte("vote"))
	}
	forged := seal("fleet-1", 9, 50)
	forged[len(forged)-1] ^= 1
	good := seal("fleet-1", 9, 10_000)
	send(userPacket(good))
	eventually(t, "the good message", func() bool { return p.heard("d2", "vote") })
	tests := []struct {
		name   string
		packet []byte
		want   reason
	}{
		{"the same again", userPacket(good), replayed},
		{"far too old", userPacket(seal("fleet-1", 9, 1)), stale},
		{"of an earlier boot", userPacket(seal("fleet-1", 8, 20_000)), stale},
		{"cut short", userPacket(good[:40]), malformed},
		{"no message at all", userPacket([]byte("hello")), malformed},
		{"forged", userPacket(forged), unsigned},
		{"of another fleet", userPacket(seal("fleet-2", 9, 60)), foreignFleet},
		{"without a label", good, foreignLabel},
		{"of another protocol", []byte("GET / HTTP/1.0\r\n\r\n"), foreignLabel},
		{"larger than a datagram of ours", userPacket(make([]byte, maxPacket)), oversized},
		{"with another key", userPacket(Seal("fleet-1", 7, "d2", identity("d2", "x", 9).Key, 9, 1, 70, nil)), changedKey},
	}
	for _, tc := range tests {
		before := p.droppedFor(tc.want)
		send(tc.packet)
		eventually(t, fmt.Sprintf("%s to be counted as %s", tc.name, tc.want), func() bool { return p.droppedFor(tc.want) == before+1 })
	}
	// What carries this director's own key is its own sent back, or a clone's.
	own := identity("d1", "", 1)
	sent, err := p.Broadcast(7, nil)
	if err != nil {
		t.Fatal(err)
	}
	for why, packet := range map[reason][]byte{
		replayed:          userPacket(sent.Raw),
		duplicateInstance: userPacket(Seal("fleet-1", 7, "d1", own.Key, 2, 99, 1, nil)),
	} {
		before := p.droppedFor(why)
		send(packet)
		eventually(t, "its own message to be counted as "+string(why), func() bool { return p.droppedFor(why) == before+1 })
	}
	eventually(t, "the alarm about itself", func() bool { return strings.Contains(p.Alarms()["d1"], "own identity") })
	if got := len(p.messages()); got != 1 {
		t.Errorf("%d messages delivered, want 1", got)
	}
}

// F26 for real: two processes of one identity speak to a third.
func TestClonedMachine(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 7)
	f.register("d1", d1.Public(), "")
	f.register("d2", d2.Public(), "")
	p := start(t, f, d1, nil)
	original := start(t, f, d2, join(p))
	eventually(t, "the original to be heard", func() bool {
		if _, err := original.Broadcast(7, []byte("first")); err != nil {
			t.Fatal(err)
		}
		return p.heard("d2", "first")
	})
	d2.Boot = 8
	clone := start(t, f, d2, join(p))
	eventually(t, "the alarm", func() bool {
		for _, n := range []*peer{original, clone} {
			if _, err := n.Broadcast(7, []byte("vote")); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Contains(p.Alarms()["d2"], "two live processes")
	})
	before := len(p.messages())
	counted := p.droppedFor(duplicateInstance)
	eventually(t, "both to be dropped", func() bool {
		for _, n := range []*peer{original, clone} {
			if _, err := n.Broadcast(7, []byte("vote")); err != nil {
				t.Fatal(err)
			}
		}
		return p.droppedFor(duplicateInstance) >= counted+10
	})
	if got := len(p.messages()); got != before {
		t.Errorf("%d messages of doubled directors delivered", got-before)
	}
}

// freePort finds a port that both TCP and UDP are free on.
func freePort(t *testing.T, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

// behind runs three directors whose gossip goes through a relay.
func behind(t *testing.T, f *fleet) ([]*peer, *relay.Relay) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("loopback has one address only")
	}
	opts := relay.Options{Seed: 1, Sources: map[netip.Addr]string{}}
	var listens, advertises []string
	names := []string{"d1", "d2", "d3"}
	for i, name := range names {
		ip := fmt.Sprintf("127.0.3.%d", i+1)
		listens, advertises = append(listens, freePort(t, ip)), append(advertises, freePort(t, "127.0.4.1"))
		opts.Sources[netip.MustParseAddr(ip)] = name
		opts.Links = append(opts.Links, relay.Link{To: name, Listen: advertises[i], Target: listens[i]})
	}
	r, err := relay.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	var peers []*peer
	for i, name := range names {
		id := identity(name, "", 1)
		f.register(name, id.Public(), advertises[i])
		peers = append(peers, start(t, f, id, func(o *Options) {
			o.Listen, o.Advertise = listens[i], advertises[i]
			o.Join = advertises[:1]
		}))
	}
	for _, p := range peers {
		eventually(t, p.opts.Name+" to know all", func() bool { return p.names() == "d1 d2 d3" })
	}
	return peers, r
}

// F7, F8: a director that was cut off until memberlist forgot it, and it forgot
// them, rejoins by itself. Its peers do not miss each other meanwhile.
func TestLongPartition(t *testing.T) {
	t.Parallel()
	peers, r := behind(t, newFleet("fleet-1"))
	d1, d2, d3 := peers[0], peers[1], peers[2]
	for round := range 2 {
		dark := fmt.Sprint("from the dark ", round)
		r.Cut("d1", relay.Any)
		r.Cut(relay.Any, "d1")
		eventually(t, "both sides to give each other up", func() bool {
			return d1.names() == "d1" && d2.names() == "d2 d3" && d3.names() == "d2 d3"
		})
		// The partition goes on until memberlist has forgotten the dead, which
		// it does once they are dead for GossipToTheDeadTime and its next round
		// of probes ends: it then takes their old incarnations for new.
		over := time.Now().Add(5 * d1.tuning.list.GossipToTheDeadTime)
		eventually(t, "the partition to be long", func() bool {
			if _, err := d1.Broadcast(7, []byte(dark)); err != nil {
				t.Fatal(err)
			}
			return time.Now().After(over)
		})
		if d2.heard("d1", dark) {
			t.Fatal("the cut leaks")
		}
		r.Heal(relay.Any, relay.Any)
		for _, p := range peers {
			eventually(t, p.opts.Name+" to know all again", func() bool { return p.names() == "d1 d2 d3" })
		}
	}
	eventually(t, "words to cross again", func() bool {
		for _, p := range peers {
			if _, err := p.Broadcast(7, []byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		return d1.heard("d3", "hello") && d3.heard("d1", "hello")
	})
}

// Votes reach a registered peer over a healed link though memberlist still
// holds it for dead.
func TestAbsentPeersAreSpokenTo(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	d1, d2 := identity("d1", "", 1), identity("d2", "", 1)
	addr := freePort(t, "127.0.0.1")
	f.register("d1", d1.Public(), "")
	f.register("d2", d2.Public(), addr)
	never := func(o *Options) { o.tune = func(tu *tuning) { fast(tu); tu.redial = time.Hour } }
	p1 := start(t, f, d1, never)
	eventually(t, "the first attempt to fail", func() bool {
		_, err := p1.Send("d2", 7, nil)
		return err == nil // it runs
	})
	p2 := start(t, f, d2, func(o *Options) {
		never(o)
		o.Listen = addr
	})
	eventually(t, "d2 to hear d1, which it does not gossip with", func() bool {
		if _, err := p1.Broadcast(7, []byte("vote")); err != nil {
			t.Fatal(err)
		}
		return p2.heard("d1", "vote")
	})
}

// F14: delay with jitter, reordering and duplicates lose nobody, and each
// message is delivered once.
func TestBadLinks(t *testing.T) {
	t.Parallel()
	peers, r := behind(t, newFleet("fleet-1"))
	r.Shape(relay.Any, relay.Any, relay.Fault{Delay: 5 * time.Millisecond, Jitter: 10 * time.Millisecond, Duplicate: 0.5, Reorder: 0.5})
	n := 0
	eventually(t, "200 messages from d1 to d2", func() bool {
		for range 10 {
			n++
			if _, err := peers[0].Broadcast(7, fmt.Append(nil, n)); err != nil {
				t.Fatal(err)
			}
		}
		return len(peers[1].messages()) >= 200
	})
	seen := map[string]bool{}
	for _, m := range peers[1].messages() {
		if seen[string(m.Payload)] {
			t.Errorf("message %s was delivered twice", m.Payload)
		}
		seen[string(m.Payload)] = true
	}
	if peers[1].droppedFor(replayed) == 0 {
		t.Error("no duplicate was counted")
	}
	for _, p := range peers {
		eventually(t, p.opts.Name+" to know all", func() bool { return p.names() == "d1 d2 d3" })
	}
}

// A director comes back at its old place with another key, while its peers still
// hold its old self to be alive: what it signs says under which key it speaks,
// and once a person has removed the old key and approved the new one it is a
// director again, without a doubt left over.
func TestLostDiskReplaced(t *testing.T) {
	t.Parallel()
	f := newFleet("fleet-1")
	old, anew := identity("d3", "", 7), identity("d3", "another disk", 9)
	f.register("d1", identity("d1", "", 1).Public(), "")
	f.register("d2", identity("d2", "", 1).Public(), "")
	f.register("d3", old.Public(), "")
	p1 := start(t, f, identity("d1", "", 1), nil)
	p2 := start(t, f, identity("d2", "", 1), join(p1))
	p3 := start(t, f, old, join(p1, p2))
	peers := []*peer{p1, p2}
	each := func(what string, ok func(p *peer) bool) {
		t.Helper()
		for _, p := range peers {
			eventually(t, what, func() bool { return ok(p) })
		}
	}
	each("all to meet", func(p *peer) bool { return p.names() == "d1 d2 d3" })
	crash(t, p3)
	p3 = start(t, f, anew, func(o *Options) {
		join(p1, p2)(o)
		o.Listen = p3.Addr().String()
	})
	speaks := func() {
		if _, err := p3.Broadcast(7, []byte("anew")); err != nil {
			t.Fatal(err)
		}
	}
	each("the alarm, and the key that it is about", func(p *peer) bool {
		speaks()
		return strings.Contains(p.Alarms()["d3"], "another key") && bytes.Equal(p.Claimed("d3").Key, anew.Public()) && p.Claimed("d3").Gossip == p3.Advertised().String()
	})
	f.register("d3", nil, "")
	each("the alarm to end, with the old self forgotten", func(p *peer) bool {
		speaks()
		held := slices.ContainsFunc(p.Members(), func(m Member) bool { return bytes.Equal(m.Meta.Key, old.Public()) })
		return p.Alarms()["d3"] == "" && bytes.Equal(p.Claimed("d3").Key, anew.Public()) && !held
	})
	f.register("d3", anew.Public(), "")
	each("it to be a director again", func(p *peer) bool {
		speaks()
		return p.names() == "d1 d2 d3" && p.Alarms()["d3"] == "" && p.heard("d3", "anew")
	})
}

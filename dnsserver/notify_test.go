package dnsserver

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/answer"
)

// secondaryServer hears NOTIFYs and answers as handle says (nil: not at all).
type secondaryServer struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	heard []string // zone, and whether it was signed well
}

func hear(t *testing.T, key *Key, handle func(n int, m *dns.Msg) *dns.Msg) *secondaryServer {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &secondaryServer{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for n := 0; ; n++ {
			size, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(buf[:size]); err != nil {
				t.Errorf("unpacking: %v", err)
				continue
			}
			said := m.Question[0].Name
			mac := ""
			if sig := m.IsTsig(); sig != nil && key != nil {
				mac = sig.MAC
				if err := dns.TsigVerify(slices.Clone(buf[:size]), secretOf(*key), "", false); err == nil {
					said += " signed"
				}
			}
			if m.Opcode != dns.OpcodeNotify || !m.Authoritative || m.Question[0].Qtype != dns.TypeSOA {
				said += " badly"
			}
			s.mu.Lock()
			s.heard = append(s.heard, said)
			s.mu.Unlock()
			reply := handle(n, m)
			if reply == nil {
				continue
			}
			packet, err := reply.Pack()
			if reply.IsTsig() != nil {
				packet, _, err = dns.TsigGenerate(reply, secretOf(*key), mac, false)
			}
			if err != nil {
				t.Errorf("packing: %v", err)
				continue
			}
			_, _ = conn.WriteToUDPAddrPort(packet, from)
		}
	}()
	return s
}

func (s *secondaryServer) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

func taken(_ int, m *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(m) }

func withSerial(t *testing.T, serial uint32, plan string) *answer.Table {
	t.Helper()
	return compileText(t, answer.Options{Plan: plan}, "", serial)
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// RFC 1996: each new serial is told to each secondary, at the start too, signed
// where it has a key, and no change that leaves the serial is (S13).
func TestNotify(t *testing.T) {
	key := theKey()
	plain := hear(t, nil, taken)
	signed := hear(t, &key, func(_ int, m *dns.Msg) *dns.Msg {
		reply := new(dns.Msg).SetReply(m)
		reply.SetTsig(key.Name+".", key.Algorithm+".", 300, time.Now().Unix())
		return reply
	})
	table := new(atomic.Pointer[answer.Table])
	s := serve(t, nil, func(o *Options, l *limits) {
		o.Table, l.notify = table, time.Millisecond
		o.Transfers = TransferOptions{Keys: []Key{key}, Notify: []Secondary{{Addr: plain.addr}, {Addr: signed.addr, Key: "secondary.EXAMPLE.net"}}}
	})
	all := func(n uint64) func() bool {
		return func() bool { return s.notifier.counts[notifyTaken].Load() == n }
	}
	table.Store(withSerial(t, 1, "a"))
	waitFor(t, "the start", all(2))
	table.Store(withSerial(t, 1, "b")) // health flipped
	table.Store(withSerial(t, 2, "b"))
	waitFor(t, "a new serial", all(4))
	if got, want := plain.said(), []string{"example.org.", "example.org."}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := signed.said(), []string{"example.org. signed", "example.org. signed"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// RFC 1996 section 3.6: who does not answer is asked again, with longer pauses, and
// given up in the end; an error is an answer; a reply that nobody asked for, or
// without the signature that it needs, is none.
func TestNotifyAgain(t *testing.T) {
	key := theKey()
	tests := []struct {
		name   string
		key    *Key
		handle func(n int, m *dns.Msg) *dns.Msg
		tries  int
		want   int
	}{
		{"at once", nil, taken, 1, notifyTaken},
		{"the third time", nil, func(n int, m *dns.Msg) *dns.Msg {
			if n < 2 {
				return nil
			}
			return taken(n, m)
		}, 3, notifyTaken},
		{"never", nil, func(int, *dns.Msg) *dns.Msg { return nil }, notifyTries, notifyUnheard},
		{"refused", nil, func(_ int, m *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(m, dns.RcodeRefused) }, 1, notifyRefused},
		{"another ID", nil, func(n int, m *dns.Msg) *dns.Msg {
			reply := taken(n, m)
			if n == 0 {
				reply.Id++
			}
			return reply
		}, 2, notifyTaken},
		{"another zone", nil, func(n int, m *dns.Msg) *dns.Msg {
			reply := taken(n, m)
			if n == 0 {
				reply.Question[0].Name = "example.net."
			}
			return reply
		}, 2, notifyTaken},
		{"not signed", &key, taken, notifyTries, notifyUnheard},
		{"signed badly", &key, func(n int, m *dns.Msg) *dns.Msg {
			reply := taken(n, m)
			reply.SetTsig(key.Name+".", key.Algorithm+".", 300, time.Now().Unix()-3600)
			return reply
		}, notifyTries, notifyUnheard},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			to := hear(t, tc.key, tc.handle)
			var log bytes.Buffer
			s := &secondary{
				addr: to.addr, key: tc.key, signer: signerOf(t, tc.key), log: slog.New(slog.NewTextHandler(&log, nil)), first: time.Millisecond,
				wake: make(chan struct{}, 1), news: map[string]uint32{"example.org.": 1}, counts: new([notifyOutcomes]atomic.Uint64),
			}
			under := map[string]*notice{}
			s.take(under, time.Now())
			if err := s.tellAll(t.Context(), under); err != nil {
				t.Fatal(err)
			}
			if n := s.counts[tc.want].Load(); n != 1 || len(to.said()) != tc.tries {
				t.Errorf("%s %d times, after %d tries; want once, after %d", notifyOutcome(tc.want), n, len(to.said()), tc.tries)
			}
			if warned := strings.Contains(log.String(), "level=WARN"); warned != (tc.want != notifyTaken) {
				t.Errorf("logged:\n%s", &log)
			}
		})
	}
}

// signerOf gives what a NOTIFY is signed with.
func signerOf(t *testing.T, k *Key) func([]byte) *tsigKey {
	t.Helper()
	if k == nil {
		return nil
	}
	ring, err := newKeyring([]Key{*k}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(name []byte) *tsigKey { return ring[string(name)] }
}

// A secondary whose port is closed neither ends nor spins the telling of others.
func TestNotifyNobodyListens(t *testing.T) {
	good := hear(t, nil, taken)
	gone, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	gone.Close()
	s := serve(t, withSerial(t, 1, ""), func(o *Options, l *limits) {
		l.notify = time.Millisecond
		o.Transfers.Notify = []Secondary{{Addr: addr}, {Addr: good.addr}}
	})
	waitFor(t, "the other", func() bool { return s.notifier.counts[notifyTaken].Load() == 1 })
	if _, err := New(Options{Table: s.table, Transfers: TransferOptions{Notify: []Secondary{{Addr: addr, Key: "none."}}}}); err == nil || !strings.Contains(err.Error(), "no key none.") {
		t.Errorf("a key that is not there: got %v", err)
	}
}

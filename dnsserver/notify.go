package dnsserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// notifyTick is how often the table is looked at for new serials: what changes
	// within it is told once (RFC 1996 section 4.4 asks to hold back).
	notifyTick = time.Second
	// notifyTries is how often a secondary is told, the pauses doubling from
	// notifyFirst: some ten minutes in all. After them its refresh timer must do.
	notifyTries = 9
	notifyFirst = 2 * time.Second
)

// The outcomes of telling a secondary about a zone.
const (
	notifyTaken   = iota
	notifyRefused // it answered with an error
	notifyUnheard // it never answered
	notifyOutcomes
)

func notifyOutcome(i int) string { return [...]string{"taken", "refused", "unheard"}[i] }

// notifier tells secondaries of new serials.
type notifier struct {
	secondaries []*secondary
	counts      [notifyOutcomes]atomic.Uint64
}

// secondary is one that is told. Its own goroutine sends; the notifier's leaves news.
type secondary struct {
	addr   netip.AddrPort
	key    *Key                       // nil: not signed
	signer func(name []byte) *tsigKey // gives what it is signed with now; nil: nothing is at hand
	log    *slog.Logger
	counts *[notifyOutcomes]atomic.Uint64
	wake   chan struct{}
	first  time.Duration // between the first two tries

	mu   sync.Mutex
	news map[string]uint32 // serials by zone; the newest is the one that counts
}

// notice is what is being told about one zone.
type notice struct {
	serial uint32
	tries  int
	due    time.Time
	id     uint16
	mac    string // of the last request
	secret []byte // that it was signed with
}

func newNotifier(o TransferOptions, signer func(name []byte) *tsigKey, log *slog.Logger) (*notifier, error) {
	n := &notifier{}
	for _, to := range o.Notify {
		s := &secondary{
			addr: to.Addr, signer: signer, log: log, counts: &n.counts, wake: make(chan struct{}, 1), first: notifyFirst, news: make(map[string]uint32),
		}
		for i := range o.Keys {
			if dns.CanonicalName(o.Keys[i].Name) == dns.CanonicalName(to.Key) {
				s.key = &o.Keys[i]
			}
		}
		if to.Key != "" && s.key == nil {
			return nil, errors.New("dns.transfers.notify: there is no key " + to.Key)
		}
		n.secondaries = append(n.secondaries, s)
	}
	return n, nil
}

// notify watches for new serials and has them told until ctx ends. At the start all
// are: nobody knows what was missed.
func (s *Server) notify(ctx context.Context) error {
	if len(s.notifier.secondaries) == 0 {
		return nil
	}
	var told sync.WaitGroup
	defer told.Wait()
	for _, to := range s.notifier.secondaries {
		told.Go(func() { to.run(ctx) })
	}
	tick := time.NewTicker(s.limits.notify)
	defer tick.Stop()
	var seen map[string]uint32
	table := s.notReady
	for {
		if now := s.inForce(); now != table {
			table = now
			serials := table.Serials()
			for zone, serial := range serials {
				if was, known := seen[zone]; known && was == serial {
					continue
				}
				for _, to := range s.notifier.secondaries {
					to.tell(zone, serial)
				}
			}
			seen = serials
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *secondary) tell(zone string, serial uint32) {
	s.mu.Lock()
	s.news[zone] = serial
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take moves the news into what is under way.
func (s *secondary) take(under map[string]*notice, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for zone, serial := range s.news {
		under[zone] = &notice{serial: serial, due: now}
	}
	clear(s.news)
}

// run tells what there is to tell until ctx ends. With nothing to tell it has no
// socket.
func (s *secondary) run(ctx context.Context) {
	under := make(map[string]*notice)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.take(under, time.Now())
		if err := s.tellAll(ctx, under); err != nil && ctx.Err() == nil {
			// No route, most likely: the next serial tries again, and so does the
			// secondary by itself.
			s.log.Warn("a secondary cannot be told of new serials", slog.String("secondary", s.addr.String()), slog.Any("err", err))
			s.counts[notifyUnheard].Add(uint64(len(under)))
			clear(under)
		}
	}
}

// tellAll sends and hears until nothing is under way.
func (s *secondary) tellAll(ctx context.Context, under map[string]*notice) error {
	if len(under) == 0 {
		return nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.addr))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for len(under) > 0 {
		select {
		case <-s.wake:
			s.take(under, time.Now())
		default:
		}
		next, err := s.sendDue(conn, under, time.Now())
		if err != nil {
			return err
		}
		if len(under) == 0 {
			return nil
		}
		// News wait no longer than a tick.
		if err := conn.SetReadDeadline(earlier(next, time.Now().Add(notifyTick))); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := conn.Read(buf)
		switch {
		case err == nil:
			s.hear(under, buf[:n])
		case errors.Is(err, os.ErrDeadlineExceeded):
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			// Nobody listens there, now: as if nothing had come. The pause keeps a
			// socket that fails at once from spinning.
			sleep(ctx, pause)
		}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sendDue sends what is due and gives when the next will be.
func (s *secondary) sendDue(conn *net.UDPConn, under map[string]*notice, now time.Time) (next time.Time, err error) {
	for zone, n := range under {
		if !n.due.After(now) {
			if n.tries == notifyTries {
				s.counts[notifyUnheard].Add(1)
				s.log.Warn("a secondary does not answer that it heard of a new serial",
					slog.String("secondary", s.addr.String()), slog.String("zone", zone), slog.Uint64("serial", uint64(n.serial)))
				delete(under, zone)
				continue
			}
			packet, err := s.pack(zone, n, now)
			if err != nil {
				return next, err
			}
			if packet != nil {
				_, _ = conn.Write(packet) // refused: the next try may be luckier
			}
			n.due = now.Add(s.first << n.tries)
			n.tries++
		}
		if next.IsZero() || n.due.Before(next) {
			next = n.due
		}
	}
	return next, nil
}

// pack makes a NOTIFY (RFC 1996 section 3.6), signed where there is a key; nil where its
// secret is not at hand now.
func (s *secondary) pack(zone string, n *notice, now time.Time) ([]byte, error) {
	var id [2]byte
	rand.Read(id[:]) // it never fails: crypto/rand; C7
	n.id = binary.BigEndian.Uint16(id[:])
	m := new(dns.Msg)
	m.SetNotify(zone)
	m.Id = n.id
	if s.key == nil {
		return m.Pack()
	}
	name, err := packName(s.key.Name)
	if err != nil {
		return nil, err
	}
	signer := s.signer(name)
	if signer == nil {
		return nil, nil
	}
	n.secret = signer.secret
	m.SetTsig(dns.Fqdn(s.key.Name), dns.Fqdn(s.key.Algorithm), maxFudge, now.Unix())
	packet, mac, err := dns.TsigGenerate(m, base64.StdEncoding.EncodeToString(n.secret), "", false)
	n.mac = mac
	return packet, err
}

// hear takes a reply. One that is not what was asked for, or not signed as it must
// be, is nothing.
func (s *secondary) hear(under map[string]*notice, packet []byte) {
	m := new(dns.Msg)
	if m.Unpack(packet) != nil || !m.Response || m.Opcode != dns.OpcodeNotify || len(m.Question) != 1 {
		return
	}
	zone := dns.CanonicalName(m.Question[0].Name)
	n := under[zone]
	if n == nil || m.Id != n.id {
		return
	}
	if s.key != nil && m.Rcode == dns.RcodeSuccess &&
		dns.TsigVerify(packet, base64.StdEncoding.EncodeToString(n.secret), n.mac, false) != nil {
		return
	}
	delete(under, zone)
	if m.Rcode == dns.RcodeSuccess {
		s.counts[notifyTaken].Add(1)
		return
	}
	s.counts[notifyRefused].Add(1)
	s.log.Warn("a secondary refuses to hear of a new serial",
		slog.String("secondary", s.addr.String()), slog.String("zone", zone), slog.String("rcode", rcodeName(m.Rcode)))
}

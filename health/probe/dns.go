package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/health"
)

// question is what a DNS server is asked, and what it must say.
type question struct {
	datagram bool
	query    []byte // with an identifier of 0
	name     string
	typ      uint16
	rcodes   []int
	answers  []string
}

// question makes a query ready.
func (r *request) question(d DNS, s *Scheduler) error {
	r.kind = kindDNS
	q := &question{name: dns.Fqdn(d.Name), typ: dns.TypeA, answers: d.Answers}
	if _, ok := dns.IsDomainName(q.name); !ok || d.Name == "" {
		return fmt.Errorf("name %q of the probe cannot be asked for", d.Name)
	}
	if d.Type != "" {
		if q.typ = dns.StringToType[d.Type]; q.typ == dns.TypeNone {
			return fmt.Errorf("type %q of the probe is unknown", d.Type)
		}
	}
	for _, name := range d.Rcodes {
		code, ok := dns.StringToRcode[name]
		if !ok {
			return fmt.Errorf("rcode %q of the probe is unknown", name)
		}
		q.rcodes = append(q.rcodes, code)
	}
	if len(q.rcodes) == 0 {
		q.rcodes = []int{dns.RcodeSuccess}
	}
	switch d.Transport {
	case "", "udp":
		q.datagram = true
	case "tcp":
	case "tls":
		if err := r.secure(d.Secure, r.addr.Addr().String(), []string{"dot"}, s); err != nil {
			return err
		}
	default:
		return fmt.Errorf("transport %q is none of udp, tcp and tls", d.Transport)
	}
	m := new(dns.Msg).SetQuestion(q.name, q.typ) // recursion desired: an authoritative server passes over it
	m.Id = 0
	m.SetEdns0(1232, false)
	var err error
	if q.query, err = m.Pack(); err != nil {
		return fmt.Errorf("query of the probe: %w", err)
	}
	r.dns = q
	return nil
}

// asked gives the query with an identifier that nobody can guess.
func (q *question) asked() ([]byte, outcome) {
	query := bytes.Clone(q.query)
	if _, err := rand.Read(query[:2]); err != nil {
		return nil, outcome{void: true, reason: "our own side: no random"}
	}
	return query, outcome{}
}

// datagram asks by UDP, once: what is lost is what the probe is to find.
func (s *Scheduler) datagram(ctx context.Context, r *request) outcome {
	query, failed := r.dns.asked()
	if query == nil {
		return failed
	}
	from := s.from(r.addr.Addr())
	conn, err := s.dialer(false).DialUDP(ctx, "udp", from, r.addr)
	if err != nil {
		return dialFailure(err)
	}
	defer func() { _ = conn.Close() }()
	stop, err := bound(ctx, conn)
	if err != nil {
		return outcome{void: true, reason: "our own side: " + errnoText(err)}
	}
	defer stop()
	if _, err := conn.Write(query); err != nil {
		return dialFailure(err)
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		switch {
		case err != nil && isTimeout(err):
			return outcome{reason: "timeout waiting for the answer", timeout: true, sign: health.SignSilent}
		case err != nil:
			return dialFailure(err) // a port that nobody listens at
		case n < 12 || !bytes.Equal(buf[:2], query[:2]):
			continue // a late answer, or somebody's guess
		}
		return r.dns.judge(buf[:n])
	}
}

// over asks over a stream (RFC 7766, RFC 7858).
func (q *question) over(stream io.ReadWriter) outcome {
	query, failed := q.asked()
	if query == nil {
		return failed
	}
	if _, err := stream.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return ioFailure(err, "timeout sending the query")
	}
	var length [2]byte
	if _, err := io.ReadFull(stream, length[:]); err != nil {
		return ioFailure(err, "timeout waiting for the answer")
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(stream, buf); err != nil {
		return ioFailure(err, "timeout in the answer")
	}
	if len(buf) < 12 || !bytes.Equal(buf[:2], query[:2]) {
		return wrong("answer to another question")
	}
	return q.judge(buf)
}

// judge looks at an answer with our identifier.
func (q *question) judge(packet []byte) outcome {
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		return wrong("malformed DNS answer")
	}
	if !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) > 1 ||
		len(m.Question) == 1 && (m.Question[0].Qtype != q.typ || !strings.EqualFold(m.Question[0].Name, q.name)) {
		return wrong("answer to another question")
	}
	if !slices.Contains(q.rcodes, m.Rcode) {
		name, known := dns.RcodeToString[m.Rcode]
		if !known {
			name = fmt.Sprint(m.Rcode)
		}
		return wrong("rcode " + name)
	}
	var got []string
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == q.typ {
			got = append(got, content(rr))
		}
	}
	for _, want := range q.answers {
		if !slices.Contains(got, want) {
			why := "answer lacks "
			if m.Truncated {
				why = "answer is truncated, and lacks "
			}
			return wrong(why + fmt.Sprintf("%.64s", want))
		}
	}
	return outcome{ok: true}
}

// content gives what a record says, as the spec writes what it wants.
func content(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		return rr.A.String()
	case *dns.AAAA:
		return rr.AAAA.String()
	case *dns.CNAME:
		return plainName(rr.Target)
	case *dns.NS:
		return plainName(rr.Ns)
	case *dns.PTR:
		return plainName(rr.Ptr)
	case *dns.TXT:
		return strings.Join(rr.Txt, "")
	default:
		return ""
	}
}

func plainName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

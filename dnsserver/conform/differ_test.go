package conform

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	seedVariable  = "DIVERT_CONFORM_SEED"
	zonesVariable = "DIVERT_CONFORM_ZONES"
)

// unknownType is one that nobody knows (RFC 3597).
const unknownType = 65280

var queryTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeDNAME, dns.TypeNS, dns.TypeSOA, dns.TypeTXT, dns.TypeMX, dns.TypeSRV, dns.TypeANY,
	dns.TypeDS, dns.TypeHTTPS, unknownType,
}

// question is one, relative to a zone.
type question struct {
	zone  int
	name  string
	qtype uint16
}

func (q question) String() string { return q.name + " " + dns.Type(q.qtype).String() }

// said is a reply as far as it is compared: names in lower case, the answer in its
// order but inside a set, the other sections in any.
type said struct {
	rcode             int
	aa                bool
	answer, ns, extra []string
}

func (s said) String() string {
	return fmt.Sprintf("%s aa=%t\n    answer     %s\n    authority  %s\n    additional %s", dns.RcodeToString[s.rcode], s.aa,
		strings.Join(s.answer, "; "), strings.Join(s.ns, "; "), strings.Join(s.extra, "; "))
}

func (s said) equal(other said) bool { return s.String() == other.String() }

// exchange asks one question, by TCP where the reply does not fit.
func exchange(conn *net.UDPConn, addr string, m *dns.Msg) (*dns.Msg, error) {
	packet, err := m.Pack()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 65535)
	for range 5 {
		if _, err = conn.Write(packet); err != nil {
			return nil, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // never fails
		for {
			n := 0
			if n, err = conn.Read(buf); err != nil {
				break
			}
			reply := new(dns.Msg)
			if err := reply.Unpack(buf[:n]); err != nil {
				return nil, fmt.Errorf("unpacking %x: %w", buf[:n], err)
			}
			if reply.Id != m.Id {
				continue // of a question that was asked twice
			}
			if reply.Truncated {
				reply, _, err = (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(m, addr)
			}
			return reply, err
		}
	}
	return nil, err
}

// askAll asks a server all questions about the zones z0.test., z1.test. and so on.
func askAll(t *testing.T, s server, questions []question) []said {
	t.Helper()
	out := make([]said, len(questions))
	var wg sync.WaitGroup
	const askers = 8
	for asker := range askers {
		wg.Go(func() {
			addr, err := net.ResolveUDPAddr("udp", s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			conn, err := net.DialUDP("udp", nil, addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for i := asker; i < len(questions); i += askers {
				q := questions[i]
				m := new(dns.Msg)
				m.SetQuestion(absolute(q.name, originOf(q.zone)), q.qtype)
				m.Id, m.RecursionDesired = uint16(i), false
				m.SetEdns0(1232, false)
				reply, err := exchange(conn, s.addr, m)
				if err != nil {
					t.Errorf("%s: %s in %s: %v", s.name, q, originOf(q.zone), err)
					return
				}
				out[i] = read(reply, originOf(q.zone))
			}
		})
	}
	wg.Wait()
	return out
}

func originOf(zone int) string { return fmt.Sprintf("z%d.test.", zone) }

func absolute(name, origin string) string {
	if name == "@" {
		return origin
	}
	return name + "." + origin
}

// read takes from a reply what is compared, with the origin as "z.".
func read(m *dns.Msg, origin string) said {
	text := func(rr dns.RR) string {
		fields := strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(rr.String(), `\ `, `\032`)), " "))
		return strings.ReplaceAll(fields+" ", origin+" ", "z. ")
	}
	s := said{rcode: m.Rcode, aa: m.Authoritative}
	for _, rr := range m.Answer {
		s.answer = append(s.answer, text(rr))
	}
	for _, rr := range m.Ns {
		s.ns = append(s.ns, text(rr))
	}
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			s.extra = append(s.extra, text(rr))
		}
	}
	// Records of one set may stand in any order (RFC 2181 section 5), sets of the
	// answer may not: an alias is followed.
	set := func(i int) string {
		h := m.Answer[i].Header()
		return strings.ToLower(h.Name) + dns.Type(h.Rrtype).String()
	}
	for from := 0; from < len(s.answer); {
		to := from + 1
		for to < len(s.answer) && set(to) == set(from) {
			to++
		}
		slices.Sort(s.answer[from:to])
		from = to
	}
	slices.Sort(s.ns)
	slices.Sort(s.extra)
	return s
}

// finding is a question that Divert and a peer answer differently, with no
// exception for it.
type finding struct {
	question
	of          *drawn
	peer        *peer
	own, theirs said
}

// differences asks Divert and the peers the same of the same zones, and counts what
// is excused.
func differences(t *testing.T, with []peer, zones []*drawn, questions []question, excused map[string]int) []finding {
	t.Helper()
	var texts []zoneText
	for i, z := range zones {
		texts = append(texts, z.under(originOf(i))...)
	}
	s, stop := divert(t, texts)
	own := askAll(t, s, questions)
	stop()
	var out []finding
	for i := range with {
		s, stop := with[i].start(t, texts)
		theirs := askAll(t, s, questions)
		stop()
		if t.Failed() {
			return nil
		}
		for j, q := range questions {
			if own[j].equal(theirs[j]) {
				continue
			}
			names := contrast{qtype: q.qtype, peer: with[i].name, child: zones[q.zone].child != nil, own: own[j], theirs: theirs[j]}.excuse()
			for _, name := range names {
				excused[name]++
			}
			if len(names) == 0 {
				out = append(out, finding{question: q, of: zones[q.zone], peer: &with[i], own: own[j], theirs: theirs[j]})
			}
		}
	}
	return out
}

// shrink looks for a smaller zone that shows the same: less one line, as long as
// any is.
func shrink(t *testing.T, f finding) finding {
	t.Helper()
	for {
		smaller := f.of.smaller()
		var questions []question
		for i := range smaller {
			questions = append(questions, question{zone: i, name: f.name, qtype: f.qtype})
		}
		found := differences(t, []peer{*f.peer}, smaller, questions, map[string]int{})
		if len(found) == 0 {
			return f
		}
		f = found[0]
	}
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// TestAnswersLikeOthers draws small zones and asks Divert, NSD, Knot and BIND of all
// that is in them and near it. Where they differ the RFCs decide: either Divert is
// wrong, or there is an exception that says by which section it is not.
func TestAnswersLikeOthers(t *testing.T) {
	if os.Getenv("DIVERT_RESOLVERS") == "" {
		t.Skip("NSD, Knot and BIND were not asked for: make test-resolvers")
	}
	var with []peer
	for _, p := range peers {
		if find(p.program) == "" {
			t.Logf("without %s: %s is not installed (see .ci/run)", p.name, p.program)
			continue
		}
		with = append(with, p)
	}
	if len(with) == 0 {
		t.Skip("none of NSD, Knot and BIND is installed: see .ci/run")
	}
	seed := number(t, seedVariable, rand.Uint64()>>16)
	count := number(t, zonesVariable, 150)
	t.Logf("%d zones from %s=%d", count, seedVariable, seed)
	r := rand.New(rand.NewPCG(seed, 1034))
	var zones []*drawn
	var questions []question
	for i := range int(count) {
		z := draw(seed + uint64(i))
		zones = append(zones, z)
		for _, name := range z.names {
			for _, qtype := range queryTypes {
				if r.IntN(4) == 0 {
					questions = append(questions, question{zone: i, name: name, qtype: qtype})
				}
			}
		}
	}
	excused := map[string]int{}
	found := differences(t, with, zones, questions, excused)
	t.Logf("%d questions", len(questions))
	for _, name := range slices.Sorted(maps.Keys(excused)) {
		t.Logf("%6d excused: %s", excused[name], name)
	}
	report(t, found)
}

// report shows the first difference of each zone, the first of all in the smallest
// zones that have it.
func report(t *testing.T, found []finding) {
	t.Helper()
	type pair struct {
		zone int
		peer string
	}
	seen := map[pair]bool{}
	var shown []finding
	for _, f := range found {
		key := pair{f.zone, f.peer.name}
		if seen[key] {
			continue
		}
		seen[key] = true
		if len(shown) < 3 {
			f = shrink(t, f)
		}
		shown = append(shown, f)
	}
	for _, f := range shown[:min(len(shown), 12)] {
		t.Errorf("%s in a zone of seed %d\n  divert: %s\n  %s: %s\n%s", f.question, f.of.seed, f.own, f.peer.name, f.theirs, f.of)
	}
	if len(found) > 0 {
		t.Errorf("%d differences in %d zones", len(found), len(shown))
	}
}

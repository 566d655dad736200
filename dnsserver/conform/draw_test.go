package conform

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// drawn is a zone of no name of its own: owners and targets are relative, so that
// one text serves under any origin. It may have a child that is served beside it.
type drawn struct {
	seed  uint64
	apex  string
	lines []string
	child []string // of the zone a; nil = there is none
	names []string // asked for, relative
}

// under gives the zones with a name.
func (z *drawn) under(origin string) []zoneText {
	out := []zoneText{{origin: origin, text: z.apex + strings.Join(z.lines, "\n") + "\n"}}
	if z.child != nil {
		out = append(out, zoneText{origin: "a." + origin, text: z.apex + strings.Join(z.child, "\n") + "\n"})
	}
	return out
}

// smaller gives the zone less one line, for each of its lines.
func (z *drawn) smaller() []*drawn {
	var out []*drawn
	for i := range z.lines {
		c := *z
		c.lines = slices.Delete(slices.Clone(z.lines), i, i+1)
		out = append(out, &c)
	}
	for i := range z.child {
		c := *z
		c.child = slices.Delete(slices.Clone(z.child), i, i+1)
		out = append(out, &c)
	}
	return out
}

func (z *drawn) String() string {
	text := z.apex + strings.Join(z.lines, "\n")
	if z.child != nil {
		text += "\n$ORIGIN a\n" + z.apex + strings.Join(z.child, "\n")
	}
	return text
}

// longestOrigin is as long as the name of a zone gets.
const longestOrigin = "z99999.test."

// The labels of most zones are a, b and the wildcard; some have one that is odd, for
// which all servers need the same idea of what a label is (RFC 2181 section 11).
var oddLabels = []string{`\000`, `x\.y`, `x\032y`, `\255\001`, `\092y`, "_tcp", `x*`, "**", `\@`, strings.Repeat("l", 63)}

// node is what a name has so far.
type node struct {
	types map[string]bool
}

// drawing makes one zone; its rules are those without which some server refuses to
// load it.
type drawing struct {
	*rand.Rand
	labels []string
	nodes  map[string]*node
	lines  []string
}

// draw makes a zone of a seed.
func draw(seed uint64) *drawn {
	d := &drawing{Rand: rand.New(rand.NewPCG(seed, 4592)), labels: []string{"a", "b", "*"}}
	if d.IntN(5) == 0 {
		d.labels[1] = oddLabels[d.IntN(len(oddLabels))]
	}
	z := &drawn{seed: seed, names: []string{"@"}}
	z.apex = fmt.Sprintf("@ %d SOA ns.example.net. h.example.net. 1 7200 3600 86400 %d\n@ 3600 NS ns.example.net.\n", 60+d.IntN(2)*3600, 30+d.IntN(2)*600)
	z.lines = d.zone()
	// NSD has one tree for all zones: what is hidden below a cut is in the child's way.
	if d.IntN(3) == 0 && !d.below("a") && !d.above("a", "DNAME") && len(d.at("a").types) == 0 {
		d.add("a", "NS", "ns.example.net.")
		z.lines = d.lines
		z.child = d.zone()
	}
	level := []string{""}
	for range 4 {
		var next []string
		for _, up := range level {
			for _, label := range d.labels {
				next = append(next, strings.TrimSuffix(label+"."+up, "."))
			}
		}
		z.names = append(z.names, next...)
		level = next
	}
	z.names = append(z.names, "c", "c.a", "c.*", "c.c.a")
	z.names = slices.DeleteFunc(z.names, func(name string) bool {
		_, ok := dns.IsDomainName(absolute(name, longestOrigin)) // of four long labels there are none
		return !ok
	})
	return z
}

// zone draws the records of a zone.
func (d *drawing) zone() []string {
	d.nodes, d.lines = map[string]*node{}, []string{}
	for range 1 + d.IntN(14) {
		d.record()
	}
	return d.lines
}

func (d *drawing) at(name string) *node {
	if d.nodes[name] == nil {
		d.nodes[name] = &node{types: map[string]bool{}}
	}
	return d.nodes[name]
}

// name draws a name of so many labels at most.
func (d *drawing) name(depth int) string {
	n := d.IntN(depth + 1)
	if n == 0 {
		return "@"
	}
	parts := make([]string, n)
	for i := range parts {
		parts[i] = d.labels[d.IntN(len(d.labels))]
	}
	return strings.Join(parts, ".")
}

// target draws what a record points at: mostly a name of the zone.
func (d *drawing) target() string {
	switch d.IntN(12) {
	case 0:
		return "a.example.com." // nobody's here
	case 1:
		return "c" // is not there
	}
	return d.name(3)
}

// above tells whether any name over this one has the type.
func (d *drawing) above(name, rrtype string) bool {
	for name != "@" {
		i, end := dns.NextLabel(name+".", 0)
		if end || i >= len(name) {
			name = "@"
		} else {
			name = name[i:]
		}
		if n := d.nodes[name]; n != nil && n.types[rrtype] {
			return true
		}
	}
	return false
}

func (d *drawing) below(name string) bool {
	for other, n := range d.nodes {
		if other != name && len(n.types) > 0 && (name == "@" || strings.HasSuffix(other, "."+name)) {
			return true
		}
	}
	return false
}

func (d *drawing) add(name, rrtype, data string) {
	line := fmt.Sprintf("%s 300 %s %s", name, rrtype, data)
	if slices.Contains(d.lines, line) {
		return
	}
	d.at(name).types[rrtype] = true
	d.lines = append(d.lines, line)
}

// record adds one record, or none where a rule is against it.
func (d *drawing) record() {
	name := d.name(3)
	n := d.at(name)
	cut := n.types["NS"] && name != "@"
	if n.types["CNAME"] || d.above(name, "DNAME") { // RFC 1034 section 3.6.2; RFC 6672 section 2.4
		return
	}
	switch d.IntN(12) {
	case 0, 1, 2:
		if name != "@" && len(n.types) == 0 {
			d.add(name, "CNAME", d.target())
		}
	case 3, 4:
		// RFC 6672 sections 2.3 and 2.4.
		if !n.types["DNAME"] && !cut && !d.below(name) && (name != "@" || d.IntN(4) == 0) {
			d.add(name, "DNAME", d.target())
		}
	case 5, 6:
		d.delegate(name, n)
	case 7:
		d.add(name, "AAAA", fmt.Sprintf("2001:db8::%x", d.IntN(200)))
	case 8:
		d.add(name, "TXT", fmt.Sprintf("%d", d.IntN(9)))
	case 9:
		d.add(name, "MX", "10 "+d.target())
	case 10:
		d.add(name, "SRV", "1 2 53 "+d.target())
	default:
		d.add(name, "A", fmt.Sprintf("192.0.2.%d", d.IntN(200)))
	}
}

// delegate makes a cut with one or two servers, with and without glue.
func (d *drawing) delegate(name string, n *node) {
	if name == "@" || strings.HasPrefix(name, "*") || n.types["DNAME"] {
		return
	}
	for range 1 + d.IntN(2) {
		server := d.target()
		if d.IntN(2) == 0 {
			server = "a." + name
		}
		d.add(name, "NS", server)
		if s := d.at(server); d.IntN(3) > 0 && !strings.HasSuffix(server, ".") && !s.types["CNAME"] && !d.above(server, "DNAME") {
			if d.IntN(2) == 0 {
				d.add(server, "A", "198.51.100.1")
			} else {
				d.add(server, "AAAA", "2001:db8::53")
			}
		}
	}
	if d.IntN(2) == 0 {
		d.add(name, "DS", "60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A")
	}
}

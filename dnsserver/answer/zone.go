// Package answer owns what a query is told: a Zone in records becomes a Table
// in bytes, and Table.Reply turns a packet into a packet. It is pure: no
// socket, clock, lock or log, and Reply allocates nothing. It never knows why a
// site was chosen.
package answer

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Zone is one zone in records: what Compile takes.
type Zone struct {
	Origin  string   // fully qualified, lower case
	Records []dns.RR // everything static: SOA and apex NS included
	Static  *Static  // the same, packed already; nil = of Records
	Steered []Steered
	// Serial replaces the SOA's, so that where it alone changes nothing is packed
	// anew; 0 = that of the record.
	Serial uint32
}

// Steered is a name whose addresses depend on the client, or many that steer alike.
// A Table knows what it has compiled before by the identity of slices (see
// Options.Before), and shares what is made of the same ones.
type Steered struct {
	Name    string // fully qualified, lower case; "*." in front for a wildcard
	Service string // for the metrics' label, and whom the hash spreads apart
	Alike   []Name // more names of which all else holds; those of a service together
	TTL     uint32 // seconds
	Answers int    // addresses in a reply, at least 1
	A, AAAA View
	// CNAME says that the name is an alias of the Target of the site that A picks: that
	// is the answer to every type, and AAAA is empty. Nothing else is at the name (RFC
	// 1034 section 3.6.2).
	CNAME   bool
	Standby Standby
	// Next is when the answers change by schedule: until then the TTL is never
	// more than the time to it, but 5 s. Zero = nothing is known to be ahead.
	Next time.Time
}

// Standby is what a zone transfer says of a steered name. Who serves it from there
// knows no client's place and no site's health, so it must be right for all clients
// and a function of the plan alone (S13). Where it is empty the name is handed out
// as one that exists, without addresses.
type Standby struct {
	A, AAAA []netip.Addr
	Target  string // of a name that is an alias; fully qualified
}

// Name is one more name of a Steered.
type Name struct {
	Name, Service string
}

// names gives every name with its service.
func (s *Steered) names(yield func(name, service string) bool) {
	if !yield(s.Name, s.Service) {
		return
	}
	for i := range s.Alike {
		if !yield(s.Alike[i].Name, s.Alike[i].Service) {
			return
		}
	}
}

// View is what one address family of a steered name answers to whom. The zero
// View has no address configured: NODATA.
type View struct {
	Sets     []Set
	ByPlace  []uint16 // place index (geo.Table's; 0 is the unknown place) -> index in Sets
	ByPrefix []PrefixPlaces
}

// PrefixPlaces overrides ByPlace for the clients of a prefix; the longest
// matching prefix of the View alone counts.
type PrefixPlaces struct {
	Prefix  netip.Prefix
	ByPlace []uint16
}

// Set is one answer: sites in order of preference, or weighted. A Set without
// sites is NODATA (residency allows this client none of them).
type Set struct {
	Sites    []Site
	Weighted bool // order by rendezvous hashing of the client's /24 or /48, by Weight
	FailOpen bool // all down: EDE 0 with text
	// Unresolved says of one without addresses that they could not be found out yet:
	// SERVFAIL and EDE 22 (RFC 8914 section 4.23), so that a resolver asks another
	// director, which may know them, and remembers no denial.
	Unresolved bool
}

// Site is one endpoint's live addresses of the view's family.
type Site struct {
	Cluster string // for the metrics' label
	Domain  string // fault domain: no two addresses of one before all are used
	Weight  uint32
	Share   uint8        // percent of its clients whom it may have, 0 = all; to the others it is as if it were not there
	Level   uint8        // clients are told of the sites of the least level of which some may have them, and of no others
	Addrs   []netip.Addr // several share by hash of the client's /24 or /48
	Target  string       // of an alias (Steered.CNAME) in place of Addrs; fully qualified
}

// Transport is how a query came.
type Transport uint8

// The transports.
const (
	TransportUnknown Transport = iota
	UDP
	TCP
	TLS
)

// Transports is how many there are.
const Transports = int(TLS) + 1

// stream tells whether it has no limit of its own on the size of replies.
func (t Transport) stream() bool { return t == TCP || t == TLS }

func (t Transport) String() string {
	switch t {
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	case TLS:
		return "tls"
	default:
		return "unknown"
	}
}

// Client is who asked.
type Client struct {
	Addr      netip.AddrPort
	Transport Transport
	Now       time.Time
	Cookies   CookieSecrets // nil: no cookies
	Pressure  bool          // by UDP, BADCOOKIE for who sends a cookie that is not valid
	Truncate  bool          // TC and no records, whatever there is to say
	Idle      time.Duration // by TCP and TLS: how long the connection may idle, for who asks (RFC 7828)
	Reserve   int           // octets that the caller adds behind the reply: a signature
	Rcode     uint16        // an error of the signature's, which the caller judged; 0 = none
}

// Reject says why a packet got no proper answer.
type Reject uint8

// The classes of rejection.
const (
	RejectNone      Reject = iota
	RejectShort            // shorter than a header: dropped
	RejectResponse         // QR=1: dropped (S14)
	RejectFormat           // FORMERR
	RejectOpcode           // NOTIMP
	RejectVersion          // BADVERS
	RejectZone             // REFUSED, out of zone
	RejectNotReady         // REFUSED, no plan yet (EDE 14)
	RejectPolicy           // REFUSED: a class or name that is not served
	RejectCookie           // BADCOOKIE
	RejectTransfer         // REFUSED: AXFR or IXFR, which Transfer answers for who may have it
	RejectSignature        // Client.Rcode: NOTAUTH, or a TSIG record that is none
)

// Rejects is how many classes there are.
const Rejects = int(RejectSignature) + 1

func (r Reject) String() string {
	names := [...]string{"none", "short", "response", "format", "opcode", "version", "zone", "not_ready", "policy", "cookie", "transfer", "signature"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// Tally is what a reply counts as, so that nobody parses one to count it.
type Tally struct {
	Rcode  uint16 // extended
	Reject Reject
	Family Family // whose addresses were asked for, of a steered name
	Label  uint32 // index in Table.Labels
	Cookie CookieState
	// TSIG is where in the packet its TSIG record begins, which Reply took no
	// notice of: the caller judges it, and asks again without. 0 = there is none.
	TSIG int
}

// Family says which addresses a steered name was asked for. What is neither counts as
// the first: a CNAME answers for both.
type Family uint8

// The families.
const (
	IPv4 Family = iota
	IPv6
)

// Families is how many there are.
const Families = int(IPv6) + 1

// Label is one set of metric labels; index 0 is the empty one.
type Label struct {
	Zone, Service, Cluster, Continent string
}

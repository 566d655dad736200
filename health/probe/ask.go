package probe

import (
	"net/netip"
	"slices"
	"time"
)

// HTTP asks for a page, over a new connection each time.
type HTTP struct {
	Scheme      string // http or https
	Version     string // 1.1, the default; 2, over http by prior knowledge; auto, what https agrees on
	Addr        netip.AddrPort
	Method      string   // default GET
	Path        string   // default /; may carry a query
	Host        string   // Host header; default: the address
	Headers     []Header // besides, or in place of, User-Agent and Accept
	RequestBody string
	Statuses    []int  // default 200
	Body        string // substring wanted in the first 64 KiB; "" = any
	BodyRegexp  string // RE2, likewise
	Secure             // of https; SNI: default Host
}

// Header is a field of a request.
type Header struct{ Name, Value string }

// Secure is what is wanted of a certificate.
type Secure struct {
	SNI      string // the name the certificate must be for
	Insecure bool   // nothing of it is looked at
	CA       string // authorities, PEM; default Options.RootCAs
	// With less than Warn left a certificate stands in Expiring, with less than Fail the
	// probe fails. 0: never, and once it has expired.
	Warn, Fail time.Duration
}

// TCP opens a connection, may talk over it, and closes it.
type TCP struct {
	Addr         netip.AddrPort
	Send         string // octets
	Expect       string // octets wanted in the first 64 KiB of what comes; "" = any
	ExpectRegexp string // RE2, likewise
}

// TLS makes a handshake with the subject's address.
type TLS struct {
	ALPN []string // offered; if any, the server must choose one
	Secure
}

// GRPC asks the health service of gRPC, version 1, at the subject's address.
type GRPC struct {
	Service   string // "" = the server as a whole
	Plaintext bool   // without TLS
	Host      string // authority; default: the address
	Secure           // SNI: default Host
}

// DNS asks the DNS server at the subject's address.
type DNS struct {
	Transport string   // udp, the default, tcp or tls
	Name      string   // without the last dot; "." = the root
	Type      string   // default A
	Rcodes    []string // default NOERROR
	Answers   []string // each must be among the answers of the type
	Secure             // of tls
}

// ICMP sends an echo request to the subject's address, whose port is 0.
type ICMP struct{}

// Exec runs a program that Options.Exec allows. It is told the address by the
// environment variable DIVERT_ADDRESS, and says by exit status 0 that all is well.
type Exec struct {
	Command string // absolute path
	Args    []string
}

// asksAs compares what is asked.
func (t Target) asksAs(u Target) bool {
	return same(t.HTTP, u.HTTP, (*HTTP).equal) && same(t.TCP, u.TCP, func(a, b *TCP) bool { return *a == *b }) &&
		same(t.TLS, u.TLS, (*TLS).equal) && same(t.GRPC, u.GRPC, func(a, b *GRPC) bool { return *a == *b }) &&
		same(t.DNS, u.DNS, (*DNS).equal) && (t.ICMP == nil) == (u.ICMP == nil) && same(t.Exec, u.Exec, (*Exec).equal)
}

func same[T any](a, b *T, equal func(a, b *T) bool) bool {
	return a == b || a != nil && b != nil && equal(a, b)
}

func (h *HTTP) equal(o *HTTP) bool {
	return h.Scheme == o.Scheme && h.Version == o.Version && h.Addr == o.Addr && h.Method == o.Method && h.Path == o.Path &&
		h.Host == o.Host && slices.Equal(h.Headers, o.Headers) && h.RequestBody == o.RequestBody &&
		slices.Equal(h.Statuses, o.Statuses) && h.Body == o.Body && h.BodyRegexp == o.BodyRegexp && h.Secure == o.Secure
}

func (t *TLS) equal(o *TLS) bool { return slices.Equal(t.ALPN, o.ALPN) && t.Secure == o.Secure }

func (d *DNS) equal(o *DNS) bool {
	return d.Transport == o.Transport && d.Name == o.Name && d.Type == o.Type &&
		slices.Equal(d.Rcodes, o.Rcodes) && slices.Equal(d.Answers, o.Answers) && d.Secure == o.Secure
}

func (e *Exec) equal(o *Exec) bool { return e.Command == o.Command && slices.Equal(e.Args, o.Args) }

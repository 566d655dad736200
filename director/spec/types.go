package spec

import (
	"encoding/json"
	"net/netip"
	"time"
)

// APIVersion is the only one there is.
const APIVersion = "divert.dev/v1alpha1"

// The kinds of resource.
const (
	KindCluster       = "Cluster"
	KindZone          = "Zone"
	KindGlobalService = "GlobalService"
	KindInterlock     = "Interlock"
	KindFleet         = "Fleet"
)

// Set is a whole spec with its defaults filled in, each list ordered by name.
// It is immutable once made.
type Set struct {
	Clusters []*Cluster
	Zones    []*Zone
	Services []*GlobalService
	// Interlocks are rules that commands are held against; they never steer.
	Interlocks []*Interlock `json:",omitempty"`
	Fleet      Fleet        // the defaults where no Fleet was given
	// Hostnames gives the hostname of each stand-in (see StandIn) in the services.
	Hostnames map[netip.Addr]string `json:",omitempty"`
	// Narrowed tells what a policy has narrowed the residency of this set by; nil: none has.
	Narrowed *Narrowed `json:"-"`
}

// Cluster is a Kubernetes cluster that can receive traffic.
type Cluster struct {
	Name         string
	Labels       map[string]string
	Location     Location
	FaultDomain  string // what fails together; default: Name
	Environment  string // default "prod"
	Capacity     int64  // any one unit, the same across the fleet and of loads; default 100
	Sized        bool   `json:",omitempty"` // the capacity was written: what is not measures no load
	Via          string `json:",omitempty"` // what it is reached through, and others with it; "" = nothing of its kind
	ControlPlane *ControlPlane
}

// Location says where a cluster is.
type Location struct {
	Country   string // ISO 3166-1 alpha-2, upper case
	Region    string // free text
	Latitude  float64
	Longitude float64
	Exact     bool // latitude and longitude were given; else the country's centroid serves
}

// ControlPlane explains; it never steers (S17).
type ControlPlane struct {
	Kubeconfig string // path on each director, see Settings.Kubeconfigs
	Context    string
	Endpoints  []string // https URLs, one for each API server
	Via        string   `json:",omitempty"` // a proxy that it is reached through, such as Rancher
}

// Zone is a DNS zone that the directors are authoritative for.
type Zone struct {
	Name        string // lower case, no last dot
	Nameservers []string
	Hostmaster  string
	SOA         SOA
	Records     string   // zone-file text, `file:` already read in; "" once Forget has let go of it
	Sum         string   `json:",omitempty"` // of what Forget has let go of: its SHA-256, in hexadecimal
	File        string   // where it came from, "" for inline
	Steered     []string // the hosts of services that are in it, site names included; ordered
	CNAMEs      []string `json:",omitempty"` // those of Steered whose service has CNAME; ordered
	OwnApex     bool     // Records bring SOA and apex NS; Nameservers, Hostmaster and SOA say nothing
}

// SOA holds the timers of RFC 1035 section 3.3.13.
type SOA struct {
	Refresh, Retry, Expire, Minimum time.Duration
}

// GlobalService is a service that several clusters serve under the same hosts.
type GlobalService struct {
	Name             string   // fleet name: namespace/name in Kubernetes, else name
	Hosts            []string // lower case, no last dot; "*." in front for a wildcard
	SiteNames        bool
	Environment      string
	TTL              time.Duration
	Endpoints        []Endpoint
	Probes           []Probe
	Combine          Combine `json:",omitzero"`
	Steering         Steering
	Pins             []Pin
	Residency        []ResidencyRule
	ResidencyUnknown ResidencyUnknown
	MinHealthy       int
	AllDown          AllDown
	Fallback         []netip.Addr // allDown: fallback
	Automation       Automation
	Alias            bool `json:",omitempty"` // hostnames are never answered by a CNAME, always by what they resolve to
	// CNAME says that the hosts are answered by a CNAME to the hostname that was
	// chosen: all endpoints are hostnames, no host is at a zone's apex, and Alias does
	// not ask otherwise. Else hostnames are flattened: answered by their addresses.
	CNAME bool `json:",omitempty"`
}

// Endpoint is one cluster's addresses for a service, or the hostname that has them.
// Whatever asks which addresses there are to watch and to choose from reads
// Watched, not Addresses.
type Endpoint struct {
	Cluster   string
	Addresses []netip.Addr // in the order given
	Hostname  string       `json:",omitempty"` // lower case, no last dot; beside it there are no Addresses
	Weight    int64        // default 100; 0 means absent under `weighted`
	Capacity  int64        // default: the cluster's
	Sized     bool         `json:",omitempty"` // a capacity of its own was written
	// Load is who says how busy it is, in the unit of capacities; nil: the answers a
	// second that name it.
	Load *PrometheusProbe `json:",omitempty"`
}

// Combine says which of a service's probes an address must pass, the soft ones left
// out: those degrade by themselves.
type Combine struct {
	AtLeast       int   // so many of them; 0 = all
	DegradedBelow int64 // an address is degraded below this sum of the weights that pass; 0 = never for that
}

// Probe is one check of every address of a service. Exactly one of the kinds is set.
type Probe struct {
	HTTP *HTTPProbe
	TCP  *TCPProbe
	TLS  *TLSProbe  `json:",omitempty"`
	GRPC *GRPCProbe `json:",omitempty"`
	DNS  *DNSProbe  `json:",omitempty"`
	ICMP *ICMPProbe `json:",omitempty"`
	Exec *ExecProbe `json:",omitempty"`
	// The soft ones ask about the site behind the address, elsewhere. They make an
	// endpoint degraded, never failed.
	Readiness  *ReadinessProbe  `json:",omitempty"`
	Kube       *KubeProbe       `json:",omitempty"`
	Prometheus *PrometheusProbe `json:",omitempty"`

	Weight   int64         `json:",omitempty"` // see Combine; 0 = 1, soft ones have none
	Interval time.Duration // of the deep probe, default 1 s
	Timeout  time.Duration // at most Interval, default 1 s
	Fast     time.Duration // of the fast signal to the same address and port; 0 = off, default 100 ms
}

// HTTPProbe asks for a page.
type HTTPProbe struct {
	Scheme   string // http or https
	Port     uint16
	Method   string // default GET
	Path     string // default /
	Host     string // Host header and, with https, SNI; default: the service's first host
	Statuses []int  // default 200
	Body     string // substring wanted in the first 64 KiB; "" = any

	Version     string   `json:",omitempty"` // of HTTP: "auto" or "2"; "" = 1.1
	Headers     []Header `json:",omitempty"` // ordered by name
	BodyRegexp  string   `json:",omitempty"` // RE2, in place of Body
	RequestBody string   `json:",omitempty"` // of POST and PUT
	Secure               // of https
}

// Header is a field of a request.
type Header struct {
	Name  string // in its canonical form: X-Api-Key
	Value string
}

// Secure is what a probe over TLS wants of the server's certificate.
type Secure struct {
	SNI      string        `json:",omitempty"` // asked for, and what the certificate must be for
	Insecure bool          `json:",omitempty"` // nothing of the certificate is looked at
	CA       string        `json:",omitempty"` // authorities, PEM; "" = the system's
	Warn     time.Duration `json:",omitempty"` // with less left the certificate is told of; default 14 d, 0 = never
	Fail     time.Duration `json:",omitempty"` // with less left the probe fails; default 0: when it has expired
}

// TCPProbe opens a connection, and may talk over it.
type TCPProbe struct {
	Port         uint16
	Send         string `json:",omitempty"` // octets
	Expect       string `json:",omitempty"` // octets wanted in the first 64 KiB
	ExpectRegexp string `json:",omitempty"` // RE2, in place of Expect
}

// TLSProbe makes a TLS handshake.
type TLSProbe struct {
	Port   uint16
	ALPN   []string `json:",omitempty"` // one of which the server must choose; none: whatever it does
	Secure          // SNI: default the service's first host
}

// GRPCProbe asks the health service of gRPC, version 1.
type GRPCProbe struct {
	Port      uint16
	Service   string // "" = the server as a whole
	Plaintext bool   // without TLS
	Host      string // authority and SNI; default: the service's first host
	Secure
}

// DNSProbe asks a DNS server.
type DNSProbe struct {
	Port      uint16
	Transport string   // "udp", "tcp" or "tls"; default "udp"
	Name      string   // lower case, no last dot; "." for the root
	Type      string   // default "A"
	Rcodes    []string // ordered; default NOERROR
	Answers   []string `json:",omitempty"` // ordered; each must be among the answers
	Secure             // of tls
}

// ICMPProbe sends an echo request (ping).
type ICMPProbe struct{}

// ExecProbe runs a program that the director's own settings allow.
type ExecProbe struct {
	Command string // absolute path
	Args    []string
}

// ReadinessProbe asks the endpoint's cluster, through its control plane, for how many
// of the addresses behind a Service are ready.
type ReadinessProbe struct {
	Namespace string // default: the service's own
	Service   string // default: the service's name; "*" = all of the namespace
	Min       int    // per cent of the addresses; degraded below, default 50
	MinReady  int    // addresses; degraded below, default 0
}

// KubeProbe asks the endpoint's cluster, through its control plane, for how many of its
// nodes are ready.
type KubeProbe struct {
	MinNodesReady int    // per cent; degraded below, default 50
	Selector      string // of nodes, in Kubernetes' form; "" = all
}

// PrometheusProbe asks a Prometheus for one number. "$cluster" in URL and Query is
// replaced by the name of the endpoint's cluster.
type PrometheusProbe struct {
	URL    string // up to what comes before /api/v1/query
	Query  string
	Above  *float64      // degraded above it; nil = no bound
	Below  *float64      // degraded below it; nil = no bound
	For    time.Duration // degraded once it has held so long without a break; default 0
	Bearer string        // the secret to send as a bearer token; "" = none
	TLS    struct {
		CA, Cert, Key string // secrets, PEM; "" = the system's roots, no certificate
		ServerName    string // default: the URL's host
	}
}

// Policy is how a service prefers one healthy site over another.
type Policy int

// The policies.
const (
	PolicyUnknown Policy = iota
	PolicyGeo
	PolicyFailover
	PolicyWeighted
	PolicyLatency
)

// Steering says which site a client should have.
type Steering struct {
	Policy  Policy
	Order   []string // clusters; complete: those not named follow by name
	Regions []Region
	Answers int           // addresses in a reply, default 1
	Ramp    time.Duration // over which a site that returns gets its clients back; 0 = at once; default 30 s
}

// Region is a rule before distance: these clients, in this order.
type Region struct {
	Clients Clients
	Order   []string // clusters; those not named follow by distance
}

// Clients is a set of clients. The keys are OR-ed.
type Clients struct {
	Continents []string // AF AN AS EU NA OC SA
	Countries  []string // ISO 3166-1 alpha-2
	Prefixes   []netip.Prefix
	Everybody  bool `json:",omitempty"` // all clients, of whatever place: of a policy's rules alone
}

// Pin gives the clients of a prefix one cluster.
type Pin struct {
	Prefix  netip.Prefix
	Cluster string
}

// AllDown is what a service answers when no site of it is healthy or degraded.
type AllDown int

// The zero value is not valid in a Set.
const (
	AllDownUnknown AllDown = iota
	AllDownAlive
	AllDownAll
	AllDownFallback
)

// Automation is whether Divert acts on what it sees.
type Automation int

// The zero value is not valid in a Set.
const (
	AutomationUnknown Automation = iota
	AutomationAct
	AutomationObserve
)

// Fleet holds what concerns all directors.
type Fleet struct {
	Name            string
	Directors       []RosterEntry
	QuorumObservers int // raises SEMANTICS' q, never lowers it
	DegradedEjected int // per cent, safety.maxDegradedEjected, default 50
	TargetUtilised  int // per cent, safety.targetUtilisation, default 75
	MaxDrain        time.Duration
	TwoPersons      bool `json:",omitempty"` // safety.twoPersons: what is dangerous waits for a second person (S16)
	Automation      Automation
}

// Interlock is a safety rule about what people and the leader may take away or bring
// back. Exactly one of Assert and Gate is set.
type Interlock struct {
	Name   string
	Assert *Assertion `json:",omitempty"`
	Gate   *Gate      `json:",omitempty"`
}

// Assertion wants so many of a set in service: no command may leave fewer.
type Assertion struct {
	AtLeast int
	Of      []Member
}

// Gate guards a set by a master switch: while that is off, as it is until a person
// turns it on, no command may take anything of the set away or bring it back.
type Gate struct {
	Switch string
	Of     []Member
}

// Member names what an interlock is about: a cluster, a fault domain, a service (each
// of its sites), one site of a service (Service and Cluster), or a selection of clusters.
type Member struct {
	Service  string            `json:",omitempty"`
	Cluster  string            `json:",omitempty"`
	Domain   string            `json:",omitempty"`
	Clusters map[string]string `json:",omitempty"` // labels that a cluster must have; empty and not nil: all clusters
}

// RosterEntry names a director. A missing key is pinned at first join.
type RosterEntry struct {
	Name string
	Site string
	Key  []byte // Ed25519, 32 octets; nil = not given
}

// Raw is one resource as it was written, as JSON, with zone files inlined and
// defaults not filled in: what is stored, compared and hashed. Its encoding is
// canonical: sorted keys, no insignificant space.
type Raw struct {
	Kind string          `json:"kind"`
	Name string          `json:"name"`
	JSON json.RawMessage `json:"object"`
}

// Settings is a director's own file.
type Settings struct {
	Name    string
	Site    string
	DataDir string
	DNS     DNSSettings
	Gossip  struct {
		Listen, Advertise string
		Join              []string
		KeyFile           string
	}
	Etcd struct {
		Embedded  bool
		Endpoints []string
		TLS       struct{ CA, Cert, Key string }
		Member    MemberSettings // that this director runs beside itself; zero: none
	}
	API APISettings
	Geo struct {
		Database string // a MaxMind DB file; "" = the country table that Divert has
	}
	Probe struct {
		Source  netip.Addr
		Allow   []netip.Prefix
		Secrets string   // folder of what probes may send, each a file; "" = they have none
		Exec    []string // programs that probes of kind exec may run: absolute paths
		// Kubeconfigs is a folder of kubeconfigs that a spec may name, see Settings.Kubeconfigs;
		// "" = those in the folders of the spec alone.
		Kubeconfigs string
	}
	Controls []string // control points, host:port
	// Resolvers are the recursive servers that hostnames are resolved by, address:port;
	// none: the system's.
	Resolvers []string
	Spec      []string // files and folders
	// Enrol.TokenFile holds a token by which this director comes into the roster; "" = a
	// person takes it in.
	Enrol struct{ TokenFile string }
	// History is what a director keeps of what it told.
	History struct {
		For  time.Duration // 0 = nothing is kept
		Size int64         // octets
	}
	// Audit says where audit records are sent, beside being sealed.
	Audit struct {
		Syslog struct {
			Address string // udp://, tcp:// or tls://, host and port; "" = nowhere
			Format  string // json or cef; "" = json
			CA      string // of a tls:// server; "" = those of the system
		}
	}
	File string // where it was read from, "" for none
}

// MemberSettings is a member of the store's cluster that a director runs beside itself.
type MemberSettings struct {
	Name       string
	Listen     string   // URL for clients: an address
	Advertise  string   // URL at which clients reach it; "" = Listen
	PeerListen string   // URL for the other members; "" = its own of Cluster
	Cluster    []string // name=URL of each member, at which it hears the others
	Token      string
	Existing   bool
	TLS        struct{ CA, Cert, Key, CRL string } // CRL: DER; "" = none is known to be revoked
}

// DNSSettings is how a director answers.
type DNSSettings struct {
	Listen     []string // empty and not nil: a witness
	Identity   string   // NSID and `id.server. CH TXT`; "" = not told
	Version    string   // `version.server. CH TXT`; "" = not told
	RateLimit  int      // replies of a kind to a network in a second; 0 = no limit
	RateExempt []netip.Prefix
	QueryLog   float64 // share of queries that are logged; 0 = none
	Tap        struct {
		Socket string  // of a dnstap receiver; "" = none
		Sample float64 // share of queries
	}
	TLS struct {
		Listen    []string // none: no DNS over TLS
		Cert, Key string   // PEM files
	}
	Transfers     TransferSettings
	ProxyProtocol []netip.Prefix // whose PROXY headers tell who a client is
}

// TransferSettings say who may have whole zones, and who hears of new serials. With
// neither Allow nor Keys nobody may.
type TransferSettings struct {
	Allow  []netip.Prefix // none: where from does not matter
	Keys   []TransferKey  // none: no signature is needed
	Notify []Secondary
}

// TransferKey is a secret shared with secondaries (TSIG).
type TransferKey struct {
	Name       string // lower case, no last dot
	Algorithm  string // hmac-sha256, hmac-sha384 or hmac-sha512
	SecretFile string // in base64
	Shared     bool   // instead of a file: its secret is the fleet's, tsig/NAME
}

// Secondary is a server that is told of new serials (NOTIFY).
type Secondary struct {
	Addr netip.AddrPort
	Key  string // name of one of TransferSettings.Keys; "" = not signed
}

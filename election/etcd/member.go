package etcd

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// Members of a cluster are sites apart: with etcd's defaults, 0.1 s and 1 s, a round trip of
// a quarter of a second between two of them, and a pause, are taken for a dead leader. The
// session of a director outlasts an election (L3).
const (
	memberHeartbeat = 250 * time.Millisecond
	memberElection  = 2500 * time.Millisecond
)

// Member is one of several that make one store. The zero Member is none: a store of one.
type Member struct {
	Name       string            // one of Cluster
	PeerListen string            // where the other members are listened to; default: Cluster[Name], or every address where that names a host
	Advertise  string            // where clients reach it, when it is not where they are listened to
	Cluster    map[string]string // names of all members, and the URLs at which each hears the others
	Token      string            // tells this cluster from another: the same at each member
	Existing   bool              // it joins members that are there
}

// ParseCluster reads members as name=URL.
func ParseCluster(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		name, peer, ok := strings.Cut(s, "=")
		if !ok || name == "" || peer == "" {
			return nil, fmt.Errorf("member %q is not name=URL, such as fra=https://192.0.2.7:2380", s)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("member %q stands there twice", name)
		}
		out[name] = peer
	}
	return out, nil
}

// Args gives a member as the flags of `divert etcd`.
func (m Member) Args() []string {
	args := []string{"--name", m.Name, "--token", m.Token}
	for _, name := range slices.Sorted(maps.Keys(m.Cluster)) {
		args = append(args, "--member", name+"="+m.Cluster[name])
	}
	if m.PeerListen != "" {
		args = append(args, "--peer-listen", m.PeerListen)
	}
	if m.Advertise != "" {
		args = append(args, "--advertise", m.Advertise)
	}
	if m.Existing {
		args = append(args, "--existing")
	}
	return args
}

// settle checks a member, and says where it listens to the others. Whoever is heard there
// can write the store: off loopback only mutual TLS will do.
func (m *Member) settle(listen *url.URL, files TLS) (peers *url.URL, err error) {
	own, ok := m.Cluster[m.Name]
	switch {
	case m.Name == "" || !ok:
		return nil, fmt.Errorf("member %q is none of the cluster's: %s", m.Name, strings.Join(slices.Sorted(maps.Keys(m.Cluster)), ", "))
	case m.Token == "":
		return nil, errors.New("a member wants the cluster's token, the same at each: make one with `openssl rand -hex 16`")
	case listen.Scheme == "unix":
		return nil, errors.New("a member of several is reached by others: it cannot listen on a unix socket")
	}
	secure := listen.Scheme == "https"
	for name, peer := range m.Cluster {
		u, err := url.Parse(peer)
		if err != nil || u.Port() == "" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("member %s: %q is not scheme, host and port, such as https://192.0.2.7:2380", name, peer)
		}
		if secure != (u.Scheme == "https") {
			return nil, fmt.Errorf("member %s: %s: all of a cluster's addresses are https, or all are loopback", name, peer)
		}
		if ip := net.ParseIP(u.Hostname()); !secure && (ip == nil || !ip.IsLoopback()) {
			return nil, fmt.Errorf("member %s: %s: off loopback only https with mutual TLS is served", name, peer)
		}
	}
	if m.PeerListen == "" {
		u, _ := url.Parse(own)
		if m.PeerListen = own; net.ParseIP(u.Hostname()) == nil {
			m.PeerListen = u.Scheme + "://0.0.0.0:" + u.Port()
		}
	}
	return parseListen(m.PeerListen, files)
}

// configure makes etcd one of several.
func (m *Member) configure(cfg *embed.Config, listen, peers *url.URL, files TLS) error {
	own, err := url.Parse(m.Cluster[m.Name])
	if err != nil {
		return fmt.Errorf("member %s: %w", m.Name, err)
	}
	cfg.Name = m.Name
	cfg.ListenPeerUrls = []url.URL{*peers}
	cfg.AdvertisePeerUrls = []url.URL{*own}
	cfg.AdvertiseClientUrls = []url.URL{*listen}
	if m.Advertise != "" {
		u, err := url.Parse(m.Advertise)
		if err != nil {
			return fmt.Errorf("address for clients: %w", err)
		}
		cfg.AdvertiseClientUrls = []url.URL{*u}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(m.Cluster)) {
		all = append(all, name+"="+m.Cluster[name])
	}
	cfg.InitialCluster = strings.Join(all, ",")
	cfg.InitialClusterToken = m.Token
	if m.Existing {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	cfg.TickMs, cfg.ElectionMs = uint(memberHeartbeat.Milliseconds()), uint(memberElection.Milliseconds())
	if peers.Scheme == "https" {
		cfg.PeerTLSInfo = transport.TLSInfo{
			CertFile: files.Cert, KeyFile: files.Key, TrustedCAFile: files.CA, ClientCertAuth: true,
			// A certificate that is for none of the members' hosts is a client's, be it of this
			// authority: it may ask, and not vote. From which address it comes proves nothing,
			// and behind a translation is none of its certificate's.
			AllowedHostnames: m.hosts(), SkipClientSANVerify: true, CRLFile: files.CRL,
		}
	}
	return nil
}

// hosts are those of all members, for one of which the certificate of each is: else the
// others would not talk to it.
func (m *Member) hosts() (out []string) {
	for _, name := range slices.Sorted(maps.Keys(m.Cluster)) {
		if u, err := url.Parse(m.Cluster[name]); err == nil {
			out = append(out, u.Hostname())
		}
	}
	return out
}

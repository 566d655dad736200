package fleet

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// The ports of a site, and of those that its host gives to Divert.
const (
	gossipPort = "7946"
	clientPort = "2379" // etcd's, for directors
	peerPort   = "2380" // etcd's, for its other members
	apiPort    = "8053"
)

// maxSites is more than a fleet needs: 3 to 9.
const maxSites = 32

// Site is where one director runs: its name, and the address or DNS name at which the other
// sites reach it.
type Site struct {
	Name string
	Host string
}

var (
	siteName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// ParseSites reads sites as people write them: NAME=ADDRESS, NAME=HOST, or a NAME that is
// its host's, too.
func ParseSites(list []string) ([]Site, error) {
	var out []Site
	names, hosts := map[string]bool{}, map[string]bool{}
	for _, text := range list {
		name, host, given := strings.Cut(strings.TrimSpace(text), "=")
		if !given {
			host = name
		}
		s := Site{Name: name, Host: host}
		if err := s.check(); err != nil {
			return nil, err
		}
		if names[s.Name] || hosts[s.Host] {
			return nil, fmt.Errorf("site %s stands there twice, or another has its address", s.Name)
		}
		names[s.Name], hosts[s.Host] = true, true
		out = append(out, s)
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("no sites are given: --sites fra=203.0.113.5,nyc=198.51.100.7,sin=192.0.2.9")
	case len(out) > maxSites:
		return nil, fmt.Errorf("%d sites: a fleet needs 3 to 9 directors", len(out))
	}
	return out, nil
}

func (s *Site) check() error {
	if !siteName.MatchString(s.Name) || s.Name == authorities || s.Name == operators {
		return fmt.Errorf("site %q: a name has 1 to 32 small letters, digits and dashes, and is neither %s nor %s", s.Name, authorities, operators)
	}
	if ip, err := netip.ParseAddr(s.Host); err == nil {
		if ip = ip.Unmap(); ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
			return fmt.Errorf("site %s: %s is no address that other sites reach", s.Name, s.Host)
		}
		s.Host = ip.String()
		return nil
	}
	if len(s.Host) > 253 || !hostName.MatchString(s.Host) {
		return fmt.Errorf("site %s: %q is neither an address nor a host's name in small letters", s.Name, s.Host)
	}
	return nil
}

// addr gives the site's address; the zero Addr where it has a name.
func (s Site) addr() netip.Addr {
	ip, _ := netip.ParseAddr(s.Host)
	return ip
}

// at is where the site is reached.
func (s Site) at(port string) string { return net.JoinHostPort(s.Host, port) }

// listen is what the site's processes bind: its address, or where it has a name all that
// its host has.
func (s Site) listen(port string) string {
	if s.addr().IsValid() {
		return s.at(port)
	}
	return "0.0.0.0:" + port
}

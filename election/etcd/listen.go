package etcd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// maxSocketPath is the longest path of a unix socket that every system takes:
// sun_path is 108 octets on Linux and 104 on the BSDs, the final NUL included.
const maxSocketPath = 103

// TLS names the files of mutual TLS: the authority that signs the clients'
// certificates, and the server's own certificate and key. They are read again
// at each handshake, so that they may be renewed in place.
type TLS struct {
	CA, Cert, Key string
	CRL           string // DER: which certificates are revoked; "" = none is known to be
}

func (t TLS) empty() bool { return t == TLS{} }

// parseListen reads and judges where a server shall listen. Whoever reaches an
// etcd can write plans, so beyond this machine only mutual TLS will do.
func parseListen(listen string, files TLS) (*url.URL, error) {
	if path, ok := strings.CutPrefix(listen, "unix://"); ok {
		return parseSocket(path, files)
	}
	u, err := url.Parse(listen)
	if err != nil {
		return nil, fmt.Errorf("listen address: %w", err)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("listen address %s: give scheme, address and port alone, such as http://127.0.0.1:2379", listen)
	}
	u.Path = ""
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || port == "" {
		return nil, fmt.Errorf("listen address %s: give scheme, address and port, such as http://127.0.0.1:2379", listen)
	}
	if host == "localhost" {
		host = "127.0.0.1"
		u.Host = net.JoinHostPort(host, port)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("listen address %s: %q is not an IP address", listen, host)
	}
	switch u.Scheme {
	case "http":
		if !ip.IsLoopback() {
			return nil, fmt.Errorf("listen address %s: off loopback only https with mutual TLS is served: give a CA, a certificate and a key", listen)
		}
		if !files.empty() {
			return nil, fmt.Errorf("listen address %s: a certificate is given, but http would ignore it: write https", listen)
		}
	case "https":
		if files.CA == "" || files.Cert == "" || files.Key == "" {
			return nil, fmt.Errorf("listen address %s: https wants a CA for the clients' certificates, a certificate and a key", listen)
		}
	default:
		return nil, fmt.Errorf("listen address %s: scheme %q is none of http, https, unix", listen, u.Scheme)
	}
	return u, nil
}

func parseSocket(path string, files TLS) (*url.URL, error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return nil, fmt.Errorf("listen address unix://%s: the path of the socket must be absolute", path)
	case len(path) > maxSocketPath:
		return nil, fmt.Errorf("listen address unix://%s: a socket's path may have %d octets, this has %d: use a shorter one", path, maxSocketPath, len(path))
	case strings.ContainsAny(path, "%?#\x00"):
		return nil, fmt.Errorf("listen address unix://%s: the path holds one of %%, ?, # or NUL, which clients cannot name", path)
	case !files.empty():
		return nil, errors.New("a unix socket is guarded by its folder's permissions: leave the certificate out")
	}
	// etcd writes the URL down and parses it again, without a leading slash in
	// the host, so the path stands where it expects it.
	return &url.URL{Scheme: "unix", Path: path}, nil
}

// free reports why an address cannot be served: somebody else does. etcd would
// remove another process's live socket, and say "address already in use" bare.
func free(u *url.URL) error {
	if u.Scheme == "unix" {
		conn, err := net.Dial("unix", u.Path)
		if err != nil {
			return nil // absent, or left behind by a process that is gone
		}
		_ = conn.Close()
		return fmt.Errorf("socket %s is served by another process: stop that one, or choose another path", u.Path)
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		return fmt.Errorf("cannot listen on %s (another etcd there?): %w", u.Host, err)
	}
	return l.Close()
}

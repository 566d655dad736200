package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/dnsserver/keypair"
)

// TLSOptions is how the TCP listener shows itself, and whose certificates it takes.
// Without a certificate there is no TLS.
type TLSOptions struct {
	Cert, Key string // PEM files, read again when they change
	ClientCA  string // PEM: who signs clients' certificates; "" = these are not asked for
	CRL       string // PEM or DER: which of these are revoked; "" = none is known to be
}

func (o TLSOptions) pair(log *slog.Logger) keypair.Options {
	return keypair.Options{Cert: o.Cert, Key: o.Key, CA: o.ClientCA, CRL: o.CRL, Use: "API", Log: log}
}

// listen binds the TCP listener. Off loopback there is none without TLS.
func (s *Server) listen(o Options) (net.Listener, error) {
	if o.TLS.Cert == "" {
		return listenLoopback(o.Listen)
	}
	s.files = keypair.New(o.TLS.pair(s.log), time.Now())
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for the API: %w", err)
	}
	return l, nil
}

// secured is the configuration of each handshake: the pair, and who signs clients, are
// those of that moment. There are no session tickets: a client whose certificate is no
// longer good must not come back by one.
func secured(files *keypair.Files) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair := files.Current()
			if pair == nil {
				return nil, keypair.ErrNone
			}
			c := &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair.Certificate},
				NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
			}
			if pair.Roots != nil {
				c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, pair.Roots
			}
			return c, nil
		},
	}
}

// ownName tells whether a host, without its port, is one that the certificate in force
// is good for.
func (s *Server) ownName(host string) bool {
	pair := s.files.Current()
	return pair != nil && pair.Leaf.VerifyHostname(host) == nil
}

// sharesSocket tells whether users of the system other than this process's may do
// anything.
func (s *Server) sharesSocket() bool {
	for _, g := range s.grants {
		if strings.HasPrefix(strings.TrimPrefix(g.Who, "group:"), string(access.Unix)+":") {
			return true
		}
	}
	return false
}

// vetted is the socket's listener where others share it: who was granted nothing is
// hung up on at once, so that he takes no connection from those who were.
func (s *Server) vetted(l net.Listener) net.Listener {
	if l == nil || !s.sharesSocket() {
		return l
	}
	return vetting{Listener: l, admits: func(c net.Conn) bool {
		id, err := s.peerIdentity(c)
		return err == nil && len(id.Grants) > 0
	}}
}

type vetting struct {
	net.Listener
	admits func(net.Conn) bool
}

// Accept waits for a connection of somebody who may ask for something.
func (v vetting) Accept() (net.Conn, error) {
	for {
		conn, err := v.Listener.Accept()
		if err != nil || v.admits(conn) {
			return conn, err
		}
		_ = conn.Close()
	}
}

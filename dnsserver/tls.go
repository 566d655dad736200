package dnsserver

import (
	"crypto/tls"
	"net"
)

// TLSOptions is DNS over TLS (RFC 7858). Without addresses there is none.
type TLSOptions struct {
	Listen    []string // as Options.Listen
	Cert, Key string   // PEM files, read again when they change
}

// The results of what is tried.
const (
	passed = iota
	failed
)

// config is how this server shows itself.
func (s *Server) config() *tls.Config {
	return &tls.Config{
		GetCertificate: s.certificate.Certificate,
		MinVersion:     tls.VersionTLS12,
		// A client that names protocols must name this one (RFC 7301); most name none.
		NextProtos: []string{"dot"},
	}
}

// handshake makes a connection secure, within the deadline that it has.
func (s *Server) handshake(conn net.Conn) (net.Conn, error) {
	secure := tls.Server(conn, s.tls)
	if err := secure.Handshake(); err != nil {
		return nil, err
	}
	return secure, nil
}

package api

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/divertdns/divert/director/access"
)

type (
	connKey struct{}
	userKey struct{}
)

// WithUser notes who asks, for what has no command that could name its author.
func WithUser(ctx context.Context, user string) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// User is who asks: what WithUser noted, or whom the server found out; "" where nobody
// was.
func User(ctx context.Context) string {
	if user, ok := ctx.Value(userKey{}).(string); ok {
		return user
	}
	return access.From(ctx).Who
}

// withConn lets a handler ask the kernel who is at the other end.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*cappedConn); ok {
		conn = c.Conn
	}
	return context.WithValue(ctx, connKey{}, conn)
}

// listenerOf tells which listener a request came in by.
func listenerOf(ctx context.Context) string {
	switch ctx.Value(connKey{}).(type) {
	case *net.UnixConn:
		return viaSocket
	case *tls.Conn:
		return viaTLS
	default:
		return viaTCP
	}
}

// errNoPeer says that the system does not tell who is at the other end of a socket.
var errNoPeer = errors.New("who is at the other end of the socket cannot be told")

// peerID asks the kernel for the user at the other end of a unix socket.
func peerID(conn net.Conn) (uint32, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errNoPeer
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var uid uint32
	var credErr error
	if err := raw.Control(func(fd uintptr) { uid, credErr = peerUID(int(fd)) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, errors.Join(errNoPeer, credErr)
	}
	return uid, nil
}

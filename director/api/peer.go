package api

import (
	"context"
	"errors"
	"net"
	"os/user"
	"strconv"
)

type (
	connKey struct{}
	userKey struct{}
)

// WithUser notes who asks, for Director.Init and Director.Recover, which take
// no command that could name its author.
func WithUser(ctx context.Context, user string) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// User is what WithUser noted, "" where nothing was.
func User(ctx context.Context) string {
	user, _ := ctx.Value(userKey{}).(string)
	return user
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
	if _, ok := ctx.Value(connKey{}).(*net.UnixConn); ok {
		return viaSocket
	}
	return viaTCP
}

// peerUser names the operating system's user at the other end of a unix
// socket, as the kernel vouches for it: the name, or "uid 1234" for one that
// this machine has no name for.
func peerUser(ctx context.Context) (string, error) {
	conn, ok := ctx.Value(connKey{}).(*net.UnixConn)
	if !ok {
		return "", errors.New("the request did not come over a unix socket")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", err
	}
	var uid uint32
	var credErr error
	if err := raw.Control(func(fd uintptr) { uid, credErr = peerUID(int(fd)) }); err != nil {
		return "", err
	}
	if credErr != nil {
		return "", credErr
	}
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil && u.Username != "" {
		return u.Username, nil
	}
	return "uid " + id, nil
}

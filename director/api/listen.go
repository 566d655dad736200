package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// maxSocketPath is what every platform's sockaddr_un holds (104 octets on BSD
// and macOS, 108 on Linux).
const maxSocketPath = 104

// listenLoopback binds the listener that shows itself by no certificate. Anything but
// loopback is refused: nothing would be kept from whoever listens on the way.
func listenLoopback(listen string) (net.Listener, error) {
	refused := func(why string) error {
		return fmt.Errorf("api.listen %q is refused without TLS: %s; add api.tls with a certificate, or listen on 127.0.0.1 or [::1] and reach it from elsewhere through `ssh -L`", listen, why)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("api.listen %q is not host:port: %w", listen, err)
	}
	if !loopbackHost(host) {
		return nil, refused("it is not a loopback address")
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listening for the API: %w", err)
	}
	// "localhost" is whatever /etc/hosts says.
	if addr, ok := l.Addr().(*net.TCPAddr); !ok || !addr.IP.IsLoopback() {
		return nil, errors.Join(refused("it resolves to "+l.Addr().String()), l.Close())
	}
	return l, nil
}

// loopbackHost tells whether a host, with or without brackets, can only mean
// this machine.
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// listenSocket binds the control socket with mode 0600, or 0666 where other users share
// it. A socket left behind by a dead director is replaced; one that somebody answers on
// is not.
func listenSocket(path string, shared bool) (net.Listener, error) {
	mode := os.FileMode(0o600)
	if shared {
		mode = 0o666
	}
	if err := checkSocketPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// Linux gives the socket file the mode that its descriptor has when it is
		// bound, so that there is no instant at which others may connect. Where a
		// descriptor's mode cannot be set, the Chmod below must do.
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on the control socket: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("setting who may connect to the control socket: %w", err), l.Close())
	}
	return l, nil
}

func checkSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket path %q has %d octets, the most that a unix socket can have is %d: choose a shorter dataDir", path, len(path), maxSocketPath)
	}
	return nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way of the control socket and is not a socket: move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("another process answers on %s: is this director running already?", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s exists, and whether somebody answers on it cannot be told: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a stale control socket: %w", err)
	}
	return nil
}

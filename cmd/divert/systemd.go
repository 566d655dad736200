package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/divertdns/divert/dnsserver"
)

// passedSockets are those that a service manager has bound (sd_listen_fds(3)).
func passedSockets() ([]dnsserver.Socket, error) {
	var out []dnsserver.Socket
	for _, f := range activation.Files(true) {
		s, err := dnsserver.SocketOf(f)
		if err != nil {
			dnsserver.Discard(out)
			return nil, fmt.Errorf("a socket that was passed to this process: %w: pass only those that DNS is answered on "+
				"(ListenDatagram= and ListenStream=)", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// notifyReady tells the service manager, if there is one, that this process is the
// director now (sd_notify(3)).
func notifyReady() {
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady+"\nMAINPID="+strconv.Itoa(os.Getpid()))
}

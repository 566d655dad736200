//go:build !unix

package director

import (
	"errors"
	"net"
	"os"

	"github.com/divertdns/divert/dnsserver"
)

func sendSockets(*net.UnixConn, []dnsserver.Handle) error { return errors.ErrUnsupported }

func receiveSockets(*net.UnixConn) ([]*os.File, error) { return nil, errors.ErrUnsupported }

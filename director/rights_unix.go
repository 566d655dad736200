//go:build unix

package director

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/dnsserver"
)

// sendSockets sends descriptors along with a packet that says nothing else
// (unix(7), SCM_RIGHTS). The sockets stay open here.
func sendSockets(conn *net.UnixConn, handles []dnsserver.Handle) error {
	fds := make([]int, 0, len(handles))
	for _, h := range handles {
		raw, err := h.Conn.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
	}
	_, _, err := conn.WriteMsgUnix([]byte("{}"), unix.UnixRights(fds...), nil)
	return err
}

// receiveSockets takes the descriptors of one packet.
func receiveSockets(conn *net.UnixConn) (files []*os.File, err error) {
	data, oob := make([]byte, 16), make([]byte, unix.CmsgSpace(4*fdsPerMessage))
	_, n, flags, _, err := conn.ReadMsgUnix(data, oob)
	if err != nil {
		return nil, fmt.Errorf("taking sockets: %w", err)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		err = errors.New("taking sockets: some did not fit; is the limit of open files too low?")
	}
	messages, parseErr := unix.ParseSocketControlMessage(oob[:n])
	for i := range messages {
		fds, rightsErr := unix.ParseUnixRights(&messages[i])
		parseErr = errors.Join(parseErr, rightsErr)
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "socket"))
		}
	}
	return files, errors.Join(err, parseErr)
}

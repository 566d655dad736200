package director

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
)

// A running director is replaced by another process without a query lost. The two
// speak over a socket in the data folder, a message a packet:
//
//	old: offer     the DNS sockets, and which plan they answer from
//	new: ready     it answers on them too, from the last good state on the disk
//	old: released  it has let go of gossip, the store, the API and the data folder
//	new: done      it has taken them, with the next boot
//
// Both answer until the end. Whatever ends the connection before "done" leaves the
// old one in charge: before "released" it has never stopped, after it it begins
// again.
const handoverSocket = "handover.sock"

const (
	// offerPatience bounds how long the other process may take to answer DNS, or
	// to let go.
	offerPatience = time.Minute
	// donePatience bounds how long it may take to be a whole director.
	donePatience = time.Minute
	// fdsPerMessage is below the kernel's SCM_MAX_FD.
	fdsPerMessage = 200
	maxHandover   = 1 << 16
)

// errHandedOver ends a director whose sockets another process answers on.
var errHandedOver = errors.New("another process is ready to take over")

type handoverMessage struct {
	State     string        `json:"state"`               // offer, ready, released, done
	Plan      string        `json:"plan,omitempty"`      // of an offer: what is answered from
	Activated bool          `json:"activated,omitempty"` // of an offer: the sockets are a service manager's
	Sockets   []socketOffer `json:"sockets,omitempty"`   // of an offer, in the order of the descriptors
	Parts     int           `json:"parts,omitempty"`     // of an offer: how many messages bring descriptors
	Why       string        `json:"why,omitempty"`
}

type socketOffer struct {
	Network string         `json:"network"`
	Addr    netip.AddrPort `json:"addr"`
}

// handover offers this director's sockets to whoever may open the data folder.
type handover struct {
	path  string
	front *front
	plan  func() string // what is answered from
	log   *slog.Logger

	socket *net.UnixListener // nil: it cannot be replaced
	conn   *net.UnixConn     // to who is ready; set before run ends with errHandedOver
}

// listen makes the socket. That it cannot be made is no reason not to direct.
func (h *handover) listen() {
	_ = os.Remove(h.path) // the data folder is locked: nobody else listens there
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: h.path, Net: "unixpacket"})
	if err == nil {
		err = os.Chmod(h.path, 0o600)
	}
	if err != nil {
		h.log.Warn("this director cannot be replaced while it runs", slog.Any("err", err))
		return
	}
	h.socket = l
}

// run waits for a process that wants to take over.
func (h *handover) run(ctx context.Context) error {
	if h.socket == nil {
		<-ctx.Done()
		return nil
	}
	l := h.socket
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	defer func() { _ = l.Close() }()
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("handover socket: %w", err)
		}
		if err := h.offer(ctx, conn); err != nil {
			_ = conn.Close()
			h.log.Warn("the process that wanted to take over did not; this one goes on", slog.Any("err", err))
			continue
		}
		h.conn = conn
		return errHandedOver
	}
}

// offer gives the sockets and waits until they are answered on.
func (h *handover) offer(ctx context.Context, conn *net.UnixConn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.SetDeadline(time.Now().Add(offerPatience)); err != nil {
		return err
	}
	m := handoverMessage{State: "offer", Plan: h.plan(), Activated: h.front.activated}
	handles := h.front.dns.Handles()
	for _, s := range handles {
		m.Sockets = append(m.Sockets, socketOffer{s.Network, s.Addr})
	}
	m.Parts = (len(handles) + fdsPerMessage - 1) / fdsPerMessage
	if err := tell(conn, m); err != nil {
		return err
	}
	for at := 0; at < len(handles); at += fdsPerMessage {
		if err := sendSockets(conn, handles[at:min(at+fdsPerMessage, len(handles))]); err != nil {
			return err
		}
	}
	_, err := hear(conn, "ready")
	return err
}

// tell sends a message.
func tell(conn *net.UnixConn, m handoverMessage) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = conn.Write(data)
	return err
}

// hear waits for a message of a state.
func hear(conn *net.UnixConn, state string) (m handoverMessage, err error) {
	buf := make([]byte, maxHandover)
	n, err := conn.Read(buf)
	switch {
	case err != nil:
		return m, fmt.Errorf("waiting for the other process to be %s: %w", state, err)
	case n == 0:
		return m, fmt.Errorf("waiting for the other process to be %s: it has gone", state)
	}
	if err := json.Unmarshal(buf[:n], &m); err != nil {
		return m, fmt.Errorf("what the other process says: %w", err)
	}
	if m.State != state {
		return m, fmt.Errorf("the other process is %q, not %s: %s", m.State, state, m.Why)
	}
	return m, nil
}

// heir takes over from a running director.
type heir struct {
	conn *net.UnixConn
}

// takeOver answers on the sockets of the director that runs on the same data
// folder, from the same plan.
func takeOver(s spec.Settings, log *slog.Logger) (*heir, *front, error) {
	path := filepath.Join(s.DataDir, handoverSocket)
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, nil, fmt.Errorf("no director runs on %s that could be replaced (start this one without --replace): %w", s.DataDir, err)
	}
	f, err := receive(conn, s, log)
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("taking over: %w", err)
	}
	return &heir{conn: conn}, f, nil
}

func receive(conn *net.UnixConn, s spec.Settings, log *slog.Logger) (f *front, err error) {
	if err := conn.SetDeadline(time.Now().Add(offerPatience)); err != nil {
		return nil, err
	}
	m, err := hear(conn, "offer")
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for range m.Parts {
		part, err := receiveSockets(conn)
		files = append(files, part...)
		if err != nil {
			closeAll(files)
			return nil, err
		}
	}
	sockets, err := identify(files, m.Sockets)
	if err != nil {
		closeAll(files)
		return nil, err
	}
	table, identity, err := standIn(s, log)
	if err == nil && m.Plan != "" && identity.String() != m.Plan {
		err = fmt.Errorf("its disk holds %s, and it answers from %s", identity, m.Plan)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	answers := new(atomic.Pointer[answer.Table])
	answers.Store(table)
	return newFront(s, answers, sockets, m.Activated, log) // which closes what it does not use
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// identify tells which descriptor is which socket, by what the kernel says.
func identify(files []*os.File, offered []socketOffer) ([]dnsserver.Socket, error) {
	if len(files) != len(offered) {
		return nil, fmt.Errorf("%d sockets came of %d", len(files), len(offered))
	}
	var out []dnsserver.Socket
	for i, f := range files {
		s, err := dnsserver.SocketOf(f)
		if err != nil {
			return nil, err
		}
		if s.Network != offered[i].Network || s.Addr != offered[i].Addr {
			return nil, fmt.Errorf("%s %s came as %s %s", s.Network, s.Addr, offered[i].Network, offered[i].Addr)
		}
		out = append(out, s)
	}
	return out, nil
}

// ready says that this process answers DNS, and waits until the other has let go of
// all else.
func (h *heir) ready() error {
	if err := h.conn.SetDeadline(time.Now().Add(offerPatience)); err != nil {
		return err
	}
	if err := tell(h.conn, handoverMessage{State: "ready"}); err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	if _, err := hear(h.conn, "released"); err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	return nil
}

// done says that this is the director now.
func (h *heir) done() error {
	defer func() { _ = h.conn.Close() }()
	return tell(h.conn, handoverMessage{State: "done"})
}

// release says that all is let go of, and waits until it is taken.
func release(ctx context.Context, conn *net.UnixConn) error {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.SetDeadline(time.Now().Add(donePatience)); err != nil {
		return err
	}
	if err := tell(conn, handoverMessage{State: "released"}); err != nil {
		return err
	}
	_, err := hear(conn, "done")
	return err
}

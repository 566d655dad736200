package director

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
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
// Both answer until the end. Whatever the new one does before "done" leaves the old
// one in charge: before "released" it has never stopped, after it it begins again,
// and says "staying" to one that was too slow, which then ends. Where the old one is
// gone without that word, it has ended or died, and the new one, which answers
// already, goes on as soon as the data folder is free: its lock decides who directs.
const handoverSocket = "handover.sock"

const (
	// offerPatience bounds how long the other process may take to answer DNS, or
	// to let go.
	offerPatience = time.Minute
	// donePatience bounds how long it may take to be a whole director.
	donePatience = time.Minute
	// maxHeirs is how many processes may try to take over at once.
	maxHeirs = 4
	// fdsPerMessage is below the kernel's SCM_MAX_FD.
	fdsPerMessage = 200
	maxHandover   = 1 << 16
)

// errHandedOver ends a director whose sockets another process answers on.
var errHandedOver = errors.New("another process is ready to take over")

// errGone says that the other process has ended, without a word.
var errGone = errors.New("it has gone")

type handoverMessage struct {
	State     string        `json:"state"`               // offer, ready, released, done, staying
	Plan      string        `json:"plan,omitempty"`      // of an offer: what is answered from
	Activated bool          `json:"activated,omitempty"` // of an offer: the sockets are a service manager's
	Sockets   []socketOffer `json:"sockets,omitempty"`   // of an offer, in the order of the descriptors
	Parts     int           `json:"parts,omitempty"`     // of an offer: how many messages bring descriptors
	Why       string        `json:"why,omitempty"`
}

type socketOffer struct {
	Network string         `json:"network"`
	Addr    netip.AddrPort `json:"addr"`
	TLS     bool           `json:"tls,omitempty"` // answered by TLS alone
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
	// As of the control socket, its descriptor has the mode before it is bound: there is
	// no instant at which others may connect, whatever the folder's mode is.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	made, err := config.Listen(context.Background(), "unixpacket", h.path)
	l, _ := made.(*net.UnixListener)
	if err == nil {
		if err = os.Chmod(h.path, 0o600); err != nil {
			_ = made.Close()
		}
	}
	if err != nil {
		h.log.Warn("this director cannot be replaced while it runs", slog.Any("err", err))
		return
	}
	h.socket = l
}

// run waits for a process that wants to take over. Several may try at once, so that one that
// is stuck keeps no other from it: the first that answers DNS has it.
func (h *handover) run(ctx context.Context) error {
	if h.socket == nil {
		<-ctx.Done()
		return nil
	}
	trying, enough := context.WithCancel(ctx)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer func() { _ = h.socket.Close() }()
	defer enough()
	ready := make(chan *net.UnixConn)
	tries.Go(func() { h.accept(ctx, trying, &tries, ready) })
	select {
	case <-ctx.Done():
		return nil
	case h.conn = <-ready:
		return errHandedOver
	}
}

// accept makes each process that comes its offer, until trying ends; ctx is the director's.
func (h *handover) accept(ctx, trying context.Context, tries *sync.WaitGroup, ready chan<- *net.UnixConn) {
	defer context.AfterFunc(trying, func() { _ = h.socket.Close() })()
	places := make(chan struct{}, maxHeirs)
	for {
		conn, err := h.socket.AcceptUnix()
		switch {
		case trying.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return
		case err != nil:
			// Out of file descriptors, most likely: no reason to stop directing.
			h.log.Warn("a process that wants to take over has to wait", slog.Any("err", err))
			select {
			case <-trying.Done():
			case <-time.After(againTick):
			}
			continue
		}
		select {
		case places <- struct{}{}:
		case <-trying.Done():
			_ = conn.Close()
			return
		}
		tries.Go(func() {
			defer func() { <-places }()
			err := h.offer(trying, conn)
			if err == nil {
				select {
				case ready <- conn:
					return
				case <-trying.Done():
					err = errors.New("another process takes over")
				}
			}
			if ctx.Err() == nil {
				stay(conn, err)
			}
			_ = conn.Close()
			h.log.Warn("the process that wanted to take over did not; this one goes on", slog.Any("err", err))
		})
	}
}

// offer gives the sockets and waits until they are answered on.
func (h *handover) offer(ctx context.Context, conn *net.UnixConn) error {
	defer patience(ctx, conn, offerPatience)()
	m := handoverMessage{State: "offer", Plan: h.plan(), Activated: h.front.activated}
	handles := h.front.dns.Handles()
	for _, s := range handles {
		m.Sockets = append(m.Sockets, socketOffer{s.Network, s.Addr, s.TLS})
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

// patience bounds what is said and heard, by a time and by ctx, until forget.
func patience(ctx context.Context, conn *net.UnixConn, d time.Duration) (forget func() bool) {
	_ = conn.SetDeadline(time.Now().Add(d)) // fails as what follows does
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// stay tells the other process that this one stays in charge.
func stay(conn *net.UnixConn, why error) {
	_ = conn.SetDeadline(time.Now().Add(againTick))
	_ = tell(conn, handoverMessage{State: "staying", Why: why.Error()}) // it may well be gone
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
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return m, fmt.Errorf("waiting for the other process to be %s: %w", state, errGone)
	case err != nil:
		return m, fmt.Errorf("waiting for the other process to be %s: %w", state, err)
	case n == 0:
		return m, fmt.Errorf("waiting for the other process to be %s: %w", state, errGone)
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
	gone bool // who was to be replaced
}

// takeOver answers on the sockets of the director that runs on the same data
// folder, from the same plan.
func takeOver(ctx context.Context, s spec.Settings, log *slog.Logger) (*heir, *front, error) {
	path := filepath.Join(s.DataDir, handoverSocket)
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, nil, fmt.Errorf("no director runs on %s that could be replaced (start this one without --replace): %w", s.DataDir, err)
	}
	f, err := receive(ctx, conn, s, log)
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("taking over: %w", err)
	}
	return &heir{conn: conn}, f, nil
}

func receive(ctx context.Context, conn *net.UnixConn, s spec.Settings, log *slog.Logger) (f *front, err error) {
	defer patience(ctx, conn, offerPatience)()
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
	sockets, err := identify(files, m)
	if err != nil {
		closeAll(files)
		return nil, err
	}
	survey := newSurvey(s.Geo.Database)
	texts := new(zoneTexts)
	table, identity, err := standIn(s, survey, texts, log)
	if err == nil && m.Plan != "" && identity.String() != m.Plan {
		err = fmt.Errorf("its disk holds %s, and it answers from %s", identity, m.Plan)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	answers := new(atomic.Pointer[answer.Table])
	answers.Store(table)
	if f, err = newFront(s, answers, survey, texts, sockets, m.Activated, log); err == nil { // which closes what it does not use
		f.share(s, log)
	}
	return f, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// identify tells which descriptor is which socket, by what the kernel says.
// Where a service manager's say what is listened on, those that were answered by TLS
// are left to dns.tls.listen: none is ever served in the clear by that.
func identify(files []*os.File, m handoverMessage) ([]dnsserver.Socket, error) {
	offered := m.Sockets
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
		s.TLS = m.Activated && offered[i].TLS
		out = append(out, s)
	}
	return out, nil
}

// ready says that this process answers DNS, and waits until the other has let go of
// all else. One that has ended meanwhile has let go, too.
func (h *heir) ready(ctx context.Context) error {
	defer patience(ctx, h.conn, offerPatience)()
	err := tell(h.conn, handoverMessage{State: "ready"})
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		_, err = hear(h.conn, "released") // or why not
	}
	if errors.Is(err, errGone) {
		h.gone = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	return nil
}

// done says that this is the director now. An error means that it is not: the other
// has not waited.
func (h *heir) done(ctx context.Context) error {
	defer func() { _ = h.conn.Close() }()
	defer patience(ctx, h.conn, againTick)()
	if tell(h.conn, handoverMessage{State: "done"}) == nil {
		return nil
	}
	if _, err := hear(h.conn, ""); !errors.Is(err, errGone) {
		return fmt.Errorf("taking over: %w", err)
	}
	return nil
}

// release says that all is let go of, and waits until it is taken.
func release(ctx context.Context, conn *net.UnixConn, wait time.Duration) error {
	defer func() { _ = conn.Close() }()
	forget := patience(ctx, conn, wait)
	err := tell(conn, handoverMessage{State: "released"})
	if err == nil {
		_, err = hear(conn, "done")
	}
	forget()
	if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	// Both must come to the same end: after this nothing can be said to us, and what
	// was said in the last moment counts.
	_ = conn.CloseRead()
	_ = conn.SetDeadline(time.Now().Add(againTick))
	if _, late := hear(conn, "done"); late == nil {
		return nil
	}
	stay(conn, err)
	return err
}

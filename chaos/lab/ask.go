//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone holds all services of the lab.
const zone = "example.org"

// pace of questions: the error of what is measured.
const askPace = 5 * time.Millisecond

// asker asks one server for one name, again and again.
type asker struct {
	server netip.AddrPort
	query  []byte
	conn   *net.UDPConn
	asked  atomic.Int64
	got    atomic.Int64
}

func newAsker(server netip.AddrPort, service string) (*asker, error) {
	name, err := dnsmessage.NewName(service + "." + zone + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	a := &asker{server: server}
	if a.query, err = m.Pack(); err != nil {
		return nil, err
	}
	a.conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	return a, err
}

func (a *asker) close() { _ = a.conn.Close() }

// each asks every pace and hands every answer to see, until that says true or ctx ends.
func (a *asker) each(ctx context.Context, pace time.Duration, see func(answer netip.Addr, at time.Time) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			// The same ID each time would let a late answer pass for a new one: it is told
			// from an early one by nothing that matters here, since what is looked for is
			// the first answer that differs.
			_, _ = a.conn.Write(a.query)
			a.asked.Add(1)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	defer func() { cancel(); <-sent }()
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		_ = a.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := a.conn.Read(buf)
		at := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) || err != nil {
			continue // silence and ICMP errors are no answers
		}
		answer, err := addressIn(buf[:n])
		if err != nil {
			continue
		}
		a.got.Add(1)
		if see(answer, at) {
			return nil
		}
	}
	return ctx.Err()
}

// once gives one answer, or why there is none.
func (a *asker) once(ctx context.Context) (answer netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err = a.each(ctx, 200*time.Millisecond, func(got netip.Addr, _ time.Time) bool { answer = got; return true })
	return answer, err
}

// addressIn gives the first address of a reply.
func addressIn(reply []byte) (netip.Addr, error) {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil {
		return netip.Addr{}, err
	}
	if h.RCode != dnsmessage.RCodeSuccess {
		return netip.Addr{}, fmt.Errorf("rcode %s", h.RCode)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return netip.Addr{}, err
	}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return netip.Addr{}, err
		}
		if r.Type != dnsmessage.TypeA {
			if err := p.SkipAnswer(); err != nil {
				return netip.Addr{}, err
			}
			continue
		}
		a, err := p.AResource()
		return netip.AddrFrom4(a.A), err
	}
}

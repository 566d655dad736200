// Package ask owns the questions that directors put to DNS servers: to each other's,
// from which plan do you answer, and to recursive ones, which addresses has this
// name? It never asks anything on behalf of a client.
package ask

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// PlanName is asked for with class CH and type TXT. The answer is the identity
// of the plan that the table in force was compiled from (SEMANTICS, Intent).
const PlanName = "plan.divert."

// again is how long an answer may take before the question is put once more: one
// lost packet is no silence.
const again = 250 * time.Millisecond

// Plan asks one DNS server over UDP, from the source address if one is given,
// and returns the text of the answer. It bounds itself by ctx only.
func Plan(ctx context.Context, server string, source netip.Addr) (string, error) {
	msg := new(dns.Msg)
	msg.SetQuestion(PlanName, dns.TypeTXT)
	msg.Question[0].Qclass = dns.ClassCHAOS
	msg.RecursionDesired = false
	dialer := &net.Dialer{}
	if source.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	reply, err := exchange(ctx, dialer, server, msg)
	if err != nil {
		return "", fmt.Errorf("asking %s for its plan: %w", server, err)
	}
	for _, rr := range reply.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			return strings.Join(txt.Txt, ""), nil
		}
	}
	return "", fmt.Errorf("asking %s for its plan: answered %s without a text", server, dns.RcodeToString[reply.Rcode])
}

// exchange repeats a query by one socket until an answer comes or ctx ends.
func exchange(ctx context.Context, dialer *net.Dialer, server string, msg *dns.Msg) (*dns.Msg, error) {
	conn, err := dialer.DialContext(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c := &dns.Conn{Conn: conn}
	for {
		if err := c.WriteMsg(msg); err != nil {
			return nil, cause(ctx, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(again)); err != nil {
			return nil, cause(ctx, err)
		}
		for {
			reply, err := c.ReadMsg()
			switch {
			case err == nil && reply.Id == msg.Id && reply.Response:
				return reply, nil
			case errors.Is(err, os.ErrDeadlineExceeded):
			case err == nil || reply != nil: // somebody else's, or no answer that can be read
				continue
			default:
				return nil, cause(ctx, err)
			}
			break
		}
	}
}

// cause prefers what ended the question to what that looked like.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

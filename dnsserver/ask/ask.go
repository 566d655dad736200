// Package ask owns the question that directors put to each other's DNS: from
// which plan do you answer? It never asks anything on behalf of a client.
package ask

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// PlanName is asked for with class CH and type TXT. The answer is the identity
// of the plan that the table in force was compiled from (SEMANTICS, Intent).
const PlanName = "plan.divert."

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
	client := &dns.Client{Net: "udp", Dialer: dialer}
	// A context with a deadline bounds dial, write and read alike.
	reply, _, err := client.ExchangeContext(ctx, msg, server)
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

package tap

import (
	"context"
	"log/slog"
	"strings"

	"github.com/miekg/dns"
)

// runLog writes lines. The logger does not wait; if it did, packets were dropped.
func (t *Tap) runLog(ctx context.Context, o *outlet) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-o.queue:
			t.log.LogAttrs(ctx, slog.LevelInfo, "query", attributes(e)...)
			o.release(e)
			o.written.Add(1)
		}
	}
}

// attributes describe a query and its reply. Whatever a client sent is shown in
// presentation form or quoted: it cannot break a line.
func attributes(e *Event) []slog.Attr {
	out := []slog.Attr{slog.String("client", e.From.String()), slog.String("transport", e.Transport.String())}
	var q dns.Msg
	if err := q.Unpack(e.Query()); err != nil || len(q.Question) != 1 {
		out = append(out, slog.Int("malformed", e.queryWhole))
	} else {
		out = append(out, slog.String("name", q.Question[0].Name), slog.String("type", dns.Type(q.Question[0].Qtype).String()))
		if subnet := subnetOf(&q); subnet != "" {
			out = append(out, slog.String("subnet", subnet))
		}
	}
	if e.replyWhole == 0 {
		return append(out, slog.String("reply", "none"))
	}
	var r dns.Msg
	if err := r.Unpack(e.Reply()); err != nil {
		return append(out, slog.Int("octets", e.replyWhole))
	}
	out = append(out, slog.String("rcode", rcode(r.Rcode)), slog.Int("octets", e.replyWhole))
	if r.Truncated {
		out = append(out, slog.Bool("truncated", true))
	}
	var answers []string
	for _, rr := range r.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			answers = append(answers, rr.A.String())
		case *dns.AAAA:
			answers = append(answers, rr.AAAA.String())
		case *dns.CNAME:
			answers = append(answers, rr.Target)
		}
	}
	if len(answers) > 0 {
		out = append(out, slog.String("answer", strings.Join(answers, " ")))
	}
	return out
}

func rcode(n int) string {
	if n == dns.RcodeBadVers {
		return "BADVERS"
	}
	if text, ok := dns.RcodeToString[n]; ok {
		return text
	}
	return "unknown"
}

func subnetOf(m *dns.Msg) string {
	opt := m.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		if s, ok := o.(*dns.EDNS0_SUBNET); ok {
			return s.String()
		}
	}
	return ""
}

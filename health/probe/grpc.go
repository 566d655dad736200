package probe

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// grpc makes a question to the health service ready. It is one request by HTTP/2 as
// gRPC's protocol description has it, over the same bounded client as a page: grpc-go's
// own keeps, and repairs, connections in the background, and looks names up.
func (r *request) grpc(g GRPC, s *Scheduler) error {
	r.kind, r.h2 = kindGRPC, h2Only
	host := g.Host
	if host == "" {
		host = unmap(r.addr).String()
	}
	if !g.Plaintext {
		if err := r.secure(g.Secure, host, []string{"h2"}, s); err != nil {
			return err
		}
	}
	message, err := proto.Marshal(&healthpb.HealthCheckRequest{Service: g.Service})
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) // not compressed, length
	r.content = string(append(frame, message...))
	r.page, err = h2Request(!g.Plaintext, http.MethodPost, host, "/grpc.health.v1.Health/Check", []Header{
		{"User-Agent", "divert-probe"}, {"Content-Type", "application/grpc"}, {"Te", "trailers"},
	})
	return err
}

// healthCheck asks, and takes SERVING alone for health.
func (r *request) healthCheck(ctx context.Context, conn net.Conn) outcome {
	page := r.page
	if deadline, ok := ctx.Deadline(); ok {
		page = page.Clone(ctx)
		page.Header.Set("Grpc-Timeout", strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10)+"m")
	}
	answer, body, out := http2(ctx, conn, page, r.content, func(a *http.Response) bool {
		return a.StatusCode == http.StatusOK && strings.HasPrefix(a.Header.Get("Content-Type"), "application/grpc")
	})
	switch {
	case answer == nil || !out.ok:
		return out
	case answer.StatusCode != http.StatusOK:
		return wrong("status " + strconv.Itoa(answer.StatusCode))
	case !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/grpc"):
		return wrong("not gRPC")
	}
	return judgeHealth(answer, body)
}

func judgeHealth(answer *http.Response, body []byte) outcome {
	status := answer.Trailer.Get("Grpc-Status")
	if status == "" {
		status = answer.Header.Get("Grpc-Status") // an answer of trailers only
	}
	code, err := strconv.ParseUint(status, 10, 8)
	switch {
	case err != nil:
		return wrong("malformed gRPC answer")
	case codes.Code(code) != codes.OK:
		return wrong("gRPC status " + codes.Code(code).String())
	case len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-5):
		return wrong("malformed gRPC answer")
	}
	var health healthpb.HealthCheckResponse
	if proto.Unmarshal(body[5:], &health) != nil {
		return wrong("malformed gRPC answer")
	}
	if health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return wrong("health status " + health.GetStatus().String())
	}
	return outcome{ok: true}
}

package probe

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/divertdns/divert/health"
)

// TestGRPC tries the health service, and what is none (F23).
func TestGRPC(t *testing.T) {
	ca := newAuthority(t)
	states := grpchealth.NewServer()
	states.SetServingStatus("shop.v1.Cart", healthpb.HealthCheckResponse_SERVING)
	states.SetServingStatus("shop.v1.Pay", healthpb.HealthCheckResponse_NOT_SERVING)
	serve := func(o ...grpc.ServerOption) netip.AddrPort {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(o...)
		healthpb.RegisterHealthServer(server, states)
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Serve(listener) }()
		t.Cleanup(func() { server.Stop(); <-ended })
		return netip.MustParseAddrPort(listener.Addr().String())
	}
	bare := grpc.NewServer()
	plain, secure := serve(), serve(grpc.Creds(credentials.NewTLS(ca.issue(t, "shop.example.org", -time.Hour, time.Hour))))
	page := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Host {
		case "endless.example.org":
			w.Header().Set("Content-Type", "application/grpc")
			for piece := make([]byte, 16<<10); ; {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case "hangs.example.org":
			w.Header().Set("Content-Type", "application/grpc")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "away.example.org":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "bare.example.org":
			bare.ServeHTTP(w, r)
		default:
			_, _ = io.WriteString(w, "a page")
		}
	}))
	page.Config.Protocols = new(http.Protocols)
	page.Config.Protocols.SetUnencryptedHTTP2(true)
	page.Start()
	t.Cleanup(page.Close)
	other := netip.MustParseAddrPort(page.Listener.Addr().String())

	tests := []struct {
		name   string
		addr   netip.AddrPort
		grpc   GRPC
		reason string
		sign   health.Sign
	}{
		{"the server", plain, GRPC{Plaintext: true}, "", 0},
		{"a service", plain, GRPC{Plaintext: true, Service: "shop.v1.Cart"}, "", 0},
		{"over TLS", secure, GRPC{Service: "shop.v1.Cart"}, "", 0},
		{"not serving", plain, GRPC{Plaintext: true, Service: "shop.v1.Pay"}, "health status NOT_SERVING", health.SignWrong},
		{"not serving, over TLS", secure, GRPC{Service: "shop.v1.Pay"}, "health status NOT_SERVING", health.SignWrong},
		{"unknown service", plain, GRPC{Plaintext: true, Service: "a"}, "gRPC status NotFound", health.SignWrong},
		{"no health service", other, GRPC{Plaintext: true, Host: "bare.example.org"}, "gRPC status Unimplemented", health.SignWrong},
		{"another name", secure, GRPC{Secure: Secure{SNI: "pay.example.org"}}, "certificate is not for pay.example.org", health.SignWrong},
		{"TLS where none is spoken", plain, GRPC{}, "", health.SignRefused},
		{"no TLS where it is spoken", secure, GRPC{Plaintext: true}, "", health.SignRefused},
		{"a page", other, GRPC{Plaintext: true}, "not gRPC", health.SignWrong},
		{"redirect", other, GRPC{Plaintext: true, Host: "away.example.org"}, "status 307", health.SignWrong},
		{"10 GB", other, GRPC{Plaintext: true, Host: "endless.example.org"}, "malformed gRPC answer", health.SignWrong},
		{"hangs in the answer", other, GRPC{Plaintext: true, Host: "hangs.example.org"}, "timeout in the body", health.SignMute},
		{"hangs", newFake(t, silent).addr, GRPC{Plaintext: true}, "timeout waiting for the answer", health.SignMute},
		{"refuses", closedPort(t), GRPC{Plaintext: true}, "connection refused", health.SignRefused},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.grpc.Host == "" {
				tc.grpc.Host = "shop.example.org"
			}
			target := Target{GRPC: &tc.grpc}
			if strings.HasPrefix(tc.reason, "timeout") {
				target = brief(target)
			}
			got := once(t, Options{RootCAs: ca.pool()}, tc.addr, target)
			if strings.Contains(tc.name, "spoken") {
				if got.OK || got.Void || got.Reason == "" {
					t.Errorf("got %+v, want a failure", got)
				}
				return
			}
			want(t, got, tc.reason, tc.sign)
		})
	}
}

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func answerOf(kind, result string) string {
	return `{"status":"success","data":{"resultType":"` + kind + `","result":` + result + `}}`
}

// TestPrometheusAnswers: one number is an answer, all else is nothing known (S17).
func TestPrometheusAnswers(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   float64
		err    string
	}{
		{"vector", 200, answerOf("vector", `[{"metric":{"job":"a"},"value":[1.5,"0.25"]}]`), 0.25, ""},
		{"scalar", 200, answerOf("scalar", `[1.5,"3"]`), 3, ""},
		{"infinite", 200, answerOf("scalar", `[1.5,"+Inf"]`), math.Inf(1), ""},
		{"no data", 200, answerOf("vector", `[]`), 0, "no data"},
		{"not a number", 200, answerOf("scalar", `[1.5,"NaN"]`), 0, "no number"},
		{"two series", 200, answerOf("vector", `[{"value":[1,"1"]},{"value":[1,"2"]}]`), 0, "2 series"},
		{"range", 200, answerOf("matrix", `[]`), 0, "neither a scalar nor"},
		{"no samples", 200, answerOf("vector", `[{"histogram":[1,{}]}]`), 0, "not one of a Prometheus"},
		{"bad query", 400, `{"status":"error","errorType":"bad_data","error":"secret"}`, 0, "status 400 (bad_data)"},
		{"overloaded", 503, `<html>secret</html>`, 0, "status 503"},
		{"an error with 200", 200, `{"status":"error","errorType":"timeout","error":"secret"}`, 0, "(timeout)"},
		{"another's word", 500, `{"status":"error","errorType":"secret"}`, 0, "status 500"},
		{"not JSON", 200, `secret`, 0, "not one of a Prometheus"},
		{"too much (F23)", 200, strings.Repeat("x", maxNumberAnswer+1), 0, "more than 64 KiB"},
		{"redirect (F23)", 302, ``, 0, "status 302"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/prom/api/v1/query" || r.URL.Query().Get("query") != `up{a="b"}` || r.Header.Get("Authorization") != "Bearer token" {
					t.Errorf("asked %s %v", r.URL, r.Header)
				}
				if tc.status == 302 {
					w.Header().Set("Location", "/prom/api/v1/query")
				}
				w.WriteHeader(tc.status)
				_, _ = fmt.Fprint(w, tc.body)
			}))
			defer server.Close()
			p, err := New(Options{Allow: loopback()}).Prometheus(PrometheusOptions{URL: server.URL + "/prom", Query: `up{a="b"}`, Bearer: "token"})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			got, err := p.Ask(t.Context())
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, %v, want %v, %q", got, err, tc.want, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("C12: it shows what was answered: %v", err)
			}
		})
	}
}

// TestPrometheusC12: addresses that probes refuse are not asked, by whatever name, and
// nothing is sent there.
func TestPrometheusC12(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, url := range []string{server.URL, "http://localhost:" + port, "http://169.254.169.254", "http://[::ffff:127.0.0.1]:" + port} {
		p, err := New(Options{}).Prometheus(PrometheusOptions{URL: url, Query: "up"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := p.Ask(ctx); err == nil || !strings.Contains(err.Error(), "is not probed") {
			t.Errorf("%s: got %v, want a refusal", url, err)
		}
		cancel()
		p.Close()
	}
	for _, url := range []string{"", "ftp://192.0.2.1", "192.0.2.1", "http://"} {
		if _, err := New(Options{}).Prometheus(PrometheusOptions{URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}

// TestPrometheusTLS: a server that is not trusted is told nothing.
func TestPrometheusTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, answerOf("scalar", `[1,"7"]`))
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, tc := range []struct {
		tls  *tls.Config
		want float64
		err  string
	}{
		{&tls.Config{RootCAs: roots}, 7, ""},
		{nil, 0, "not one that is trusted"},
		{&tls.Config{RootCAs: roots, ServerName: "other.example.org"}, 0, "not one that is trusted"},
	} {
		p, err := New(Options{Allow: loopback()}).Prometheus(PrometheusOptions{URL: server.URL, Query: "up", TLS: tc.tls})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Ask(t.Context())
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("got %v, %v, want %v, %q", got, err, tc.want, tc.err)
		}
		p.Close()
	}
}

// FuzzNumber: whatever a server answers is a number or an error, and never NaN.
func FuzzNumber(f *testing.F) {
	f.Add(answerOf("vector", `[{"metric":{},"value":[1.5,"0.25"]}]`))
	f.Add(answerOf("scalar", `[1.5,"1e999"]`))
	f.Fuzz(func(t *testing.T, body string) {
		_ = errorType([]byte(body))
		if got, err := parseNumber([]byte(body)); math.IsNaN(got) || err != nil && got != 0 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

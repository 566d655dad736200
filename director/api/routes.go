package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// endpoint is what answers one method of a route, and what whoever asks must be allowed.
type endpoint struct {
	serve  http.HandlerFunc
	action access.Action
}

// route maps methods to what answers them. There are no wildcards in paths, so
// that a map is all the router needed, and every answer is JSON.
type route map[string]endpoint

func (s *Server) table(registry *prometheus.Registry) map[string]route {
	read := func(a access.Action, h http.HandlerFunc) route {
		return route{http.MethodGet: {h, a}, http.MethodHead: {h, a}}
	}
	post := func(a access.Action, h http.HandlerFunc) route { return route{http.MethodPost: {h, a}} }
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		ErrorLog:            logged{s.log},
	})
	emergency := read(access.See, s.emergencies)
	emergency[http.MethodPost] = endpoint{s.emergency, access.Word}
	return map[string]route{
		"/v1/status":        read(access.See, s.status),
		"/v1/explain":       read(access.See, s.explain),
		"/v1/spec":          read(access.See, s.spec),
		"/v1/audit":         read(access.See, s.audit),
		"/v1/audit/export":  read(access.See, s.auditExport),
		"/v1/audit/verify":  read(access.See, s.auditVerify),
		"/v1/events":        {http.MethodGet: {s.events, access.See}},
		probePath:           post(access.Probe, s.probe),
		emergencyPath:       emergency,
		"/v1/commands":      post(access.Command, s.command),
		"/v1/store/init":    post(access.Keep, s.storeInit),
		"/v1/store/recover": post(access.Keep, s.storeRecover),
		"/v1/store/migrate": post(access.Keep, s.storeMigrate),
		"/v1/store/check":   read(access.Check, s.storeCheck),
		"/v1/backup":        read(access.Backup, s.backup),
		"/v1/restore":       post(access.Keep, s.restore),
		tokensPath:          read(access.Tokens, s.tokens),
		secretsPath:         read(access.Secrets, s.secrets),
		openAPIPath:         read(access.Self, s.openAPI),
		whoamiPath:          read(access.Self, s.whoami),
		canPath:             read(access.Self, s.can),
		"/metrics":          read(access.See, metrics.ServeHTTP),
		"/healthz":          read(access.Open, s.healthz),
		"/readyz":           read(access.Open, s.readyz),
	}
}

// handler guards a listener, finds out who asks and whether he may, and counts.
func (s *Server) handler(via string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		route, known := s.routes[path]
		if !known {
			path = "other"
		}
		counted := &counter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			s.metrics.requests.WithLabelValues(via, path, strconv.Itoa(counted.code)).Inc()
		}()
		if r.ContentLength != 0 {
			// What a refused request still sends is read for a moment only.
			defer func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout)) }()
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'")
		if refusal := s.guard(via, r); refusal != nil {
			fail(counted, http.StatusForbidden, refusal.Error, refusal.Remedy)
			return
		}
		end, allowed := route[r.Method]
		var id access.Identity
		if end.action != access.Open { // which no route is that is not there
			var err error
			if id, err = s.authenticate(via, r); err != nil {
				s.refuse(counted, via, r, err)
				return
			}
		}
		if s.hurried(id) {
			s.metrics.denied.WithLabelValues(deniedLimited).Inc()
			h.Set("Retry-After", "1")
			fail(counted, http.StatusTooManyRequests, fmt.Sprintf("%s asks more than %d times a second", id.Who, asksPerSecond), "wait a moment; /v1/events tells each change at once")
			return
		}
		if refusal := s.readOnly(id, r); refusal != nil {
			fail(counted, http.StatusForbidden, refusal.Error, refusal.Remedy)
			return
		}
		switch {
		case !known:
			fail(counted, http.StatusNotFound, fmt.Sprintf("there is nothing at %q", r.URL.Path), "")
		case !allowed:
			methods := strings.Join(slices.Sorted(maps.Keys(route)), ", ")
			h.Set("Allow", methods)
			fail(counted, http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", path, methods, r.Method), "")
		default:
			if ok, why := access.Allow(id, end.action); !ok {
				s.metrics.denied.WithLabelValues(deniedForbidden).Inc()
				fail(counted, http.StatusForbidden, why, core.MayRemedy)
				return
			}
			end.serve(counted, r.WithContext(access.With(r.Context(), id)))
		}
	})
}

// howToSay is what whoever is not known is told to do.
const howToSay = "send a token (--token-file or DIVERT_TOKEN), or a client's certificate (--cert and --key) that the director's api.tls.clientCA has signed"

// guard refuses requests that a web page elsewhere made a browser send, by DNS rebinding
// (a foreign Host) or straight across (a foreign Origin).
func (s *Server) guard(via string, r *http.Request) *failure {
	if origin := r.Header.Get("Origin"); origin != "" && (via == viaSocket || !sameOrigin(via, origin, r.Host)) {
		return &failure{Error: fmt.Sprintf("requests from a page of %q are refused", origin)}
	}
	if via == viaSocket {
		return nil
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	switch {
	case via == viaTLS && !s.ownName(host):
		return &failure{
			Error:  fmt.Sprintf("requests for host %q are refused", r.Host),
			Remedy: "use a name or an address that the director's certificate is good for",
		}
	case via == viaTCP && !loopbackHost(host):
		return &failure{
			Error:  fmt.Sprintf("requests for host %q are refused", r.Host),
			Remedy: "use the loopback address itself, such as http://127.0.0.1:8053",
		}
	}
	return nil
}

// readOnly refuses changes of whoever asks on loopback without a credential.
func (s *Server) readOnly(id access.Identity, r *http.Request) *failure {
	if id.Method != access.Loopback {
		return nil
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if r.Method == http.MethodPost && r.URL.Path == probePath {
		return nil // it changes nothing; see probe
	}
	return &failure{
		Error:  "this listener is read only for whoever sends no token",
		Remedy: fmt.Sprintf("send changes over the unix socket: --server unix:%s on the director's machine, as the user that runs it", s.socket),
	}
}

func sameOrigin(via, origin, host string) bool {
	scheme := "http"
	if via == viaTLS {
		scheme = "https"
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == scheme && strings.EqualFold(u.Host, host)
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.director.Status())
}

func (s *Server) spec(w http.ResponseWriter, _ *http.Request) {
	raws := s.director.Spec()
	if raws == nil {
		raws = []spec.Raw{}
	}
	reply(w, http.StatusOK, raws)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "host", "client", "at")
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	host, client := strings.ToLower(strings.TrimSuffix(q["host"], ".")), q["client"]
	if host == "" || len(host) > 253 {
		fail(w, http.StatusBadRequest, "host must be a name of 1 to 253 octets", "ask for /v1/explain?host=shop.example.org&client=192.0.2.1")
		return
	}
	if client != "" && !address(client) {
		fail(w, http.StatusBadRequest, fmt.Sprintf("client %q is neither an IP address nor a prefix", client), "")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainWait)
	defer cancel()
	if q["at"] != "" {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(explainWait + slack))
	}
	e, err := s.explained(ctx, host, client, q["at"])
	if bad := (*badTime)(nil); errors.As(err, &bad) {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		fail(w, http.StatusServiceUnavailable, "too many ask of the past, one after another", "wait a moment and ask again")
		return
	}
	if err != nil {
		failed(w, http.StatusNotFound, err)
		return
	}
	for i := range e.Answers {
		if e.Answers[i].Steps == nil {
			e.Answers[i].Steps = []string{}
		}
	}
	reply(w, http.StatusOK, e)
}

// explainWait is how long it may take to decide again as at a time that is past: one asker
// after another, and a large fleet takes seconds.
const explainWait = time.Minute

// explained asks the director of now, or of an instant that is past.
func (s *Server) explained(ctx context.Context, host, client, at string) (Explanation, error) {
	if at == "" {
		return s.director.Explain(host, client)
	}
	t, err := ParseTime(at, time.Now())
	if err != nil {
		return Explanation{}, err
	}
	historian, ok := s.director.(Historian)
	if !ok {
		return Explanation{}, &core.Refusal{Reason: "this director keeps no history"}
	}
	return historian.ExplainAt(ctx, host, client, t)
}

func address(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.director.Ready(); err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error(), "")
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": "ready"})
}

// query reads parameters strictly: an unknown or doubled one is a mistake that
// its author should hear of.
func query(r *http.Request, names ...string) (map[string]string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query cannot be read: %w", err)
	}
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("unknown parameter %q, want any of %s", name, strings.Join(names, ", "))
		}
		if len(values[name]) > 1 {
			return nil, fmt.Errorf("parameter %q is given %d times", name, len(values[name]))
		}
		out[name] = values[name][0]
	}
	return out, nil
}

// failure is the body of every answer that is not a success.
type failure struct {
	Error  string `json:"error"`
	Remedy string `json:"remedy,omitempty"`
}

func fail(w http.ResponseWriter, code int, message, remedy string) {
	reply(w, code, failure{Error: message, Remedy: remedy})
}

// failed says why the director could not; a refusal brings its remedy.
func failed(w http.ResponseWriter, code int, err error) {
	if refusal := (*core.Refusal)(nil); errors.As(err, &refusal) {
		fail(w, code, refusal.Reason, refusal.Remedy)
		return
	}
	fail(w, code, err.Error(), "")
}

func reply(w http.ResponseWriter, code int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n')) // a client that left misses nothing
}

// counter remembers the status code.
type counter struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the code.
func (c *counter) WriteHeader(code int) {
	c.code = code
	c.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController find the connection.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

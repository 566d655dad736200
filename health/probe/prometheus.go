package probe

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// PrometheusOptions say whom to ask what.
type PrometheusOptions struct {
	URL    string // up to what comes before /api/v1/query
	Query  string
	Bearer string      // token, "" = none
	TLS    *tls.Config // nil: the system's roots
}

// Prometheus asks one server one question, again and again. It is not for concurrent
// use.
type Prometheus struct {
	target *url.URL
	bearer string
	http   *http.Client
}

const (
	mostAddresses   = 4 // of a server's name that are tried
	mostDialling    = 10 * time.Second
	maxNumberAnswer = 64 << 10
)

// Prometheus checks the options; nobody is asked yet. What is asked is under the
// scheduler's dial policy and from its source.
func (s *Scheduler) Prometheus(o PrometheusOptions) (*Prometheus, error) {
	target, err := url.Parse(o.URL)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, errors.New("the URL is not one of a Prometheus")
	}
	target = target.JoinPath("api", "v1", "query")
	target.RawQuery = url.Values{"query": {o.Query}}.Encode()
	transport := &http.Transport{
		// No proxy, of the environment neither, and nothing unpacked: what is read is bounded.
		DialContext: s.dialName, TLSClientConfig: o.TLS, DisableCompression: true,
		MaxResponseHeaderBytes: 16 << 10, MaxIdleConns: 1, TLSHandshakeTimeout: mostDialling, IdleConnTimeout: 90 * time.Second,
	}
	return &Prometheus{target: target, bearer: o.Bearer, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Ask gives the number. An error says why there is none: no answer, another's, no data
// or more than one series. Of what was answered nothing else is shown (C12).
func (p *Prometheus) Ask(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.target.String(), http.NoBody)
	if err != nil {
		return 0, errors.New("cannot be asked")
	}
	request.Header.Set("User-Agent", "divert-probe")
	if p.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+p.bearer)
	}
	response, err := p.http.Do(request)
	if err != nil {
		return 0, p.unasked(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxNumberAnswer+1))
	switch {
	case err != nil:
		return 0, p.unasked(err)
	case len(body) > maxNumberAnswer:
		return 0, errors.New("its answer has more than 64 KiB: make the query one number")
	case response.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("status %d%s", response.StatusCode, errorType(body))
	}
	return parseNumber(body)
}

// Close lets go of the idle connection.
func (p *Prometheus) Close() { p.http.CloseIdleConnections() }

// unasked says why no answer came, without the URL, and drops a connection that may
// have died.
func (p *Prometheus) unasked(err error) error {
	p.http.CloseIdleConnections()
	var resolve *net.DNSError
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.As(err, &resolve):
		return errors.New("its name cannot be resolved")
	case errors.As(err, &invalid):
		return errors.New("its certificate is not one that is trusted for this name")
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("timeout")
	}
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	return errors.New(dialFailure(err).reason)
}

// dialName is dial for a name, whose addresses are tried one after the other, each
// within its part of the time. Each is checked when it is dialled (C12).
func (s *Scheduler) dialName(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs = addrs[:min(len(addrs), mostAddresses)]
	deadline, ok := ctx.Deadline()
	if !ok { // the transport goes on dialling when nobody waits any more
		deadline = time.Now().Add(mostDialling)
	}
	for i, a := range addrs {
		var conn *net.TCPConn
		part, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addrs)-i))
		conn, err = s.dial(part, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// instant is an answer of /api/v1/query, as far as it is read.
type instant struct {
	Status    string `json:"status"`
	ErrorType string `json:"errorType"`
	Data      struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// sample is [time, "number"].
type sample [2]json.RawMessage

// parseNumber finds the one number in an answer.
func parseNumber(body []byte) (float64, error) {
	var a instant
	if err := json.Unmarshal(body, &a); err != nil || a.Status != "success" {
		return 0, errors.New("its answer is not one of a Prometheus" + errorType(body))
	}
	var value sample
	switch a.Data.ResultType {
	case "scalar":
		if err := json.Unmarshal(a.Data.Result, &value); err != nil {
			return 0, errors.New("its answer is not one of a Prometheus")
		}
	case "vector":
		var series []struct {
			Value sample `json:"value"`
		}
		if err := json.Unmarshal(a.Data.Result, &series); err != nil {
			return 0, errors.New("its answer is not one of a Prometheus")
		}
		switch len(series) {
		case 0:
			return 0, errors.New("no data")
		case 1:
			value = series[0].Value
		default:
			return 0, fmt.Errorf("%d series, where one number is wanted: aggregate them", len(series))
		}
	default:
		return 0, errors.New("its answer is neither a scalar nor an instant vector")
	}
	var text string
	if err := json.Unmarshal(value[1], &text); err != nil {
		return 0, errors.New("its answer is not one of a Prometheus")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, errors.New("no number (NaN)")
	}
	return f, nil
}

// errorType is what the server says is wrong, if it is a word that the API has.
func errorType(body []byte) string {
	var a instant
	_ = json.Unmarshal(body, &a)
	if slices.Contains([]string{"timeout", "canceled", "execution", "bad_data", "internal", "unavailable", "not_found"}, a.ErrorType) {
		return " (" + a.ErrorType + ")"
	}
	return ""
}

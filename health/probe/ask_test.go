package probe

import (
	"net/http"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestTargetsDiffer: a change of any option, of any kind, is a change of the target. One
// that Set took for no change would never reach the probes.
func TestTargetsDiffer(t *testing.T) {
	kinds := map[string]func() Target{
		"HTTP": func() Target { return Target{HTTP: &HTTP{}} }, "TCP": func() Target { return Target{TCP: &TCP{}} },
		"TLS": func() Target { return Target{TLS: &TLS{}} }, "GRPC": func() Target { return Target{GRPC: &GRPC{}} },
		"DNS": func() Target { return Target{DNS: &DNS{}} }, "ICMP": func() Target { return Target{ICMP: &ICMP{}} },
		"Exec": func() Target { return Target{Exec: &Exec{}} },
	}
	for name, target := range kinds {
		if !target().equal(target()) || target().equal(Target{}) || (Target{}).equal(target()) {
			t.Errorf("%s: equal targets differ, or one equals another kind", name)
		}
		for i := range reflect.ValueOf(target()).FieldByName(name).Elem().NumField() {
			changed := target()
			field := reflect.ValueOf(&changed).Elem().FieldByName(name).Elem().Field(i)
			option := reflect.TypeOf(target()).FieldByIndex(fieldOf(t, name)).Type.Elem().Field(i).Name
			if option == "Secure" {
				for j := range field.NumField() {
					changed := target()
					reflect.ValueOf(&changed).Elem().FieldByName(name).Elem().Field(i).Field(j).Set(another(t, field.Field(j).Type()))
					if changed.equal(target()) {
						t.Errorf("%s: another %s is no difference", name, field.Type().Field(j).Name)
					}
				}
				continue
			}
			field.Set(another(t, field.Type()))
			if changed.equal(target()) {
				t.Errorf("%s: another %s is no difference", name, option)
			}
		}
	}
}

func fieldOf(t *testing.T, name string) []int {
	t.Helper()
	f, ok := reflect.TypeFor[Target]().FieldByName(name)
	if !ok {
		t.Fatalf("no kind %s", name)
	}
	return f.Index
}

// another gives a value of a type that is not its zero.
func another(t *testing.T, typ reflect.Type) reflect.Value {
	t.Helper()
	v := reflect.New(typ).Elem()
	switch typ.Kind() {
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(time.Hour))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(typ, 1, 1))
	default: // netip.AddrPort
		return reflect.ValueOf(netip.MustParseAddrPort("192.0.2.1:80"))
	}
	return v
}

// TestRefusedRequests: what cannot be sent is void each time, and says why.
func TestRefusedRequests(t *testing.T) {
	subject := health.Subject{Kind: health.KindCheck, Addr: closedPort(t), Def: "0123456789abcdef"}
	s := New(Options{Allow: loopback()})
	for name, target := range map[string]Target{
		"version":           {HTTP: &HTTP{Scheme: "http", Version: "3", Addr: subject.Addr}},
		"header of framing": {HTTP: &HTTP{Scheme: "http", Headers: []Header{{"content-length", "3"}}, Addr: subject.Addr}},
		"host as a header":  {HTTP: &HTTP{Scheme: "http", Headers: []Header{{"Host", "a"}}, Addr: subject.Addr}},
		"line in a header":  {HTTP: &HTTP{Scheme: "http", Headers: []Header{{"A", "b\r\nc: d"}}, Addr: subject.Addr}},
		"line in a name":    {HTTP: &HTTP{Scheme: "http", Headers: []Header{{"A\r\nB", "c"}}, Addr: subject.Addr}},
		"expression":        {HTTP: &HTTP{Scheme: "http", BodyRegexp: "(", Addr: subject.Addr}},
		"of tcp":            {TCP: &TCP{Addr: subject.Addr, ExpectRegexp: "("}},
		"ca":                {TLS: &TLS{Secure: Secure{CA: "no certificate"}}},
		"transport":         {DNS: &DNS{Name: "a", Transport: "quic"}},
		"type":              {DNS: &DNS{Name: "a", Type: "NOTHING"}},
		"rcode":             {DNS: &DNS{Name: "a", Rcodes: []string{"OK"}}},
		"name":              {DNS: &DNS{Name: ""}},
		"program":           {Exec: &Exec{Command: "/bin/sh"}},
	} {
		target.Subject = subject
		if got := s.Now(t.Context(), target); !got.Void || got.Reason == "" || got.Reason == "probe without a port" {
			t.Errorf("%s: got %+v, want void and why", name, got)
		}
	}
	for name, target := range map[string]Target{"tls": {TLS: &TLS{}}, "grpc": {GRPC: &GRPC{}}, "dns": {DNS: &DNS{Name: "a"}}} {
		target.Subject = health.Subject{Kind: health.KindCheck, Addr: netip.AddrPortFrom(subject.Addr.Addr(), 0), Def: subject.Def}
		if got := s.Now(t.Context(), target); !got.Void || got.Reason != "probe without a port" {
			t.Errorf("%s: got %+v, want void for the port", name, got)
		}
	}
}

// FuzzDNSAnswer: whatever a DNS server answers, it is judged, in words of ours.
func FuzzDNSAnswer(f *testing.F) {
	s := New(Options{})
	var r request
	if err := r.question(DNS{Name: "www.example.org", Answers: []string{"192.0.2.1"}}, s); err != nil {
		f.Fatal(err)
	}
	f.Add(r.dns.query)
	f.Add(append([]byte("\x00\x00\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01"),
		"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"...))
	f.Fuzz(func(t *testing.T, packet []byte) {
		out := r.dns.judge(packet)
		if out.ok == (out.reason != "") || !out.ok && out.sign != health.SignWrong || len(out.reason) > 200 {
			t.Errorf("got %+v", out)
		}
	})
}

// FuzzHealthAnswer: whatever a gRPC server answers, it is judged, in words of ours.
func FuzzHealthAnswer(f *testing.F) {
	f.Add("0", []byte("\x00\x00\x00\x00\x02\x08\x01"))
	f.Add("0", []byte("\x00\x00\x00\x00\x02\x08\x02"))
	f.Add("5", []byte{})
	f.Add("", []byte("\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, status string, body []byte) {
		out := judgeHealth(&http.Response{Trailer: http.Header{"Grpc-Status": {status}}}, body)
		if out.ok == (out.reason != "") || !out.ok && out.sign != health.SignWrong || len(out.reason) > 200 {
			t.Errorf("got %+v", out)
		}
	})
}

package director_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listens is a place in the product that opens a door: what bounds who comes in by it
// (C3), and the tests that prove it, each "folder:Test".
type listens struct {
	limits string
	tests  []string
}

// listeners lists every such place, by file and call. A new one fails TestListenersLaw
// until it has its row here, and its tests.
func listeners() map[string]listens {
	dns := []string{"dnsserver:TestIdleConnections", "dnsserver:TestSlowLoris", "dnsserver:TestStreamFlood", "dnsserver:TestStreamLimits", "dnsserver:TestTLSLimits"}
	api := []string{"director/api:TestIdleConnections", "director/api:TestSlowLoris", "director/api:TestFloods", "director/api:TestHalfHandshakes", "director/api:TestConnectionCap", "director/api:TestHeaderLimit"}
	gossip := []string{"director/gossip:TestConnectionCap", "director/gossip:TestStrangersLeavePlaces", "director/gossip:TestStreamBounds", "director/gossip:TestJunkIsCounted", "director/gossip:TestInboxIsBounded"}
	etcd := []string{"election/etcd:TestConnectionCap", "election/etcd:TestServeMutualTLS", "election/etcd:TestIdleStrangers", "election/etcd:TestMembers", "election/etcd:TestListenRefused"}
	handover := []string{"director:TestReplaceTooSlow", "director:TestHandoverSocketIsClosed", "director:TestHandoverPassesTheStuck"}
	return map[string]listens{
		"dnsserver/bind.go ListenTCP": {
			"1,024 connections, 64 of one client, the longest idle goes; 3 s for PROXY header and TLS handshake, 10 s idle, 2 s for a query of 4,096 octets, 5 s for each write; 64 transfers, 16 of one client, 10 min", dns,
		},
		"dnsserver/bind.go ListenUDP": {
			"one worker a core, batches of a fixed size, datagrams cut to the buffer; replies limited by network", []string{"dnsserver:TestBatch", "dnsserver:TestPacketPathAllocatesNothing", "dnsserver:TestRateLimitUnderAFlood"},
		},
		"dnsserver/bind.go ListenPacket":      {"as its ListenUDP", []string{"dnsserver:TestManyClients"}},
		"dnsserver/sockets.go FileListener":   {"sockets of systemd or of the process before: as bind.go's", append([]string{"dnsserver:TestHandOn", "dnsserver:TestTLSHandOn"}, dns...)},
		"dnsserver/sockets.go FilePacketConn": {"as bind.go's", []string{"dnsserver:TestHandOn"}},
		"director/api/listen.go Listen": {
			"128 connections a listener, who waits longest without a whole request goes, a quarter for one address off loopback; 5 s for a header of 16 KiB or a handshake, 20 s for a body of 64 MiB and for a write, 30 s idle; 1 s for a body nobody asked for", api,
		},
		"director/api/secure.go Listen":      {"the same, by TLS 1.3", api},
		"director/api/server.go http.Server": {"the same", api},
		"director/gossip/transport.go ListenTCP": {
			"64 connections, 16 of one address, 32 of addresses where no director is known; 3 s to be read, 3 s to be written, 15 s in all; 2 MiB", gossip,
		},
		"director/gossip/transport.go ListenUDP": {"datagrams of at most 1,500 octets that begin with our label; a bounded inbox", gossip},
		"director/handover.go Listen": {
			"a unix socket of mode 0600 from its first instant; four connections at a time, a minute each, messages of 64 KiB", handover,
		},
		"election/etcd/listen.go Listen":        {"a look whether the port is free: closed at once, nothing is accepted", []string{"election/etcd:TestServePortTaken"}},
		"election/etcd/server.go StartEtcd":     {"a process of its own: 1,024 connections of clients, 10 s for a handshake, 1,024 calls each; of members 5 s without a word; a unix socket of mode 0600, loopback, or mutual TLS, which at the port for members is for their hosts", etcd},
		"health/probe/icmp.go ListenPacket":     {"a socket for one echo, which takes what is for it until the probe's timeout", []string{"health/probe:TestICMP"}},
		"cmd/divert/democontrol.go Listen":      {"the demo's own door, a unix socket in a folder of mode 0700: 16 connections, 5 s to be read", []string{"cmd/divert:TestDemoDoorIsBounded"}},
		"cmd/divert/democontrol.go http.Server": {"the same", []string{"cmd/divert:TestDemoDoorIsBounded"}},
		"chaos/local/cluster.go Listen":         {"the demo's made-up clusters, on loopback, for the length of a demo", nil},
		"chaos/local/cluster.go http.Server":    {"the same", nil},
	}
}

// tool tells what is no part of `divert`: generators, benchmarks, the lab.
func tool(path string) bool {
	for _, folder := range []string{"chaos/", "dnsserver/bench/", "dnsserver/conform/", "dnsserver/geo/internal/"} {
		if strings.HasPrefix(path, folder) && !strings.HasPrefix(path, "chaos/local/") {
			return true
		}
	}
	return false
}

// sources parses the product's files.
func sources(t *testing.T, with func(path string, file *ast.File)) {
	t.Helper()
	set := token.NewFileSet()
	for _, path := range tracked(t) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || tool(path) {
			continue
		}
		name := filepath.Join(root, path)
		if _, err := os.Stat(name); err != nil {
			continue // deleted and not committed
		}
		f, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		with(path, f)
	}
}

// proofs finds the test functions of the repository, as "folder:Test".
func proofs(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	set := token.NewFileSet()
	for _, path := range tracked(t) {
		if !strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, filepath.Join(root, path), nil, parser.SkipObjectResolution)
		if err != nil {
			continue // deleted and not committed
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				out[filepath.ToSlash(filepath.Dir(path))+":"+fn.Name.Name] = true
			}
		}
	}
	if len(out) < 500 {
		t.Fatalf("found %d functions in tests only", len(out))
	}
	return out
}

// TestListenersLaw (C3): every place that listens says what bounds it, and each bound
// has its test.
func TestListenersLaw(t *testing.T) {
	calls := strings.Fields("Listen ListenPacket ListenTCP ListenUDP ListenUnix ListenUnixgram ListenIP ListenMulticastUDP FileListener FilePacketConn " +
		"ListenAndServe ListenAndServeTLS StartEtcd NewServer")
	want, found := listeners(), map[string]bool{}
	note := func(place string) {
		found[place] = true
		if _, known := want[place]; !known {
			t.Errorf("%s opens a door: bound its connections, deadlines and octets, test that, and add its row to listeners()", place)
		}
	}
	sources(t, func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				call, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains(calls, call.Sel.Name) {
					return true
				}
				if of, ok := call.X.(*ast.Ident); call.Sel.Name == "NewServer" && (!ok || of.Name != "grpc" && of.Name != "httptest") {
					return true // of a package of ours, which opens its door elsewhere
				}
				note(path + " " + call.Sel.Name)
			case *ast.CompositeLit:
				kind, ok := n.Type.(*ast.SelectorExpr)
				if !ok || kind.Sel.Name != "Server" {
					return true
				}
				of, ok := kind.X.(*ast.Ident)
				if !ok || of.Name != "http" && of.Name != "dns" {
					return true
				}
				note(path + " " + of.Name + ".Server")
				for field := range strings.FieldsSeq("ReadHeaderTimeout ReadTimeout WriteTimeout IdleTimeout MaxHeaderBytes") {
					if !slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
						pair, ok := e.(*ast.KeyValueExpr)
						if !ok {
							return false
						}
						key, ok := pair.Key.(*ast.Ident)
						return ok && key.Name == field
					}) {
						t.Errorf("%s: the %s.Server has no %s", path, of.Name, field)
					}
				}
			}
			return true
		})
	})
	known := proofs(t)
	for place, row := range want {
		if !found[place] {
			t.Errorf("%s does not listen any more: take its row out of listeners()", place)
		}
		if row.limits == "" || len(row.tests) == 0 && !strings.HasPrefix(place, "chaos/") {
			t.Errorf("%s: no limits or no test", place)
		}
		for _, test := range row.tests {
			if !known[test] {
				t.Errorf("%s: there is no test %s", place, test)
			}
		}
	}
}

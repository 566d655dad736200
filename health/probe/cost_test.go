package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/divertdns/divert/health"
)

// TestMain lets the benchmark's targets run in a process of their own, so that
// what they cost is not counted.
func TestMain(m *testing.M) {
	if os.Getenv("DIVERT_PROBE_TARGET") != "" {
		os.Exit(serveTarget())
	}
	os.Exit(m.Run())
}

func serveTarget() int {
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		return 1
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
		os.Exit(0)
	}()
	_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	return 0
}

func startTarget(tb testing.TB) (port uint16) {
	tb.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "DIVERT_PROBE_TARGET=1")
	stdin, err := command.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = stdin.Close()
		_ = command.Wait()
	})
	if _, err := fmt.Fscan(bufio.NewReader(stdout), &port); err != nil {
		tb.Fatal(err)
	}
	return port
}

// BenchmarkCost runs the idle load for five seconds, whatever -benchtime
// says: 30 addresses with a fast signal each 100 ms and ten HTTP probes a second.
func BenchmarkCost(b *testing.B) {
	for _, bc := range []struct {
		name    string
		sockets bool
		deep    int
	}{{"sockets", true, 10}, {"goroutines", false, 10}, {"sockets, fast only", true, 0}} {
		if bc.sockets && !haveSockets {
			continue
		}
		b.Run(bc.name, func(b *testing.B) {
			port := startTarget(b)
			var targets []Target
			for a := range 30 {
				addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(a)}), port)
				targets = append(targets, Target{Subject: health.Subject{Kind: health.KindSignal, Addr: addr}, Fast: true})
				for d := range bc.deep {
					targets = append(targets, Target{
						Subject: health.Subject{Kind: health.KindCheck, Addr: addr, Def: fmt.Sprintf("%016x", d)},
						HTTP:    &HTTP{Scheme: "http", Addr: addr, Path: "/healthz", Host: "shop.example.org", Body: "ok"},
					})
				}
			}
			var ok, bad atomic.Int64
			s := New(Options{Allow: loopback(), Report: func(r health.Report) {
				switch {
				case r.Subject.Kind == health.KindSoft || r.Late:
				case r.OK:
					ok.Add(1)
				default:
					bad.Add(1)
				}
			}})
			s.sockets = bc.sockets
			s.Set(targets)
			ctx, cancel := context.WithTimeout(b.Context(), 6*time.Second)
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			time.Sleep(time.Second)
			start, before, n := time.Now(), processor(), ok.Load()
			<-ctx.Done()
			took, used, n := time.Since(start), processor()-before, ok.Load()-n
			<-ended
			b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
			b.ReportMetric(float64(n)/took.Seconds(), "probes/s")
			b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-µs/probe")
			b.ReportMetric(float64(bad.Load()), "failed")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMany is 30,000 HTTP checks every 10 s over 300 addresses with a fast signal
// each, for 30 seconds after all have been probed once: what one director is to do with
// at most 30 % of a core and 250 MB.
func BenchmarkMany(b *testing.B) {
	port := startTarget(b)
	var targets []Target
	for i := range 30_000 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(1 + i%300/100), byte(1 + i%100)}), port)
		if i < 300 {
			targets = append(targets, Target{Subject: health.Subject{Kind: health.KindSignal, Addr: addr}, Fast: true})
		}
		targets = append(targets, Target{
			Subject: health.Subject{Kind: health.KindCheck, Addr: addr, Def: fmt.Sprintf("%016x", i/300)}, Interval: 10 * time.Second,
			HTTP: &HTTP{Scheme: "http", Addr: addr, Path: "/healthz", Host: fmt.Sprintf("shop%d.example.org", i/300), Body: "ok"},
		})
	}
	var ok, bad, late atomic.Int64
	s := New(Options{Allow: loopback(), Report: func(r health.Report) {
		switch {
		case r.Subject.Kind == health.KindSoft:
		case r.Void: // this machine was busy
		case r.Late:
			late.Add(1)
		case r.OK:
			ok.Add(1)
		default:
			bad.Add(1)
		}
	}})
	s.Set(targets)
	ctx, cancel := context.WithTimeout(b.Context(), 42*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	time.Sleep(12 * time.Second)
	start, before, n := time.Now(), processor(), ok.Load()
	<-ctx.Done()
	took, used, n := time.Since(start), processor()-before, ok.Load()-n
	memory := resident()
	<-ended
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(float64(n)/took.Seconds(), "probes/s")
	b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-µs/probe")
	b.ReportMetric(memory, "MB")
	b.ReportMetric(float64(bad.Load()), "failed")
	b.ReportMetric(float64(late.Load()), "late")
	b.ReportMetric(0, "ns/op")
}

// resident gives the memory that this process holds, in MB; 0 where the system does not
// say.
func resident() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes := 0.0
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes / 1024
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func processor() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

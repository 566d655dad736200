package zone

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/dnsserver/answer"
)

// largeZone is the text of a zone of n addresses.
func largeZone(n int) string {
	var b strings.Builder
	b.WriteString("@ SOA ns1 h 1 3600 600 86400 300\n@ NS ns1\nns1 A 192.0.2.53\n")
	for i := range n {
		b.WriteString("host" + strconv.Itoa(i) + " A 192.0." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255) + "\n")
	}
	return b.String()
}

// BenchmarkLarge reads a zone of a million records and makes a table of it.
func BenchmarkLarge(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			text := largeZone(n)
			var parse, compile time.Duration
			var memory uint64
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				start := time.Now()
				records, problems := Parse(Source{Origin: "example.org.", Text: text})
				parse = time.Since(start)
				if Failed(problems) {
					b.Fatal(problems[0])
				}
				start = time.Now()
				static, err := answer.Pack("example.org.", records.List)
				if err != nil {
					b.Fatal(err)
				}
				table, err := answer.Compile(answer.Options{Zones: []answer.Zone{{Origin: "example.org.", Static: static}}})
				compile = time.Since(start)
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				memory = after.HeapAlloc - before.HeapAlloc
				runtime.KeepAlive(table)
			}
			b.ReportMetric(parse.Seconds(), "parse-s")
			b.ReportMetric(compile.Seconds(), "compile-s")
			b.ReportMetric(float64(memory)/(1<<20), "MiB")
		})
	}
}

// Command gen derives dnsserver/geo's table of ranges from the data that
// github.com/phuslu/iploc embeds. It is a module of its own, so that the
// product does not depend on iploc; `go generate ./dnsserver/geo` runs it.
package main

import (
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phuslu/iploc"
)

// unknown is what iploc calls a range that it does not place.
const unknown = "ZZ"

// span starts at key and reaches to the next one's key. The key is the whole of
// an IPv4 address and the first 64 bits of an IPv6 address.
type span struct {
	key     uint64
	country string
	cut     bool // never merged with the one before it
}

func main() {
	out := flag.String("o", "ranges.bin", "file to write")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	dir, err := moduleDir("github.com/phuslu/iploc")
	if err != nil {
		return err
	}
	v4, err := readV4(dir)
	if err != nil {
		return err
	}
	v6, err := readV6(dir)
	if err != nil {
		return err
	}
	v4 = merge(cuts(v4, v4Blocks(), 32))
	v6 = merge(cuts(v6, v6Blocks(), 64))
	if err := verify(v4, v6); err != nil {
		return err
	}
	data, err := encode(v4, v6)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d IPv4 and %d IPv6 ranges, %d octets\n", filepath.Base(out), len(v4), len(v6), len(data))
	return os.WriteFile(out, data, 0o644)
}

func moduleDir(path string) (string, error) {
	raw, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		return "", fmt.Errorf("finding module %s: %w", path, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func readV4(dir string) ([]span, error) {
	starts, err := os.ReadFile(filepath.Join(dir, "ipv4le.bin"))
	if err != nil {
		return nil, err
	}
	names, err := os.ReadFile(filepath.Join(dir, "ipv4.txt"))
	if err != nil {
		return nil, err
	}
	if len(starts)/4 != len(names)/2 {
		return nil, errors.New("the IPv4 starts and names differ in number")
	}
	spans := make([]span, 0, len(names)/2)
	for i := range len(names) / 2 {
		spans = append(spans, span{
			key:     uint64(binary.LittleEndian.Uint32(starts[4*i:])),
			country: string(names[2*i : 2*i+2]),
		})
	}
	return spans, nil
}

// readV6 rounds to whole /64s: one that several countries share goes to the one
// that holds most of it. No resolver sends more of its clients' addresses.
func readV6(dir string) ([]span, error) {
	packed, err := os.ReadFile(filepath.Join(dir, "ipv6le.gz"))
	if err != nil {
		return nil, err
	}
	unpacker, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	starts, err := io.ReadAll(unpacker)
	if err != nil {
		return nil, err
	}
	names, err := os.ReadFile(filepath.Join(dir, "ipv6.txt"))
	if err != nil {
		return nil, err
	}
	n := len(names) / 2
	if len(starts)/16 != n {
		return nil, errors.New("the IPv6 starts and names differ in number")
	}
	at := func(i int) (hi, lo uint64, country string) {
		return binary.LittleEndian.Uint64(starts[16*i:]), binary.LittleEndian.Uint64(starts[16*i+8:]), string(names[2*i : 2*i+2])
	}
	var spans []span
	before := unknown
	for i := 0; i < n; {
		hi, lo, _ := at(i)
		held := map[string]uint64{}
		held[before] += lo
		whole := lo == 0
		j := i
		for ; j < n; j++ {
			h, l, country := at(j)
			if h != hi {
				break
			}
			end := uint64(0) // 2^64
			if j+1 < n {
				if h2, l2, _ := at(j + 1); h2 == hi {
					end, whole = l2, false
				}
			}
			held[country] += end - l
			before = country
		}
		if whole {
			spans = append(spans, span{key: hi, country: before})
		} else {
			spans = append(spans, span{key: hi, country: largest(held)})
			if hi+1 != 0 {
				spans = append(spans, span{key: hi + 1, country: before})
			}
		}
		i = j
	}
	// A span that begins where a shared /64 ended comes twice: the later one holds.
	return slices.DeleteFunc(spans, func() func(span) bool {
		i := -1
		return func(s span) bool {
			i++
			return i+1 < len(spans) && spans[i+1].key == s.key
		}
	}()), nil
}

func largest(held map[string]uint64) string {
	names := make([]string, 0, len(held))
	for name := range held {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(held[b], held[a]), strings.Compare(a, b))
	})
	return names[0]
}

// v4Blocks are blocks of private use: a scope never reaches across their edges.
func v4Blocks() []netip.Prefix {
	return prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
}

// v6Blocks are those of private use and those that carry an IPv4 address, which
// is what is looked up then.
func v6Blocks() []netip.Prefix {
	return prefixes("::/64", "64:ff9b::/64", "2001::/32", "2002::/16", "fc00::/7", "fe80::/10")
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func key(addr netip.Addr) uint64 {
	if addr.Is4() {
		b := addr.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:])
}

// cuts makes each block a span of its own, of no country.
func cuts(spans []span, blocks []netip.Prefix, width int) []span {
	for _, block := range blocks {
		first := key(block.Addr())
		size := uint64(1) << (width - block.Bits())
		next := first + size // may wrap to 0 at the very end
		find := func(k uint64) int {
			i, ok := slices.BinarySearchFunc(spans, k, func(s span, k uint64) int { return cmp.Compare(s.key, k) })
			if !ok {
				i--
			}
			return i
		}
		var tail []span
		if next != 0 && next < 1<<(width-1)<<1-1 {
			i := find(next)
			tail = append(tail, span{key: next, country: spans[i].country, cut: true})
			for _, s := range spans[i+1:] {
				tail = append(tail, s)
			}
			if spans[i].key == next {
				tail[0].cut = true
			}
		}
		head := spans[:find(first)+1]
		if head[len(head)-1].key == first {
			head = head[:len(head)-1]
		}
		spans = append(append(slices.Clone(head), span{key: first, country: unknown, cut: true}), tail...)
	}
	return spans
}

func merge(spans []span) []span {
	var out []span
	for _, s := range spans {
		if len(out) > 0 && !s.cut && out[len(out)-1].country == s.country {
			continue
		}
		out = append(out, s)
	}
	return out
}

// verify compares with iploc's own answers.
func verify(v4, v6 []span) error {
	if v4[0].key != 0 || v6[0].key != 0 {
		return errors.New("a table does not start at the first address")
	}
	find := func(spans []span, k uint64) string {
		i, ok := slices.BinarySearchFunc(spans, k, func(s span, k uint64) int { return cmp.Compare(s.key, k) })
		if !ok {
			i--
		}
		return spans[i].country
	}
	random := rand.New(rand.NewPCG(1, 2))
	differ := 0
	const tries = 200_000
	for range tries {
		var b4 [4]byte
		binary.BigEndian.PutUint32(b4[:], random.Uint32())
		addr := netip.AddrFrom4(b4)
		if got, want := find(v4, key(addr)), iploc.IPCountry(addr); got != want {
			return fmt.Errorf("%s: %s, but iploc says %s", addr, got, want)
		}
		var b6 [16]byte
		binary.BigEndian.PutUint64(b6[:], v6[random.IntN(len(v6))].key+random.Uint64()>>(16+random.IntN(48)))
		binary.BigEndian.PutUint64(b6[8:], random.Uint64())
		addr = netip.AddrFrom16(b6)
		if slices.ContainsFunc(v6Blocks(), func(p netip.Prefix) bool { return p.Contains(addr) }) {
			continue
		}
		if find(v6, key(addr)) != iploc.IPCountry(addr) {
			differ++
		}
	}
	if differ > tries/100 {
		return fmt.Errorf("%d of %d IPv6 addresses differ from iploc", differ, tries)
	}
	return nil
}

// encode writes what geo's decode reads: see geo/table.go.
func encode(v4, v6 []span) ([]byte, error) {
	index := map[string]byte{}
	var names []string
	for _, s := range slices.Concat(v4, v6) {
		if _, ok := index[s.country]; !ok && s.country != unknown {
			index[s.country] = 0
			names = append(names, s.country)
		}
	}
	slices.Sort(names)
	if len(names) > 255 {
		return nil, errors.New("more than 255 countries")
	}
	index[unknown] = 0
	for i, name := range names {
		index[name] = byte(i + 1)
	}
	var body []byte
	body = append(body, byte(len(iploc.Version)))
	body = append(body, iploc.Version...)
	body = append(body, byte(len(names)))
	body = append(body, strings.Join(names, "")...)
	for _, family := range []struct {
		spans []span
		drop  int
	}{{v4, 8}, {v6, 0}} {
		body = binary.AppendUvarint(body, uint64(len(family.spans)))
		last := uint64(0)
		for _, s := range family.spans {
			if s.key>>family.drop<<family.drop != s.key {
				return nil, fmt.Errorf("start %x is finer than the format", s.key)
			}
			body = binary.AppendUvarint(body, (s.key-last)>>family.drop)
			last = s.key
		}
		for _, s := range family.spans {
			body = append(body, index[s.country])
		}
	}
	var out bytes.Buffer
	packer, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := packer.Write(body); err != nil {
		return nil, err
	}
	if err := packer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

package director

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/zone"
)

// zoneTexts reads the texts of zones, large ones once: what a spec was checked by is
// what its table is made of, and a change of a service reads no zone. A million records
// take seconds. A nil one reads all anew.
type zoneTexts struct {
	reading sync.Mutex // one large text at a time: two would take twice the memory

	mu   sync.Mutex // not held while anything is read
	kept []keptText // the last used first; by remember
}

// keptText is a text that was read, by the sum of all that it was read from.
type keptText struct {
	sum  [sha256.Size]byte
	size int
	zoneText
}

// zoneText is what a zone's text comes to. The serial is not of it: that is the plan's.
type zoneText struct {
	problems []zone.Problem
	hinted   []string
	static   *answer.Static
	err      error // why there is none
}

const (
	largeText = 64 << 10 // octets; smaller ones are read in less time than a page is drawn
	keptTexts = 64 << 20 // octets that the texts may have had whose records are kept
	largeDoc  = 4 << 20  // octets from which on the garbage of reading is worth a collection of its own
)

func (t *zoneTexts) read(z *spec.Zone) zoneText {
	if t == nil || len(z.Records) < largeText {
		return readText(z)
	}
	sum := sumOf(z)
	if found, ok := t.recall(sum); ok {
		return found
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	if found, ok := t.recall(sum); ok { // it was being read
		return found
	}
	if len(z.Records) >= largeDoc {
		// Of how the text came here, and then of how it was read, there are a hundred
		// million octets: they go before as many come.
		runtime.GC()
		defer runtime.GC()
	}
	text := readText(z)
	if text.static != nil {
		t.remember(keptText{sum: sum, size: len(z.Records), zoneText: text})
	}
	return text
}

func readText(z *spec.Zone) zoneText {
	records, problems := zone.Parse(zoneSource(z))
	out := zoneText{problems: problems, hinted: records.Hinted}
	out.static, out.err = answer.Pack(z.Name+".", records.List)
	if out.err == nil {
		dnsserver.LargePages(out.static)
	}
	return out
}

// sumOf is of all that a text is read from.
func sumOf(z *spec.Zone) (sum [sha256.Size]byte) {
	source := zoneSource(z)
	text := source.Text
	source.Text = ""
	h := sha256.New()
	// Strings and numbers always encode.
	_ = json.NewEncoder(h).Encode(source)
	for text != "" { // without a copy of it
		n := min(len(text), 4096)
		h.Write([]byte(text[:n]))
		text = text[n:]
	}
	h.Sum(sum[:0])
	return sum
}

func (t *zoneTexts) recall(sum [sha256.Size]byte) (zoneText, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.kept, func(k keptText) bool { return k.sum == sum })
	if i < 0 {
		return zoneText{}, false
	}
	found := t.kept[i]
	copy(t.kept[1:i+1], t.kept[:i])
	t.kept[0] = found
	return found.zoneText, true
}

func (t *zoneTexts) remember(k keptText) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = slices.Insert(t.kept, 0, k)
	size := 0
	for i := range t.kept {
		if size += t.kept[i].size; size > keptTexts && i > 0 {
			clear(t.kept[i:])
			t.kept = t.kept[:i]
			return
		}
	}
}

// settle keeps what a plan in force is made of, and no more: what was before it, or was
// tried and not taken, is not needed again soon.
func (t *zoneTexts) settle(zones []answer.Zone) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = slices.DeleteFunc(t.kept, func(k keptText) bool {
		return !slices.ContainsFunc(zones, func(z answer.Zone) bool { return z.Static == k.static })
	})
}

// check holds a zone's static records against the rules of DNS: what the spec package
// cannot, since it knows no record types.
func (t *zoneTexts) check(z *spec.Zone) []spec.Problem {
	text := t.read(z)
	out := make([]spec.Problem, 0, len(text.problems))
	for _, p := range text.problems {
		out = append(out, spec.Problem{Line: p.Line, Message: p.Message, Warning: p.Warning})
	}
	if zone.Failed(text.problems) {
		return out
	}
	for _, e := range each(text.err) {
		out = append(out, spec.Problem{Message: e.Error()})
	}
	if text.err != nil {
		return out
	}
	return append(out, clashes(z, text)...)
}

// static gives the zones of a spec without their steered names, each with its
// serial (S13). It serves all that it can read: doubts
// are what check would refuse here and now, and whoever committed it did not.
func (t *zoneTexts) static(set *spec.Set, serial func(zone string) uint32) (out []answer.Zone, doubts []error, err error) {
	for _, z := range set.Zones {
		text := t.read(z)
		for _, problem := range text.problems {
			if !problem.Warning {
				doubts = append(doubts, fmt.Errorf("zone %s: %s", z.Name, problem))
			}
		}
		if text.err != nil {
			return nil, nil, fmt.Errorf("zone %s: %w", z.Name, errors.Join(append(doubts, text.err)...))
		}
		out = append(out, answer.Zone{Origin: z.Name + ".", Static: text.static, Serial: serial(z.Name)})
	}
	return out, doubts, nil
}

// giveBack returns to the system what it took to read so many octets. A large
// document takes many times its size for some seconds, seldom; Go would keep that for
// minutes, and more of it with each change.
func giveBack(octets int) {
	if octets >= largeDoc {
		debug.FreeOSMemory()
	}
}

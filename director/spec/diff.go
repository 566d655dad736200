package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Diff lists what differs between two specs, field by field: by kind and name,
// then in order of the fields' names and items. What a zone's records differ in
// is listed line by line, as far as a person reads: a zone may have a million.
func Diff(before, after []Raw) []Change {
	type pair struct{ old, new *Raw }
	pairs := map[string]*pair{}
	at := func(r *Raw) *pair {
		id := r.Kind + "/" + r.Name
		if pairs[id] == nil {
			pairs[id] = &pair{}
		}
		return pairs[id]
	}
	for i := range before {
		at(&before[i]).old = &before[i]
	}
	for i := range after {
		at(&after[i]).new = &after[i]
	}
	list := slices.Collect(maps.Values(pairs))
	either := func(p *pair) *Raw {
		if p.new != nil {
			return p.new
		}
		return p.old
	}
	slices.SortFunc(list, func(a, b *pair) int {
		x, y := either(a), either(b)
		return compareIDs(x.Kind, x.Name, y.Kind, y.Name)
	})
	var out []Change
	for _, p := range list {
		d := differ{kind: either(p).Kind, name: either(p).Name}
		switch {
		case p.old == nil:
			d.add("", "", shownJSON(p.new.JSON))
		case p.new == nil:
			d.add("", shownJSON(p.old.JSON), "")
		case bytes.Equal(p.old.JSON, p.new.JSON):
		default:
			x, errX := parseJSON(p.old.JSON)
			y, errY := parseJSON(p.new.JSON)
			if errX == nil && errY == nil {
				d.values("", x, y)
			} else if string(p.old.JSON) != string(p.new.JSON) {
				d.add("", shownJSON(p.old.JSON), shownJSON(p.new.JSON))
			}
		}
		out = append(out, d.changes...)
	}
	return out
}

type differ struct {
	kind, name string
	changes    []Change
}

func (d *differ) add(path, before, after string) {
	d.changes = append(d.changes, Change{Kind: d.kind, Name: d.name, Path: path, Old: before, New: after})
}

// Bounds of what a Change shows.
const (
	maxShown = 64 << 10 // octets of one value
	maxLines = 1000     // of a zone that differ, on either side
)

// shownJSON is JSON, or how much of it there is.
func shownJSON(text json.RawMessage) string {
	if len(text) > maxShown {
		return fmt.Sprintf(`"(%d octets)"`, len(text))
	}
	return string(text)
}

// json is the value as JSON, "" for none.
func (v *value) json() string {
	if v == nil {
		return ""
	}
	return shownJSON(v.canonical())
}

// equal tells whether two values are the same JSON.
func (v *value) equal(o *value) bool {
	if v == nil || o == nil {
		return v == o
	}
	if v.kind != o.kind || v.text != o.text || len(v.list) != len(o.list) || len(v.entries) != len(o.entries) {
		return false
	}
	for i := range v.list {
		if !v.list[i].equal(o.list[i]) {
			return false
		}
	}
	for _, e := range v.entries {
		if other := o.get(e.key); other == nil || !e.value.equal(other) {
			return false
		}
	}
	return true
}

func (d *differ) values(path string, x, y *value) {
	switch {
	case x.equal(y):
	case x == nil || y == nil || x.kind != y.kind:
		d.add(path, x.json(), y.json())
	case x.kind == kindMap:
		keys := map[string]bool{}
		for _, e := range slices.Concat(x.entries, y.entries) {
			keys[e.key] = true
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			d.values(child(path, key), x.get(key), y.get(key))
		}
	case x.kind == kindList:
		d.lists(path, x.list, y.list)
	case d.kind == KindZone && path == "spec.records":
		d.lines(path, x.text, y.text)
	default:
		d.add(path, x.json(), y.json())
	}
}

// lists pairs items by what names them (an endpoint's cluster, a director's
// name), so that one more in front is one change; else by place.
func (d *differ) lists(path string, x, y []*value) {
	kx, ky := identities(x), identities(y)
	if kx == nil || ky == nil || !sameOrder(kx, ky) {
		for i := range max(len(x), len(y)) {
			d.values(item(path, i), at(x, i), at(y, i))
		}
		return
	}
	for i, key := range kx {
		if !slices.Contains(ky, key) {
			d.add(item(path, i), x[i].json(), "")
		}
	}
	for j, key := range ky {
		if i := slices.Index(kx, key); i >= 0 {
			d.values(item(path, j), x[i], y[j])
		} else {
			d.add(item(path, j), "", y[j].json())
		}
	}
}

func at(list []*value, i int) *value {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// identities are the names of a list's items, nil where they have none of their
// own.
func identities(list []*value) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		var name string
		switch {
		case v.kind == kindString:
			name = v.text
		case v.get("cluster").string() != "" && v.get("prefix") == nil:
			name = v.get("cluster").text
		case v.get("name").string() != "":
			name = v.get("name").text
		case v.get("prefix").string() != "":
			name = v.get("prefix").text
		}
		if name == "" || slices.Contains(out, name) {
			return nil
		}
		out = append(out, name)
	}
	return out
}

// sameOrder reports whether what both lists have stands in the same order.
func sameOrder(x, y []string) bool {
	common := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
	}
	both := common(x, y)
	return len(both) > 0 && slices.Equal(both, common(y, x))
}

// lines lists the lines that only one text has; the texts themselves where they
// differ in order alone.
func (d *differ) lines(path, x, y string) {
	whole := [2]string{x, y}
	x, y = unlike(x, y)
	count := map[string]int{}
	for line := range strings.Lines(x) {
		count[strings.TrimRight(line, "\r\n")]++
	}
	for line := range strings.Lines(y) {
		count[strings.TrimRight(line, "\r\n")]--
	}
	gone := only(x, count, 1)
	come := only(y, count, -1)
	for _, line := range gone {
		d.add(path, line, "")
	}
	for _, line := range come {
		d.add(path, "", line)
	}
	if len(gone)+len(come) == 0 {
		d.add(path, (&value{kind: kindString, text: whole[0]}).json(), (&value{kind: kindString, text: whole[1]}).json())
	}
}

// only lists the lines of a text that are counted on its side, as JSON.
func only(text string, count map[string]int, sign int) (out []string) {
	more := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case count[line]*sign <= 0:
			continue
		case len(out) < maxLines:
			out = append(out, (&value{kind: kindString, text: line}).json())
		default:
			more++
		}
		count[line] -= sign
	}
	if more > 0 {
		out = append(out, fmt.Sprintf(`"(%d more lines)"`, more))
	}
	return out
}

// unlike leaves out the lines that two texts begin and end with alike, which are most
// of a large zone.
func unlike(x, y string) (string, string) {
	n, start := 0, 0
	for n < min(len(x), len(y)) && x[n] == y[n] {
		if n++; x[n-1] == '\n' {
			start = n
		}
	}
	x, y = x[start:], y[start:]
	n, end := 0, 0
	for n < min(len(x), len(y)) && x[len(x)-1-n] == y[len(y)-1-n] {
		if x[len(x)-1-n] == '\n' {
			end = n // what follows this line's end
		}
		n++
	}
	return x[:len(x)-end], y[:len(y)-end]
}

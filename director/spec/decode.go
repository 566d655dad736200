package spec

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder reads one object and collects everything that is wrong with it.
type decoder struct {
	file     string
	object   string // "GlobalService/shop"; "" for settings
	strict   bool   // what people write; else unknown keys and nulls pass
	problems []Problem
}

// cursor is a place in the object.
type cursor struct {
	d    *decoder
	v    *value
	path string
}

// fields says what each key of a mapping means. A nil one is for a later version
// to understand: it is refused by name, from stored objects too, since to ignore
// it would be to do something else than was asked for.
type fields map[string]func(cursor)

func (c cursor) fail(message, remedy string) {
	c.failAt(c.v.line, message, remedy)
}

func (c cursor) failAt(line int, message, remedy string) {
	if len(c.d.problems) > maxProblems {
		return // nobody reads more, and each costs memory
	}
	c.d.problems = append(c.d.problems, Problem{
		File: c.d.file, Line: line, Path: join(c.d.object, c.path), Message: message, Remedy: remedy,
	})
}

func join(object, path string) string {
	if object == "" || path == "" {
		return object + path
	}
	return object + " " + path
}

// object reads a mapping. It reports whether c is one.
func (c cursor) object(known fields, required ...string) bool {
	if !c.is(kindMap, "a mapping of keys to values") {
		return false
	}
	for _, e := range c.v.entries {
		f, found := known[e.key]
		if !found {
			if c.d.strict {
				c.unknown(e, known)
			}
			continue
		}
		at := cursor{c.d, e.value, child(c.path, e.key)}
		if e.value.kind == kindNull {
			if c.d.strict {
				at.failAt(e.line, "has no value", "give it one, or leave the key out")
			}
			continue
		}
		switch {
		case e.value.kind == kindBroken:
		case f == nil:
			at.failAt(e.line, "is not yet supported", "leave it out")
		default:
			f(at)
		}
	}
	for _, key := range required {
		if c.v.get(key) == nil {
			cursor{c.d, c.v, child(c.path, key)}.fail("is missing", "add it")
		}
	}
	return true
}

func (c cursor) unknown(e entry, known fields) {
	keys := slices.Sorted(maps.Keys(known))
	near := nearest(e.key, keys)
	keys = slices.DeleteFunc(keys, func(key string) bool { return known[key] == nil })
	remedy := "the keys here are " + strings.Join(keys, ", ")
	if len(keys) == 0 {
		remedy = "there are none here: leave it out"
	}
	if near != "" {
		remedy = "did you mean " + near + "?"
	}
	cursor{c.d, e.value, child(c.path, e.key)}.failAt(e.line, "unknown key", remedy)
}

// is reports whether the value is of a kind, and complains if not.
func (c cursor) is(k kind, want string) bool {
	if c.v.kind == k {
		return true
	}
	if c.v.kind == kindBroken {
		return false
	}
	remedy := "write " + want
	scalar := c.v.kind == kindInt || c.v.kind == kindFloat || c.v.kind == kindBool
	switch {
	case k == kindString && scalar:
		remedy = "put it in quotes"
	case k == kindInt && wholeNumber(c.v) != "":
		remedy = "write " + wholeNumber(c.v) + ", as plain digits"
	case k == kindList && (scalar || c.v.kind == kindString):
		remedy = "write [" + c.v.shown() + "]"
	case k == kindList && c.v.kind == kindMap:
		remedy = "put - in front of each item"
	}
	c.fail("wants "+want+", not "+c.v.shown(), remedy)
	return false
}

// wholeNumber is the whole number that was written as text, or with a point or
// an exponent; "" for none.
func wholeNumber(v *value) string {
	if v.kind != kindString && v.kind != kindFloat {
		return ""
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1e15 {
		return ""
	}
	return strconv.FormatInt(int64(f), 10)
}

// each reads a list.
func (c cursor) each(f func(cursor)) {
	if !c.is(kindList, "a list") {
		return
	}
	if len(c.v.list) > maxItems {
		c.fail(fmt.Sprintf("has %d items, more than %d", len(c.v.list), maxItems), "is there a mistake? Else split it")
		return
	}
	// A broken item is visited too, silently: each keeps its index.
	for i, v := range c.v.list {
		f(cursor{c.d, v, item(c.path, i)})
	}
}

// nonEmpty is each for lists that say something only with an item.
func (c cursor) nonEmpty(f func(cursor)) {
	if c.v.kind == kindList && len(c.v.list) == 0 {
		c.fail("is an empty list", "give it an item")
		return
	}
	c.each(f)
}

// text reads a string that is not empty.
func (c cursor) text() string {
	if !c.is(kindString, "text") {
		return ""
	}
	if c.v.text == "" {
		c.fail("is empty", "give it a value, or leave the key out")
	}
	return c.v.text
}

func (c cursor) bool() bool {
	return c.is(kindBool, "true or false") && c.v.text == "true"
}

func (c cursor) integer(least, most int64) int64 {
	if !c.is(kindInt, "a whole number") {
		return least
	}
	i, err := strconv.ParseInt(c.v.text, 10, 64)
	if err != nil || i < least || i > most {
		c.fail(c.v.text+" is out of range", fmt.Sprintf("write %d to %d", least, most))
		return least
	}
	return i
}

func (c cursor) number(least, most float64) float64 {
	if c.v.kind != kindInt && !c.is(kindFloat, "a number") {
		return 0
	}
	f, err := strconv.ParseFloat(c.v.text, 64)
	if err != nil || math.IsNaN(f) || f < least || f > most {
		c.fail(c.v.text+" is out of range", fmt.Sprintf("write %g to %g", least, most))
		return 0
	}
	return f
}

// duration reads 1h, 20s, 1d; and a bare 0, which needs no unit.
func (c cursor) duration(least, most time.Duration) time.Duration {
	var d time.Duration
	if c.v.kind != kindInt || c.v.text != "0" {
		if c.v.kind == kindInt {
			c.fail(c.v.text+" has no unit", "write one, such as 20s, 10m, 1h or 1d")
			return least
		}
		if !c.is(kindString, "a duration such as 20s, 10m, 1h or 1d") {
			return least
		}
		var err error
		if d, err = parseDuration(c.v.text); err != nil {
			c.fail(quote(c.v.text)+" is not a duration", "write one such as 100ms, 20s, 10m, 1h or 1d")
			return least
		}
	}
	if d < least || d > most {
		c.fail(c.v.shown()+" is out of range", "write "+FormatDuration(least)+" to "+FormatDuration(most))
		return least
	}
	return d
}

// size reads 64MiB, or 1GiB.
func (c cursor) size(least, most int64) int64 {
	if !c.is(kindString, "a size such as 64MiB or 1GiB") {
		return least
	}
	for _, unit := range []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}} {
		digits, found := strings.CutSuffix(c.v.text, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSuffix(digits, " "), 10, 32)
		if err != nil {
			break
		}
		if size := int64(n) * unit.size; size >= least && size <= most {
			return size
		}
		c.fail(c.v.text+" is out of range", fmt.Sprintf("write %dMiB to %dGiB", least>>20, most>>30))
		return least
	}
	c.fail(quote(c.v.text)+" is no size", "write one such as 64MiB or 1GiB")
	return least
}

// percent reads 50%.
func (c cursor) percent(least int) int {
	const most = 100
	if c.v.kind == kindString {
		digits, found := strings.CutSuffix(c.v.text, "%")
		if n, err := strconv.Atoi(digits); found && err == nil && digits[0] != '+' {
			if n < least || n > most {
				c.fail(c.v.text+" is out of range", fmt.Sprintf("write %d%% to %d%%", least, most))
				return least
			}
			return n
		}
	}
	if c.v.kind == kindBroken {
		return least
	}
	c.fail("wants a percentage, not "+c.v.shown(), "write one such as 50%")
	return least
}

// oneOf reads a word of a closed list; the zero T once it is none of them.
// Words whose T is the zero value are those of a later version.
func oneOf[T interface {
	comparable
	fmt.Stringer
}](c cursor, soon []string, words ...T) T {
	var zero T
	if !c.is(kindString, "text") {
		return zero
	}
	names := make([]string, len(words))
	for i, w := range words {
		if w.String() == c.v.text {
			return w
		}
		names[i] = w.String()
	}
	if slices.Contains(soon, c.v.text) {
		c.fail(c.v.text+" is not yet supported", "write "+strings.Join(names, ", "))
		return zero
	}
	c.fail(quote(c.v.text)+" is none of "+strings.Join(names, ", "), "write one of them")
	return zero
}

// nearest finds the word that a misspelt one probably means, "" for none.
func nearest(word string, words []string) string {
	best, bound := "", max(1, len(word)/3)+1
	for _, w := range words {
		if len(word) > 64 {
			break
		}
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d < bound {
			best, bound = w, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// ParseDuration reads a duration as people write it: 20s, 1h, 1d12h.
func ParseDuration(s string) (time.Duration, error) { return parseDuration(s) }

// parseDuration is time.ParseDuration with days, and without signs.
func parseDuration(s string) (time.Duration, error) {
	if strings.ContainsAny(s, "+-") || len(s) > 32 {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	days, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of days: %w", days, err)
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}

// FormatDuration writes a duration as people write it: 20s, 1h, 1d.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "0"
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

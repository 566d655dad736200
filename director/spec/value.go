package spec

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// kind is the type of a value as it was written.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindInt
	kindFloat
	kindString
	kindList
	kindMap
	kindBroken // a problem has been reported already; nothing more is said of it
)

func (k kind) String() string {
	switch k {
	case kindBool:
		return "true or false"
	case kindInt:
		return "a whole number"
	case kindFloat:
		return "a number"
	case kindString:
		return "text"
	case kindList:
		return "a list"
	case kindMap:
		return "a mapping"
	default:
		return "nothing"
	}
}

// value is what was written, with its line: the one form that YAML files and
// stored JSON share, so that both pass through the same decoder.
type value struct {
	kind    kind
	line    int    // from 1; 0 for what was not read from a file
	literal bool   // a YAML literal block: its text begins on the next line
	text    string // of a scalar; canonical for numbers
	list    []*value
	entries []entry // of a mapping, as written
}

type entry struct {
	key   string
	line  int
	value *value
}

// get returns the value of a key, nil where v is no mapping or lacks it.
func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	for i := range v.entries {
		if v.entries[i].key == key {
			return v.entries[i].value
		}
	}
	return nil
}

// string returns the text of a string value, "" for all else.
func (v *value) string() string {
	if v == nil || v.kind != kindString {
		return ""
	}
	return v.text
}

// shown is the value as a message quotes it, cut short.
func (v *value) shown() string {
	switch v.kind {
	case kindString:
		return quote(v.text)
	case kindBool, kindInt, kindFloat:
		return v.text
	default:
		return v.kind.String()
	}
}

// quote quotes what a person wrote, cut short so that no message grows with it.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// set replaces or adds a key of a mapping.
func (v *value) set(key string, to *value) {
	for i := range v.entries {
		if v.entries[i].key == key {
			v.entries[i].value = to
			return
		}
	}
	v.entries = append(v.entries, entry{key: key, line: to.line, value: to})
}

// canonical returns v as JSON with sorted keys and no insignificant space, so
// that equal content has equal bytes.
func (v *value) canonical() json.RawMessage {
	var b bytes.Buffer
	v.write(&b)
	return b.Bytes()
}

func (v *value) write(b *bytes.Buffer) {
	switch v.kind {
	case kindBool, kindInt, kindFloat:
		b.WriteString(v.text)
	case kindString:
		writeString(b, v.text)
	case kindList:
		b.WriteByte('[')
		for i, item := range v.list {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b)
		}
		b.WriteByte(']')
	case kindMap:
		sorted := slices.Clone(v.entries)
		slices.SortStableFunc(sorted, func(x, y entry) int { return strings.Compare(x.key, y.key) })
		b.WriteByte('{')
		for i, e := range sorted {
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(b, e.key)
			b.WriteByte(':')
			e.value.write(b)
		}
		b.WriteByte('}')
	default:
		b.WriteString("null")
	}
}

func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	// A string always encodes; bytes.Buffer never fails.
	_ = enc.Encode(s)
	b.Truncate(b.Len() - 1) // Encode ends its text with a line feed
}

// lineOf returns the line of a path such as "spec.endpoints[1].cluster", or of
// its deepest part that was written.
func (v *value) lineOf(path string) int {
	line := v.line
	for v != nil && path != "" {
		step, rest := cutStep(path)
		var next *value
		if i, ok := index(step); ok {
			if i < len(v.list) {
				next = v.list[i]
				line = next.line
			}
		} else {
			for j := range v.entries {
				if v.entries[j].key == step {
					next = v.entries[j].value
					line = v.entries[j].line
				}
			}
		}
		v, path = next, rest
	}
	return line
}

// cutStep takes the first step of a path: a key, or an index with its brackets.
func cutStep(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, "[") {
		end := strings.IndexByte(path, ']')
		if end < 0 {
			return path, ""
		}
		return path[:end+1], path[end+1:]
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], path[end:]
}

// index reads "[3]".
func index(step string) (int, bool) {
	inner, found := strings.CutPrefix(step, "[")
	if !found {
		return 0, false
	}
	i, err := strconv.Atoi(strings.TrimSuffix(inner, "]"))
	return i, err == nil && i >= 0
}

// child is the path of a key below a path. A key that would be read as more
// than one step is quoted.
func child(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[]\" \t\n/") {
		return path + "[" + quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// item is the path of a list's item.
func item(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

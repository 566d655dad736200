package spec

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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
	return v.append(make([]byte, 0, v.room()))
}

// room is about how many octets v has as JSON: a zone's text is not to be copied
// again and again while they grow.
func (v *value) room() int {
	n := len(v.text) + 8
	for i := range len(v.text) {
		if c := v.text[i]; c == '\n' || c == '"' || c == '\\' || c == '\t' {
			n++
		}
	}
	for _, item := range v.list {
		n += item.room()
	}
	for _, e := range v.entries {
		n += len(e.key) + 4 + e.value.room()
	}
	return n
}

func (v *value) append(b []byte) []byte {
	switch v.kind {
	case kindBool, kindInt, kindFloat:
		return append(b, v.text...)
	case kindString:
		return appendString(b, v.text)
	case kindList:
		b = append(b, '[')
		for i, item := range v.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b)
		}
		return append(b, ']')
	case kindMap:
		sorted := slices.Clone(v.entries)
		slices.SortStableFunc(sorted, func(x, y entry) int { return strings.Compare(x.key, y.key) })
		b = append(b, '{')
		for i, e := range sorted {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, e.key)
			b = append(b, ':')
			b = e.value.append(b)
		}
		return append(b, '}')
	default:
		return append(b, "null"...)
	}
}

// appendString writes a string as encoding/json does without HTML's escapes, and
// without its copies, which a zone of a million records would have thrice.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0 // of what is written as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || size > 1) && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
		}
		b = append(b, s[from:i]...)
		if at := strings.IndexRune("\"\\\b\f\n\r\t", r); at >= 0 && size == 1 && r != utf8.RuneError {
			b = append(b, '\\', `"\bfnrt`[at])
		} else {
			b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		}
		i += size
		from = i
	}
	return append(append(b, s[from:]...), '"')
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

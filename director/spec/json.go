package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	errTrailing = errors.New("has more than one JSON value")
	errTooDeep  = fmt.Errorf("is nested more than %d deep", maxDepth)
)

// parseJSON reads one stored object. Where a key stands twice the last counts:
// stored bytes are read tolerantly.
func parseJSON(data []byte) (*value, error) {
	if !json.Valid(data) {
		return nil, wrongJSON(data)
	}
	r := jsonReader{data: data}
	return r.value(0)
}

// wrongJSON says what is wrong.
func wrongJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var v any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return errors.New("is not JSON")
}

// jsonReader reads what is known to be JSON. The library would make maps, whose
// text is copied twice more on its way here: a zone's is of tens of millions of octets.
type jsonReader struct {
	data []byte
	at   int
}

// next gives the next octet that is no space.
func (r *jsonReader) next() byte {
	for {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return c
		}
	}
}

func (r *jsonReader) value(depth int) (*value, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch c := r.next(); c {
	case 'n':
		r.at += len("null")
		return &value{kind: kindNull}, nil
	case 't':
		r.at += len("true")
		return &value{kind: kindBool, text: "true"}, nil
	case 'f':
		r.at += len("false")
		return &value{kind: kindBool, text: "false"}, nil
	case '"':
		return &value{kind: kindString, text: r.string()}, nil
	case '[':
		return r.list(depth)
	case '{':
		return r.object(depth)
	default:
		text := r.number()
		if strings.ContainsAny(text, ".eE") {
			return &value{kind: kindFloat, text: text}, nil
		}
		return &value{kind: kindInt, text: text}, nil
	}
}

func (r *jsonReader) list(depth int) (*value, error) {
	out := &value{kind: kindList}
	for r.at++; r.next() != ']'; {
		if r.data[r.at] == ',' {
			r.at++
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out.list = append(out.list, v)
	}
	r.at++
	return out, nil
}

// object gives the entries in the order of their keys.
func (r *jsonReader) object(depth int) (*value, error) {
	out := &value{kind: kindMap}
	for r.at++; r.next() != '}'; {
		if r.data[r.at] == ',' {
			r.at++
		}
		r.next()
		key := r.string()
		r.next()
		r.at++ // the colon
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out.entries = append(out.entries, entry{key: key, value: v})
	}
	r.at++
	slices.SortStableFunc(out.entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	last := out.entries[:0]
	for i, e := range out.entries {
		if i+1 == len(out.entries) || out.entries[i+1].key != e.key {
			last = append(last, e)
		}
	}
	out.entries = last
	return out, nil
}

func (r *jsonReader) number() string {
	from := r.at
	for r.at < len(r.data) && strings.IndexByte("+-.0123456789eE", r.data[r.at]) >= 0 {
		r.at++
	}
	return string(r.data[from:r.at])
}

// string reads a string at its quote.
func (r *jsonReader) string() string {
	from := r.at
	escapes := 0
	for r.at++; r.data[r.at] != '"'; r.at++ {
		if r.data[r.at] == '\\' {
			escapes++
			r.at++
		}
	}
	r.at++
	raw := r.data[from:r.at]
	inner := raw[1 : len(raw)-1]
	if !utf8.Valid(inner) || bytes.Contains(inner, []byte(`\u`)) {
		var s string
		_ = json.Unmarshal(raw, &s) // it is JSON
		return s
	}
	if escapes == 0 {
		return string(inner)
	}
	var b strings.Builder
	b.Grow(len(inner) - escapes)
	for {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 {
			b.Write(inner)
			return b.String()
		}
		b.Write(inner[:i])
		c := inner[i+1]
		if at := strings.IndexByte("bfnrt", c); at >= 0 {
			c = "\b\f\n\r\t"[at]
		}
		b.WriteByte(c)
		inner = inner[i+2:]
	}
}

package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

var (
	errTrailing = errors.New("has more than one JSON value")
	errTooDeep  = fmt.Errorf("is nested more than %d deep", maxDepth)
)

// parseJSON reads one stored object. Where a key stands twice the last counts:
// stored bytes are read tolerantly.
func parseJSON(data []byte) (*value, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errTrailing
	}
	return fromJSON(v, 0)
}

func fromJSON(v any, depth int) (*value, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch v := v.(type) {
	case nil:
		return &value{kind: kindNull}, nil
	case bool:
		return &value{kind: kindBool, text: fmt.Sprint(v)}, nil
	case string:
		return &value{kind: kindString, text: v}, nil
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return &value{kind: kindFloat, text: v.String()}, nil
		}
		return &value{kind: kindInt, text: v.String()}, nil
	case []any:
		out := &value{kind: kindList}
		for _, e := range v {
			got, err := fromJSON(e, depth+1)
			if err != nil {
				return nil, err
			}
			out.list = append(out.list, got)
		}
		return out, nil
	case map[string]any:
		out := &value{kind: kindMap}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			got, err := fromJSON(v[k], depth+1)
			if err != nil {
				return nil, err
			}
			out.entries = append(out.entries, entry{key: k, value: got})
		}
		return out, nil
	default:
		return nil, fmt.Errorf("holds a %T", v)
	}
}

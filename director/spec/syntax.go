package spec

import (
	"bytes"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	yamlLine   = regexp.MustCompile(`line (\d+): `)
	yamlPrefix = regexp.MustCompile(`^yaml: (unmarshal errors:\s*)?`)
)

func (r *yamlReader) syntax(text []byte, err error) {
	message := yamlPrefix.ReplaceAllString(err.Error(), "")
	message = yamlLine.ReplaceAllString(message, "")
	r.add(mistakeLine(text, err), "", "is not YAML: "+message, "check indentation, quotes and brackets near this line")
}

// mistakeLine finds the line of a syntax error. The parser names, if any, the
// line where the broken mapping or bracket began, and counts some from 0; so
// that line is taken with which the error first appears.
func mistakeLine(text []byte, err error) int {
	const most = 256 << 10 // octets that are parsed again and again
	stated := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			stated = max(n, 1)
		}
	}
	if len(text) > most {
		return stated
	}
	var ends []int
	for at, b := range text {
		if b == '\n' || at == len(text)-1 {
			ends = append(ends, at+1)
		}
	}
	want := err.Error()
	same := func(got string) bool { return got == want }
	if strings.Contains(want, "unexpected end of stream") { // stated is where the text ends
		want = yamlLine.ReplaceAllString(want, "")
		same = func(got string) bool { return yamlLine.ReplaceAllString(got, "") == want }
	}
	fails := func(i int) bool { return same(firstError(text[:ends[i]])) }
	if i := sort.Search(len(ends), fails); i < len(ends) && fails(i) {
		return i + 1
	}
	return stated
}

// firstError is what stops the parser in a text.
func firstError(text []byte) string {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); err != nil {
			return err.Error()
		}
	}
}

package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// What a file may cost. A spec is written by people, but also generated, and
// a director reloads it while it serves.
const (
	maxFile       = 16 << 20 // octets of one YAML or JSON file
	maxZoneText   = 52 << 20 // octets of one zone's records: a million, each with its whole name
	maxMarks      = 1 << 19  // of one file, see marks
	maxMarksOfAll = 1 << 20  // of all files of one run
	maxDepth      = 32       // nesting of values; the deepest real one is 8
	maxAliased    = 100_000  // values that aliases may add to a file
	maxAliasBytes = 1 << 20  // octets of text that aliases may add to a file
	maxItems      = 10_000   // of one list
	maxProblems   = 1000     // of one run: nobody reads more
)

// document is one YAML document of a file.
type document struct {
	file string
	root *value
	raw  Raw // of a resource, once identified

	inlined  bool   // a zone's records were read in from its file
	zoneFile string // that file, as opened
}

// id is kind/name, and the kind alone where the name is wrong.
func (d document) id() string {
	if d.raw.Name == "" {
		return d.raw.Kind
	}
	return d.raw.Kind + "/" + d.raw.Name
}

// parseYAML reads all documents of a file. JSON is read as the YAML that it is.
// Documents are taken apart first, so that a mistake in one hides none in the
// next: a line that begins with "---" is a document's start wherever it stands
// (YAML 1.2.2 section 9.1.2).
func parseYAML(name string, data []byte) ([]document, []Problem) {
	if len(data) > maxFile {
		return nil, []Problem{{File: name, Message: fmt.Sprintf("is %d octets, more than %d", len(data), maxFile), Remedy: "split it into several files"}}
	}
	if marks(data) > maxMarks {
		return nil, []Problem{{File: name, Message: "holds more than a spec needs: half a million commas, colons and dashes", Remedy: "split it into several files, and put the records of large zones into files of their own"}}
	}
	if !utf8.Valid(data) {
		return nil, []Problem{{File: name, Line: 1 + bytes.Count(validPrefix(data), []byte("\n")), Message: "is not UTF-8", Remedy: "save it as UTF-8"}}
	}
	if strings.EqualFold(filepath.Ext(name), ".json") {
		// No JSON string holds a raw tab, and YAML does not indent with them.
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	r := &yamlReader{file: name}
	var docs []document
	for _, chunk := range splitDocuments(data) {
		before := len(r.problems)
		root := r.document(chunk)
		if root != nil {
			docs = append(docs, document{file: name, root: root})
		}
		for i := before; i < len(r.problems); i++ {
			r.problems[i].Path = join(identity(root), r.problems[i].Path)
		}
		if len(r.problems) >= maxProblems {
			break
		}
	}
	return docs, r.problems
}

// marks counts what bounds the number of a file's values, since none is without
// one of them. The parser takes some 400 octets for each, and a director that
// has no memory left answers nothing.
func marks(data []byte) int {
	n := 0
	for _, b := range data {
		switch b {
		case ',', ':', '[', '{', '-', '?', '*':
			n++
		}
	}
	return n
}

// identity is the kind and name of what may be a resource, "" if it is none.
func identity(root *value) string {
	kindOf, metadata := root.get("kind").string(), root.get("metadata")
	name := metadata.get("name").string()
	if kindOf == "" || name == "" {
		return ""
	}
	if ns := metadata.get("namespace").string(); ns != "" {
		name = ns + "/" + name
	}
	return kindOf + "/" + name
}

func validPrefix(data []byte) []byte {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return data[:i]
		}
		i += size
	}
	return data
}

type chunk struct {
	text  []byte
	lines int // lines before it
}

func splitDocuments(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line := 0, 0, 0
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		next := len(data)
		if end >= 0 {
			next = at + end + 1
		}
		if at > start && isMarker(data[at:next]) {
			chunks = append(chunks, chunk{data[start:at], startLine})
			start, startLine = at, line
		}
		at = next
		line++
	}
	return append(chunks, chunk{data[start:], startLine})
}

func isMarker(line []byte) bool {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	return found && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n"))
}

// yamlReader turns the nodes of one file into values.
type yamlReader struct {
	file       string
	offset     int // lines before the document
	problems   []Problem
	aliased    int // values that aliases have added
	aliasBytes int
	inAlias    int
	tooMuch    bool // said already
}

func (r *yamlReader) document(c chunk) *value {
	if isEmpty(c.text) {
		return nil // a decoder for each of many would be costly
	}
	r.offset = c.lines
	dec := yaml.NewDecoder(bytes.NewReader(c.text))
	var node yaml.Node
	if err := dec.Decode(&node); err != nil {
		r.syntax(c.text, err)
		return nil
	}
	if node.Kind != yaml.DocumentNode || len(node.Content) == 0 {
		return nil
	}
	root := node.Content[0]
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		line := second.Line
		if err != nil {
			line = mistakeLine(c.text, err)
		}
		r.add(line, "", "goes on after the end of the document", "put a line --- between documents, or take the rest out")
	}
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil
	}
	return r.value(root, "", 0)
}

// isEmpty reports whether a document holds comments and markers only.
func isEmpty(text []byte) bool {
	for line := range bytes.Lines(text) {
		if isMarker(line) {
			line = line[len("---"):]
		}
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}

func (r *yamlReader) add(line int, path, message, remedy string) {
	r.problems = append(r.problems, Problem{File: r.file, Line: line + r.offset, Path: path, Message: message, Remedy: remedy})
}

// value turns a node into a value; nil once a problem makes it useless.
func (r *yamlReader) value(n *yaml.Node, path string, depth int) *value {
	if depth > maxDepth {
		r.add(n.Line, path, fmt.Sprintf("is nested more than %d deep", maxDepth), "flatten it")
		return nil
	}
	if r.inAlias > 0 {
		r.aliased++
		r.aliasBytes += len(n.Value)
		if r.aliased > maxAliased || r.aliasBytes > maxAliasBytes {
			return nil // said once, where the alias stands
		}
	}
	v := &value{line: n.Line + r.offset}
	switch n.Kind {
	case yaml.MappingNode:
		v.kind = kindMap
		return r.mapping(n, v, path, depth)
	case yaml.SequenceNode:
		v.kind = kindList
		if t := n.ShortTag(); t != "!!seq" {
			r.add(n.Line, path, "has the tag "+quote(t), "leave the tag out")
		}
		for i, c := range n.Content {
			v.list = append(v.list, r.orBroken(c, item(path, i), depth+1))
		}
		return v
	case yaml.AliasNode:
		return r.alias(n, path, depth)
	case yaml.ScalarNode:
		return r.scalar(n, v, path)
	default:
		r.add(n.Line, path, "cannot be read", "write plain YAML")
		return nil
	}
}

// orBroken is value, with a mark in place of what was useless, so that nothing
// else complains of its absence.
func (r *yamlReader) orBroken(n *yaml.Node, path string, depth int) *value {
	if v := r.value(n, path, depth); v != nil {
		return v
	}
	return &value{kind: kindBroken, line: n.Line + r.offset}
}

func (r *yamlReader) alias(n *yaml.Node, path string, depth int) *value {
	if n.Alias == nil {
		r.add(n.Line, path, "names an anchor that is not there", "define it with &"+n.Value+" before its use")
		return nil
	}
	r.inAlias++
	// A cycle ends at maxDepth, as does any chain of aliases.
	v := r.value(n.Alias, path, depth+1)
	r.inAlias--
	if r.inAlias == 0 && !r.tooMuch && (r.aliased > maxAliased || r.aliasBytes > maxAliasBytes) {
		r.tooMuch = true
		r.add(n.Line, path, "aliases expand to more than a spec may hold", "write it out, or use fewer aliases")
	}
	if v == nil {
		return nil
	}
	copied := *v
	copied.line = n.Line + r.offset
	return &copied
}

func (r *yamlReader) mapping(n *yaml.Node, v *value, path string, depth int) *value {
	if t := n.ShortTag(); t != "!!map" {
		r.add(n.Line, path, "has the tag "+quote(t), "leave the tag out")
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, content := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.add(key.Line, path, "has a key that is not text", "use plain keys")
			continue
		}
		if key.ShortTag() == "!!merge" {
			r.add(key.Line, path, "merges with <<, which is not supported", "write the keys out, or alias a whole value")
			continue
		}
		p := child(path, key.Value)
		if first, found := seen[key.Value]; found {
			r.add(key.Line, p, fmt.Sprintf("is given twice, first on line %d", first), "keep one of the two")
			continue
		}
		seen[key.Value] = key.Line + r.offset
		v.entries = append(v.entries, entry{key: key.Value, line: key.Line + r.offset, value: r.orBroken(content, p, depth+1)})
	}
	return v
}

var errNotFinite = errors.New("is not a finite number")

func (r *yamlReader) scalar(n *yaml.Node, v *value, path string) *value {
	v.literal = n.Style&yaml.LiteralStyle != 0
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		v.kind, v.text = kindString, n.Value
	case "!!null":
		v.kind = kindNull
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			r.add(n.Line, path, "is not true or false", "write true or false")
			return nil
		}
		v.kind, v.text = kindBool, strconv.FormatBool(b)
	case "!!int":
		if digits := strings.TrimLeft(n.Value, "+-"); len(digits) > 1 && digits[0] == '0' && (digits[1] == '_' || '0' <= digits[1] && digits[1] <= '9') {
			r.add(n.Line, path, n.Value+" begins with 0, so that YAML reads it as octal", "write it without the 0, or in quotes if it is text")
			return nil
		}
		var i int64
		if err := n.Decode(&i); err != nil {
			r.add(n.Line, path, quote(n.Value)+" is too large a number", "write a smaller one, or quote it as text")
			return nil
		}
		v.kind, v.text = kindInt, strconv.FormatInt(i, 10)
	case "!!float":
		text, err := canonicalFloat(n)
		if err != nil {
			r.add(n.Line, path, quote(n.Value)+" "+err.Error(), "write a plain number")
			return nil
		}
		v.kind, v.text = kindFloat, text
	default:
		r.add(n.Line, path, "has the tag "+quote(tag), "leave the tag out")
		return nil
	}
	return v
}

func canonicalFloat(n *yaml.Node) (string, error) {
	var f float64
	if err := n.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return "", errNotFinite
	}
	b, err := json.Marshal(f)
	if err != nil {
		return "", errNotFinite
	}
	return string(b), nil
}

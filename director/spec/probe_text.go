package spec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
)

const (
	maxSend    = 4 << 10
	maxRegexp  = 256
	maxProgram = 500 // steps of a compiled expression: each may be taken for each octet of 64 KiB
)

// short reads text of at most so many octets.
func (c cursor) short(most int, remedy string) string {
	s := c.text()
	if len(s) > most {
		c.fail(fmt.Sprintf("is longer than %d octets", most), remedy)
		return ""
	}
	return s
}

// octets reads hexadecimal, blanks between octets or not.
func (c cursor) octets(most int) string {
	s := c.text()
	if s == "" {
		return ""
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	switch {
	case err != nil || len(b) == 0:
		c.fail(quote(s)+" is no hexadecimal", `write two digits an octet, such as "0d 0a"`)
		return ""
	case len(b) > most:
		c.fail(fmt.Sprintf("is longer than %d octets", most), "write less")
		return ""
	}
	return string(b)
}

// regexp reads an expression of RE2. Its time grows with the text alone; by how much
// is bounded here, since a probe has 64 KiB and others wait for the processor.
func (c cursor) regexp() string {
	s := c.short(maxRegexp, "look for less")
	if s == "" {
		return ""
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		why := "is no RE2 expression"
		if wrong, ok := errors.AsType[*syntax.Error](err); ok {
			why += ": " + wrong.Code.String()
		}
		c.fail(quote(s)+" "+why, "in YAML, put it in single quotes: a backslash stays one there")
		return ""
	}
	if prog, err := syntax.Compile(tree.Simplify()); err != nil || len(prog.Inst) > maxProgram {
		c.fail(quote(s)+" is too much work for a probe", "repeat less in it")
		return ""
	}
	return s
}

// either reports that two keys were given of which one must go.
func (c cursor) either(keys ...string) {
	first := ""
	for _, key := range keys {
		switch {
		case c.v.get(key) == nil:
		case first == "":
			first = key
		default:
			cursor{c.d, c.v, child(c.path, key)}.failAt(c.v.lineOf(key), "stands beside "+first, "keep one of the two")
		}
	}
}

package spec

import (
	"fmt"
	"path"
	"strings"
	"time"
)

const (
	maxArgs   = 16
	maxArg    = 256
	leastExec = time.Second // a process costs a thousand times what a packet does
)

func readICMP(c cursor) *ICMPProbe {
	c.object(fields{})
	return &ICMPProbe{}
}

func (*ICMPProbe) port() uint16 { return 0 }

// Definition is the canonical text of what is asked.
func (*ICMPProbe) Definition() string { return "icmp" }

func (*ICMPProbe) String() string { return "icmp" }

func readExec(c cursor) *ExecProbe {
	e := &ExecProbe{}
	c.object(fields{
		"command": func(c cursor) { e.Command = c.program() },
		"args":    func(c cursor) { e.Args = readArgs(c) },
	}, "command")
	return e
}

func readArgs(c cursor) []string {
	var args []string
	c.each(func(c cursor) {
		if !c.is(kindString, "text") {
			return
		}
		switch {
		case len(c.v.text) > maxArg || strings.ContainsRune(c.v.text, 0):
			c.fail(fmt.Sprintf("is longer than %d octets, or has one of 0", maxArg), "put it into the program")
		case len(args) == maxArgs:
			c.fail(fmt.Sprintf("is one more than %d", maxArgs), "put them into the program")
		default:
			args = append(args, c.v.text)
		}
	})
	return args
}

// program reads the absolute path of a program, in its one form: the settings allow
// what the spec names by comparing the two.
func (c cursor) program() string {
	s := c.text()
	if s == "" {
		return ""
	}
	if !path.IsAbs(s) || path.Clean(s) != s || s == "/" || !isPrintable(s) {
		c.fail(quote(s)+" is no absolute path of a program", "write one such as /usr/lib/divert/checks/queue, without . and ..")
		return ""
	}
	return s
}

func (*ExecProbe) port() uint16 { return 0 }

// Definition is the canonical text of what is asked.
func (e *ExecProbe) Definition() string {
	return fmt.Sprintf("exec command=%q args=%q", e.Command, e.Args)
}

// String names the program with its arguments, which tell apart what it checks.
func (e *ExecProbe) String() string {
	return strings.TrimSpace("exec " + e.Command + " " + abridged(strings.Join(e.Args, " ")))
}

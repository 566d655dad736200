package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedCommands: each command line in a document, and each that the
// demo prints, can be typed as it stands.
func TestDocumentedCommands(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```(?:sh|console)\n(.*?)^```")
	line := regexp.MustCompile(`(?m)^(?:\$ |  )?(?:sudo )?(?:\./)?divert (.*)$`)
	texts := map[string]string{"the demo": demoText}
	for _, path := range []string{"README.md", "CONTRIBUTING.md", "deploy/README.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(b), -1) {
			texts[path] += m[1]
		}
	}
	for where, text := range texts {
		found := line.FindAllStringSubmatch(text, -1)
		if len(found) == 0 && where != "CONTRIBUTING.md" {
			t.Errorf("%s: found no command", where)
		}
		for _, m := range found {
			words, _, _ := strings.Cut(m[1], " #")
			if words, _, _ = strings.Cut(words, "     "); words == "" {
				continue
			}
			root := newTerminal("").root()
			c, rest, err := root.Find(shellWords(words))
			if err == nil {
				err = c.ParseFlags(rest)
			}
			if err == nil {
				err = c.ValidateRequiredFlags()
			}
			if err == nil && c.Args != nil {
				err = c.Args(c, c.Flags().Args())
			}
			if err != nil || !c.Runnable() || c.Annotations[groupMark] != "" || c == root {
				t.Errorf("%s: `divert %s` cannot be typed: %v", where, words, err)
			}
		}
	}
}

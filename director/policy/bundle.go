package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// What a bundle may have. All of it fits into one blob of the store.
const (
	MaxFiles  = 64
	MaxOctets = 256 << 10 // of all files together
	maxPath   = 128       // octets of a file's path
	maxDepth  = 6         // folders
)

// dataFile is the one file of a bundle that is no rule: its keys are below `data`.
const dataFile = "data.json"

const testSuffix = "_test.rego"

// File is one file of a bundle.
type File struct {
	Path string // below the folder, with slashes
	Text []byte
}

// Bundle is a folder of rules (*.rego) and what they go by (data.json), ordered by path.
type Bundle struct {
	Files []File
}

// Without tests: what directors evaluate, and what Encode and Hash are of. `divert policy
// test` runs the others before.
func (b Bundle) rules() []File {
	return slices.DeleteFunc(slices.Clone(b.Files), func(f File) bool { return strings.HasSuffix(f.Path, testSuffix) })
}

// magic begins an encoded bundle.
const magic = "divert policy 1\n"

// Encode gives the one encoding of a bundle's rules and data, its tests left out: each
// file as "PATH-OCTETS TEXT-OCTETS\n", path and text, ordered by path. The same folder has
// the same octets on every machine.
func (b Bundle) Encode() []byte {
	out := []byte(magic)
	for _, f := range b.rules() {
		out = fmt.Appendf(out, "%d %d\n%s", len(f.Path), len(f.Text), f.Path)
		out = append(out, f.Text...)
	}
	return out
}

// Hash is the SHA-256 of the encoded bundle: what the plan names.
func (b Bundle) Hash() plan.Hash { return plan.Sum(b.Encode()) }

// ErrBundle says that octets are no bundle.
var ErrBundle = errors.New("is no policy bundle")

// Decode reads what Encode wrote, and nothing else: octets that encode to others are
// refused, so that one bundle has one hash.
func Decode(octets []byte) (Bundle, error) {
	rest, ok := bytes.CutPrefix(octets, []byte(magic))
	if !ok {
		return Bundle{}, ErrBundle
	}
	var b Bundle
	total := 0
	for len(rest) > 0 {
		if len(b.Files) == MaxFiles {
			return Bundle{}, fmt.Errorf("%w: it has more than %d files", ErrBundle, MaxFiles)
		}
		line, after, found := bytes.Cut(rest[:min(len(rest), 32)], []byte("\n"))
		name, text, spaced := strings.Cut(string(line), " ")
		n, err1 := strconv.Atoi(name)
		m, err2 := strconv.Atoi(text)
		_ = after
		rest = rest[min(len(rest), len(line)+1):]
		if !found || !spaced || err1 != nil || err2 != nil || n < 1 || n > maxPath || m < 0 || m > MaxOctets || n+m > len(rest) {
			return Bundle{}, fmt.Errorf("%w: it is damaged at file %d", ErrBundle, len(b.Files)+1)
		}
		f := File{Path: string(rest[:n]), Text: bytes.Clone(rest[n : n+m])}
		rest = rest[n+m:]
		if total += m; total > MaxOctets {
			return Bundle{}, fmt.Errorf("%w: it has more than %d KiB", ErrBundle, MaxOctets>>10)
		}
		if err := checkPath(f.Path); err != nil {
			return Bundle{}, fmt.Errorf("%w: %w", ErrBundle, err)
		}
		if k := len(b.Files); k > 0 && b.Files[k-1].Path >= f.Path {
			return Bundle{}, fmt.Errorf("%w: %q is out of order", ErrBundle, f.Path)
		}
		b.Files = append(b.Files, f)
	}
	if !bytes.Equal(b.Encode(), octets) {
		return Bundle{}, fmt.Errorf("%w: it is not as it would be written", ErrBundle)
	}
	return b, nil
}

// checkPath refuses what no file of a bundle is called.
func checkPath(p string) error {
	switch {
	case len(p) > maxPath || !utf8.ValidString(p) || !fs.ValidPath(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%q is no path of a file", p)
	case p != dataFile && path.Ext(p) != ".rego":
		return fmt.Errorf("%q is neither %s nor *.rego", p, dataFile)
	}
	return nil
}

// ReadDir reads the *.rego of a folder and of those below it, and its data.json. All else
// in it is left alone, as are names that begin with a dot; what looks like data and would
// not be used is a problem.
func ReadDir(dir string) (Bundle, []spec.Problem) {
	var b Bundle
	var problems []spec.Problem
	bad := func(file, message, remedy string) {
		problems = append(problems, spec.Problem{File: file, Message: message, Remedy: remedy})
	}
	total := 0
	var walk func(rel string, depth int)
	walk = func(rel string, depth int) {
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(rel)))
		if err != nil {
			bad(filepath.Join(dir, rel), cause(err), "name a folder of *.rego and data.json, as deploy/opa is one")
			return
		}
		for _, e := range entries {
			name := path.Join(rel, e.Name())
			shown := filepath.Join(dir, filepath.FromSlash(name))
			if strings.HasPrefix(e.Name(), ".") || len(problems) > 0 {
				continue
			}
			info, err := os.Stat(shown) // a mounted ConfigMap is links
			if err != nil {
				bad(shown, cause(err), "")
				continue
			}
			switch ext := path.Ext(name); {
			case info.IsDir() && depth == maxDepth:
				bad(shown, fmt.Sprintf("lies more than %d folders deep", maxDepth), "")
			case info.IsDir():
				walk(name, depth+1)
			case ext != ".rego" && name != dataFile:
				switch path.Base(name) {
				case dataFile, "data.yaml", "data.yml":
					bad(shown, "would not be read: a bundle's data are one data.json beside its rules", "write it into "+filepath.Join(dir, dataFile))
				}
			case !info.Mode().IsRegular():
				bad(shown, "is no file", "")
			default:
				if err := checkPath(name); err != nil {
					bad(shown, err.Error(), "rename it")
					continue
				}
				text, err := readFile(shown, MaxOctets-total)
				if err != nil {
					bad(shown, err.Error(), "")
					continue
				}
				total += len(text)
				b.Files = append(b.Files, File{Path: name, Text: text})
				if len(b.Files) > MaxFiles {
					bad(shown, fmt.Sprintf("is one more than the %d files that a bundle may have", MaxFiles), "put rules together")
				}
			}
		}
	}
	walk("", 0)
	slices.SortFunc(b.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	if len(problems) == 0 && len(b.rules()) == 0 {
		bad(dir, "holds no *.rego", "name a folder of rules, as deploy/opa is one")
	}
	if len(problems) > 0 {
		return Bundle{}, problems
	}
	return b, nil
}

// readFile reads a file of at most so many octets.
func readFile(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.New(cause(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	switch {
	case err != nil:
		return nil, errors.New(cause(err))
	case len(text) > most:
		return nil, fmt.Errorf("a bundle has at most %d KiB, this is more", MaxOctets>>10)
	}
	return text, nil
}

// cause is what went wrong with a file, without its name, which stands before it.
func cause(err error) string {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}

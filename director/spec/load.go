package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxFiles   = 10_000 // of one run
	maxFolders = 8      // nesting
)

// Load reads files and folders (*.yaml, *.yml, *.json, folders within folders,
// in order of name; hidden ones left out), strictly, and checks them against
// each other. The resources are nil if Failed; the Set then serves further
// checks only.
func Load(paths []string) (*Set, []Raw, []Problem) { return LoadWith(paths, nil) }

// LoadWith is Load with a checker of zone text.
func LoadWith(paths []string, check ZoneChecker) (*Set, []Raw, []Problem) {
	return load(paths, check, newSource())
}

func load(paths []string, check ZoneChecker, from *source) (*Set, []Raw, []Problem) {
	docs, problems := readAll(paths, from)
	objects, more := decodeAll(docs, true)
	problems = append(problems, more...)
	set, more := assemble(objects, check)
	problems = tidy(append(problems, more...))
	if Failed(problems) {
		return set, nil, problems
	}
	return set, raws(objects), problems
}

// LoadOver is LoadWith for files that bring a part of a fleet's spec: they are checked
// together with what is stored and they do not replace, so that each problem has its
// file and line. The resources are those of the files alone.
func LoadOver(paths []string, stored []Raw, check ZoneChecker) ([]Raw, []Problem) {
	docs, problems := readAll(paths, newSource())
	objects, more := decodeAll(docs, true)
	problems = append(problems, more...)
	brought := make(map[string]bool, len(objects))
	for _, o := range objects {
		brought[o.id()] = true
	}
	stored = slices.DeleteFunc(slices.Clone(stored), func(r Raw) bool { return brought[r.Kind+"/"+r.Name] })
	around, more := decodeStored(stored)
	problems = append(problems, more...)
	_, more = assemble(slices.Concat(objects, around), check)
	problems = tidy(append(problems, more...))
	if Failed(problems) {
		return nil, problems
	}
	return raws(objects), problems
}

// Parse reads one file's documents, strictly, each by itself. Zone files named
// by file: are read relative to the folder of name.
func Parse(name string, data []byte) ([]Raw, []Problem) {
	s := newSource()
	s.files = []string{name}
	return parse(name, data, s.zone)
}

func parse(name string, data []byte, zoneFile func(string) (string, error)) ([]Raw, []Problem) {
	docs, problems := parseYAML(name, data)
	problems = append(problems, inlineZones(docs, zoneFile)...)
	objects, more := decodeAll(docs, true)
	objects, twice := unique(objects)
	problems = tidy(slices.Concat(problems, more, twice))
	if Failed(problems) {
		return nil, problems
	}
	return raws(objects), problems
}

// decodeAll reads each document by itself.
func decodeAll(docs []document, strict bool) ([]*object, []Problem) {
	var objects []*object
	var problems []Problem
	for _, doc := range docs {
		o, ps := decodeObject(doc, strict)
		problems = append(problems, ps...)
		if o != nil {
			objects = append(objects, o)
		}
	}
	return objects, problems
}

// raws are the objects as they are stored, ordered by kind and name.
func raws(objects []*object) []Raw {
	out := make([]Raw, 0, len(objects))
	for _, o := range objects {
		raw := o.raw
		raw.JSON = o.root.canonical()
		out = append(out, raw)
	}
	slices.SortFunc(out, func(a, b Raw) int { return compareIDs(a.Kind, a.Name, b.Kind, b.Name) })
	return out
}

func compareIDs(kindA, nameA, kindB, nameB string) int {
	order := kindNames()
	if d := slices.Index(order, kindA) - slices.Index(order, kindB); d != 0 {
		return d
	}
	return strings.Compare(nameA, nameB)
}

// inlineZones reads the zone files that zones name, so that what is stored is
// whole.
func inlineZones(docs []document, read func(string) (string, error)) []Problem {
	var problems []Problem
	for i := range docs {
		body := docs[i].root.get("spec")
		file := body.get("file")
		if docs[i].root.get("kind").string() != KindZone || file.string() == "" || body.get("records") != nil {
			continue
		}
		path := file.text
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(docs[i].file), path)
		}
		text, err := read(path)
		records := &value{kind: kindString, line: file.line, text: text}
		if err != nil {
			problems = append(problems, Problem{
				File: docs[i].file, Line: file.line,
				Path:    join(identity(docs[i].root), "spec.file"),
				Message: err.Error(), Remedy: zoneFileRemedy(err),
			})
			records.kind = kindBroken
		}
		body.set("records", records)
		docs[i].inlined, docs[i].zoneFile = true, path
	}
	return problems
}

var (
	errOutside = errors.New("it lies outside the folder of the spec")
	errNotUTF8 = errors.New("it is not UTF-8")
)

func zoneFileRemedy(err error) string {
	switch {
	case errors.Is(err, errOutside):
		return "put the zone's file beside or below this one"
	case errors.Is(err, errNotUTF8):
		return `save it as UTF-8, or write such octets as \DDD`
	default:
		return "name the zone's file relative to this one"
	}
}

var errNotRegular = errors.New("is no regular file")

// readRegular reads a file of bounded size. A pipe or device would hang or
// never end.
func readRegular(path string, most int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := copyRegular(&b, path, most)
	if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// copyRegular is readRegular to a writer, which may be told how much is to come.
func copyRegular(to io.Writer, path string, most int64) (n int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("reading: %w", err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("reading %s: %w", path, errNotRegular)
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("reading: %w", err)
	}
	if g, ok := to.(interface{ Grow(n int) }); ok {
		g.Grow(int(min(info.Size(), most)) + bytes.MinRead)
	}
	n, err = io.Copy(to, io.LimitReader(f, most+1))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return n, fmt.Errorf("reading: %w", err)
	}
	if n > most {
		return n, fmt.Errorf("reading %s: it is larger than %d octets", path, most)
	}
	return n, nil
}

// readAll reads and parses all files, zone files included.
func readAll(paths []string, from *source) ([]document, []Problem) {
	files, problems := from.list(paths)
	var docs []document
	all := 0
	for _, name := range files {
		data, err := from.file(name)
		if err != nil {
			problems = append(problems, Problem{File: name, Message: err.Error(), Remedy: "make it readable, or leave it out"})
			continue
		}
		if all += marks(data); all > maxMarksOfAll {
			problems = append(problems, Problem{File: name, Message: "is too much: all files together hold more than a spec needs", Remedy: "put the records of large zones into files of their own"})
			break
		}
		got, ps := parseYAML(name, data)
		docs = append(docs, got...)
		problems = append(problems, ps...)
	}
	return docs, append(problems, inlineZones(docs, from.zone)...)
}

// lister walks the paths that a person named.
type lister struct {
	files    []string
	seen     map[string]bool
	problems []Problem
}

func listFiles(paths []string) ([]string, []Problem) {
	l := &lister{seen: map[string]bool{}}
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			message := err.Error()
			if errors.Is(err, fs.ErrNotExist) {
				message = "is not there"
			}
			l.fail(p, message, "name a file or a folder of *.yaml, *.yml and *.json")
		case info.IsDir():
			before := len(l.files)
			l.folder(p, 0)
			if len(l.files) == before {
				l.problems = append(l.problems, Problem{File: p, Message: "holds no *.yaml, *.yml or *.json", Remedy: "is it the right folder?", Warning: true})
			}
		default:
			l.add(p)
		}
	}
	return l.files, l.problems
}

func (l *lister) fail(path, message, remedy string) {
	l.problems = append(l.problems, Problem{File: path, Message: message, Remedy: remedy})
}

func (l *lister) add(path string) {
	path = filepath.Clean(path)
	if l.seen[path] {
		return
	}
	l.seen[path] = true
	switch {
	case len(l.files) < maxFiles:
		l.files = append(l.files, path)
	case len(l.files) == maxFiles:
		l.fail(path, fmt.Sprintf("is more than the %d files that are read", maxFiles), "join files: one may hold many documents")
	}
}

// folder adds the files of a folder. Links to files are followed (Kubernetes
// mounts a ConfigMap as such), links to folders are not: they could go in
// circles.
func (l *lister) folder(path string, depth int) {
	if depth > maxFolders {
		l.fail(path, fmt.Sprintf("is nested more than %d folders deep", maxFolders), "move it up")
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		l.fail(path, err.Error(), "make it readable, or leave it out")
		return
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if e.IsDir() {
			l.folder(name, depth+1)
			continue
		}
		if info, statErr := os.Stat(name); statErr == nil && info.IsDir() {
			l.problems = append(l.problems, Problem{File: name, Message: "is a link to a folder, which is not followed", Remedy: "name that folder itself", Warning: true})
			continue
		}
		switch strings.ToLower(filepath.Ext(name)) {
		case ".yaml", ".yml", ".json":
			l.add(name)
		}
	}
}

// Command mutate builds the simulator of a fleet once for each deliberate bug of
// testdata/mutants, and shows that the simulator finds it: by which row of INVARIANTS,
// at which seed. A bug is in no file of the product: Go's -overlay puts it in place of
// the lines that it is written against. It never changes a file of the product.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const mutants = "chaos/sim/fleet/testdata/mutants"

// mutant is one deliberate bug.
type mutant struct {
	name, why string
	file      string // of the repository, where its first text is
	row       string // of INVARIANTS, that it breaks
	seed      string // that found it the last time; "": none has
	changes   []change
	scenario  string // in which it shows; "": seeds are played
}

// change is a text of a file, and what stands there instead. One is the habit: where a
// second layer of the product stands behind the one that is taken out, that goes as well.
type change struct{ file, old, now string }

// read parses a mutant's file: lines for people, `file`, `breaks`, and the texts in pairs,
// with `-- in FILE --` before one that is of another file.
func read(path string) (mutant, error) {
	m := mutant{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	text, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	head, rest, found := strings.Cut(string(text), "-- as it is --\n")
	rest, m.scenario, _ = strings.Cut(rest, "-- found by --\n")
	file := ""
	for pair := range strings.SplitSeq(rest, "-- as it is --\n") {
		old, now, both := strings.Cut(pair, "-- mutant --\n")
		if !found || !both {
			return m, fmt.Errorf("%s: want `-- as it is --` and `-- mutant --`", path)
		}
		now, next, _ := strings.Cut(now, "-- in ")
		m.changes = append(m.changes, change{file, strings.TrimSuffix(old, "\n"), strings.TrimSuffix(now, "\n")})
		if next != "" {
			file = strings.TrimSuffix(next, " --\n")
		}
	}
	for line := range strings.Lines(head) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "#":
			m.why = value
		case "file":
			m.file = value
			for i := range m.changes {
				m.changes[i].file = cmp.Or(m.changes[i].file, value)
			}
		case "breaks":
			m.row = value
		case "seed":
			m.seed = value
		}
	}
	return m, nil
}

// put gives the files with the bug in them, by their names.
func (m mutant) put() (map[string]string, error) {
	out := map[string]string{}
	for _, c := range m.changes {
		source, have := out[c.file]
		if !have {
			raw, err := os.ReadFile(c.file)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			source = string(raw)
		}
		n := strings.Count(source, c.old)
		switch {
		case n != 1 || c.old == "":
			return nil, fmt.Errorf("%s: its text is %d times in %s, want once: write it anew", m.name, n, c.file)
		case c.old == c.now:
			return nil, fmt.Errorf("%s: changes nothing by %q", m.name, c.old)
		}
		out[c.file] = strings.Replace(source, c.old, c.now, 1)
	}
	return out, nil
}

func all() ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(mutants, "*.txt"))
	if err != nil {
		return nil, err
	}
	var out []mutant
	for _, f := range files {
		m, err := read(f)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func main() {
	seeds := flag.Int("seeds", 300, "how many are played at most, of one")
	note := flag.Bool("note", false, "note in its file which seed has found it, to be the first that is played the next time")
	only := flag.String("only", "", "these alone, by commas")
	workers := flag.Int("workers", 2, "how many are tried at once")
	flag.Parse()
	if err := run(*seeds, max(*workers, 1), *note, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// trial is what became of one mutant.
type trial struct {
	mutant
	found string // "": it was not
	took  time.Duration
	err   error
}

func run(seeds, workers int, note bool, only string) error {
	list, err := all()
	if err != nil {
		return err
	}
	if only != "" {
		list = slices.DeleteFunc(list, func(m mutant) bool { return !slices.Contains(strings.Split(only, ","), m.name) })
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	began := time.Now()
	if err := compile(plain(dir)); err != nil {
		return err
	}
	todo, done := make(chan mutant, len(list)), make(chan trial)
	for _, m := range list {
		todo <- m
	}
	close(todo)
	for range workers {
		go func() {
			for m := range todo {
				start := time.Now()
				found, err := m.hunt(dir, seeds, note)
				done <- trial{mutant: m, found: found, took: time.Since(start), err: err}
			}
		}()
	}
	var alive []string
	byScenario := 0
	for range list { // when one is not found, the others are tried all the same
		t := <-done
		switch {
		case t.err != nil:
			alive, t.found = append(alive, t.name), "NOT TRIED: "+t.err.Error()
		case t.found == "":
			alive, t.found = append(alive, t.name), "NOT FOUND"
		case strings.HasPrefix(t.found, ownScenario):
			byScenario++
		}
		fmt.Printf("%-25s %-10s %4s  %.160s\n", t.name, t.row, t.took.Round(time.Second), t.found)
	}
	fmt.Printf("%d of %d mutants found in %s, %d of them by their own scenario\n", len(list)-len(alive), len(list), time.Since(began).Round(time.Second), byScenario)
	if len(alive) > 0 {
		slices.Sort(alive)
		return fmt.Errorf("these live on: %s", strings.Join(alive, ", "))
	}
	return nil
}

const ownScenario = "its scenario: "

var verdict = regexp.MustCompile(`(?m)^seed (\d+): .*$`)

// hunt builds the simulator with the bug and plays until it is found; "": it is not. Its own
// scenario is played first, and the seed that found it the last time: then as many as it
// takes, and no longer, so that a slow machine finds what a fast one does. What breaks
// without the bug too proves nothing.
func (m mutant) hunt(dir string, seeds int, note bool) (string, error) {
	program, err := m.build(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(program) }()
	if m.scenario != "" {
		file := filepath.Join(dir, m.name+".scenario")
		if err := os.WriteFile(file, []byte(m.scenario), 0o600); err != nil {
			return "", err
		}
		out, broke, err := play(program, "-scenario", file)
		if err != nil {
			return "", err
		}
		if broke && strings.HasPrefix(out, m.row+" at ") {
			_, without, err := play(plain(dir), "-scenario", file)
			if err != nil || !without {
				return ownScenario + strings.TrimSpace(out), err
			}
		}
	}
	first := uint64(1)
	if n, err := strconv.ParseUint(m.seed, 10, 64); err == nil {
		first = n
	}
	for last := first + uint64(seeds); first < last; {
		out, broke, err := play(program, "-seed", strconv.FormatUint(first, 10), "-seeds", strconv.FormatUint(last-first, 10), "-for", "1h", "-out", "")
		found := verdict.FindStringSubmatch(out)
		if err != nil || !broke || found == nil {
			return "", err
		}
		_, without, err := play(plain(dir), "-seed", found[1], "-seeds", "1", "-out", "")
		if err != nil {
			return "", err
		}
		if !without {
			if note && found[1] != m.seed {
				err = m.note(found[1])
			}
			return found[0], err
		}
		n, err := strconv.ParseUint(found[1], 10, 64)
		if err != nil {
			return "", err
		}
		first = n + 1
	}
	return "", nil
}

// note writes the seed into the mutant's file.
func (m mutant) note(seed string) error {
	path := filepath.Join(mutants, m.name+".txt")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, _ := strings.Cut(string(text), "-- as it is --\n")
	var lines []string
	for line := range strings.Lines(head) {
		if !strings.HasPrefix(line, "seed ") {
			lines = append(lines, line)
		}
	}
	head = strings.Join(lines, "") + "seed " + seed + "\n"
	return os.WriteFile(path, []byte(head+"-- as it is --\n"+rest), 0o644)
}

// play runs the simulator, and tells whether a row did not hold.
func play(program string, args ...string) (out string, broke bool, err error) {
	raw, err := exec.Command(program, args...).CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return string(raw), false, nil
	case ok && exit.ExitCode() == 1:
		return string(raw), true, nil
	default:
		return "", false, fmt.Errorf("playing: %w\n%s", err, raw)
	}
}

// build builds the simulator with the bug in it.
func (m mutant) build(dir string) (program string, err error) {
	files, err := m.put()
	if err != nil {
		return "", err
	}
	overlay, program := filepath.Join(dir, m.name+".json"), filepath.Join(dir, "play-"+m.name)
	replace := map[string]string{}
	for file, text := range files {
		changed := filepath.Join(dir, m.name+"-"+filepath.Base(file))
		path, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = changed
	}
	raw, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, raw, 0o600); err != nil {
		return "", err
	}
	return program, compile(program, "-overlay", overlay)
}

// plain is the simulator without a bug.
func plain(dir string) string { return filepath.Join(dir, "play") }

func compile(program string, args ...string) error {
	args = append(append([]string{"build"}, args...), "-o", program, "./chaos/sim/fleet/play")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w\n%s", err, out)
	}
	return nil
}

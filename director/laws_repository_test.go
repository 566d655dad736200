package director_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/divertdns/divert/director"
	"github.com/divertdns/divert/director/spec"
)

const root = ".."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tracked lists the files of the repository. A source archive has no list.
func tracked(t *testing.T) []string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skip("not a git checkout")
	}
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
}

// fenced gives the blocks of a language in a Markdown text.
func fenced(text, language string) []string {
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// TestMakefileLaw: `make help` lists all there is, and what documents and CI run
// exists.
func TestMakefileLaw(t *testing.T) {
	makefile := read(t, "Makefile")
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9][a-z0-9-]*):(.*)$`).FindAllStringSubmatch(makefile, -1) {
		known[m[1]] = true
		if !strings.Contains(m[2], " ## ") {
			t.Errorf("Makefile: target %s has no help", m[1])
		}
	}
	phony := regexp.MustCompile(`(?m)^\.PHONY:(.*)$`).FindStringSubmatch(makefile)
	for name := range strings.FieldsSeq(phony[1]) {
		if !known[name] {
			t.Errorf("Makefile: .PHONY names %s, which is no target", name)
		}
	}
	used := 0
	use := func(where, line string) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "make" {
			return
		}
		for _, w := range words[1:] {
			if strings.HasPrefix(w, "#") {
				break
			}
			if strings.Contains(w, "=") {
				continue
			}
			used++
			if !known[w] {
				t.Errorf("%s runs `make %s`, and there is no such target", where, w)
			}
		}
	}
	inline := regexp.MustCompile("`(make [^`]*)`")
	for _, doc := range []string{"README.md", "CONTRIBUTING.md", "deploy/README.md"} {
		text := read(t, doc)
		for _, block := range fenced(text, "sh") {
			for line := range strings.Lines(block) {
				use(doc, line)
			}
		}
		for _, m := range inline.FindAllStringSubmatch(text, -1) {
			use(doc, m[1])
		}
	}
	for line := range strings.Lines(read(t, ".ci/run")) {
		if _, command, ok := strings.Cut(line, ";"); ok && strings.HasPrefix(line, "step ") {
			use(".ci/run", command)
		}
	}
	if used < 10 {
		t.Errorf("found %d uses of make only", used)
	}
}

// TestScriptLaw: every script that the Makefile or CI runs is there and may be
// executed.
func TestScriptLaw(t *testing.T) {
	text := read(t, "Makefile") + read(t, ".ci/run")
	scripts := map[string]bool{".ci/run": true}
	for _, m := range regexp.MustCompile(`(?m)(?:^\t@?|; +)(\.ci/\w+|[a-z]+(?:/[a-z0-9]+)+)\b`).FindAllStringSubmatch(text, -1) {
		scripts[m[1]] = true
	}
	if len(scripts) < 3 {
		t.Fatalf("found only %v", scripts)
	}
	for path := range scripts {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Error(err)
		} else if info.Mode()&0o111 == 0 {
			t.Errorf("%s may not be executed", path)
		}
	}
}

// TestTopLevelLaw: the top level holds what it is to hold, and no program that was built.
func TestTopLevelLaw(t *testing.T) {
	fixed := strings.Fields("cmd director health dnsserver election deploy chaos go.mod go.sum README.md LICENSE CHANGELOG.md CONTRIBUTING.md Makefile")
	for _, path := range tracked(t) {
		top, _, _ := strings.Cut(path, "/")
		if top[0] != '.' && !slices.Contains(fixed, top) {
			t.Errorf("%s: %s is no part of the top level", path, top)
		}
	}
}

// TestNoPlaceLaw: nothing in the tree names a folder of the machine that it was
// written on.
func TestNoPlaceLaw(t *testing.T) {
	place := regexp.MustCompile(`(?:^|[\s"'` + "`" + `(=:])/(?:home|Users|root|work|workspace|mnt)/[\w.-]+`)
	for _, path := range tracked(t) {
		b, err := os.ReadFile(filepath.Join(root, path))
		if errors.Is(err, os.ErrNotExist) || bytes.IndexByte(b, 0) >= 0 {
			continue // deleted and not committed, or no text
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			if m := place.Find(line); m != nil {
				t.Errorf("%s:%d names %s", path, i+1, bytes.TrimSpace(m))
			}
		}
	}
}

// TestLinkLaw: a relative link in a document leads to something.
func TestLinkLaw(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)\)`)
	found := 0
	for _, path := range tracked(t) {
		if filepath.Ext(path) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(read(t, path), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if found == 0 {
		t.Error("found no link")
	}
}

// TestReadmeExamplesLaw: the examples of README.md are a spec and settings
// without a complaint, warnings included, by themselves and together.
func TestReadmeExamplesLaw(t *testing.T) {
	dir := t.TempDir()
	named := regexp.MustCompile(`^# (\S+)\n`)
	for _, block := range fenced(read(t, "README.md"), "yaml") {
		m := named.FindStringSubmatch(block)
		if m == nil {
			t.Errorf("an example does not begin with its file's name:\n%s", block)
			continue
		}
		path := filepath.Join(dir, m[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"api.yaml"} { // other settings than those
		if _, problems := spec.LoadSettings(filepath.Join(dir, name)); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
	}
	set, settings := checked(t, filepath.Join(dir, "director.yaml"))
	if len(set.Clusters) < 2 || len(set.Services) == 0 || len(settings.DNS.Listen) == 0 {
		t.Errorf("the examples say too little: %+v, %+v", set, settings)
	}
}

// TestDeployExamplesLaw: so are those of deploy/examples, where the settings are
// those of the roster's directors.
func TestDeployExamplesLaw(t *testing.T) {
	for _, fleet := range []string{"three-sites"} {
		files, err := filepath.Glob(filepath.Join(root, "deploy", "examples", fleet, "*.yaml"))
		if err != nil || len(files) < 3 {
			t.Fatalf("%s: found %v, %v", fleet, files, err)
		}
		for _, file := range files {
			set, settings := checked(t, file)
			want := strings.TrimSuffix(filepath.Base(file), ".yaml")
			if settings.Name != want {
				t.Errorf("%s is the settings of %s", file, settings.Name)
			}
			if len(set.Fleet.Directors) != len(files) {
				t.Errorf("%s: %d directors in the roster, %d settings files", fleet, len(set.Fleet.Directors), len(files))
			}
			listed := false
			for _, d := range set.Fleet.Directors {
				listed = listed || d.Name == settings.Name && d.Site == settings.Site
			}
			if !listed {
				t.Errorf("%s: %s of %s is not in the roster", fleet, settings.Name, settings.Site)
			}
		}
	}
}

// checked does what `divert check -c FILE` does.
func checked(t *testing.T, file string) (*spec.Set, spec.Settings) {
	t.Helper()
	settings, problems := spec.LoadSettings(file)
	set, _, more := spec.LoadWith(settings.Spec, director.CheckZone)
	if problems = append(problems, more...); set != nil {
		problems = append(problems, spec.CheckTogether(settings, set)...)
	}
	for _, p := range problems {
		t.Error(p)
	}
	if t.Failed() {
		t.FailNow()
	}
	return set, settings
}

// TestUnitLaw has systemd itself read the units, of which only the path of the
// binary is changed to one that exists.
func TestUnitLaw(t *testing.T) {
	const path = "deploy/systemd/divert.service"
	unit := read(t, path)
	sockets := read(t, "deploy/systemd/divert.socket")
	for _, line := range []string{
		"Restart=always", "Type=notify", "StateDirectory=divert", "ProtectSystem=strict", "NoNewPrivileges=yes",
		"AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("%s has no %s", path, line)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed, so nobody verifies the unit")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const binary = "ExecStart=/usr/local/bin/divert "
	if !strings.Contains(unit, binary) {
		t.Fatalf("%s does not start with %q", path, binary)
	}
	dir := t.TempDir()
	file, socketFile := filepath.Join(dir, "divert.service"), filepath.Join(dir, "divert.socket")
	if err := errors.Join(
		os.WriteFile(file, []byte(strings.ReplaceAll(unit, binary, "ExecStart="+self+" ")), 0o600),
		os.WriteFile(socketFile, []byte(sockets), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file, socketFile).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

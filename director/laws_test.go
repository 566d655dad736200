package director_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/divertdns/divert"

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps=false", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(out); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// within tells whether a package is a folder of ours or below it.
func within(pkg, folder string) bool {
	own := module + "/" + folder
	return pkg == own || strings.HasPrefix(pkg, own+"/")
}

// TestImportLaw holds DESIGN section 3: imports go one way, and each heavy
// dependency has its doors.
func TestImportLaw(t *testing.T) {
	all := packages(t)
	closed := []string{"health", "election", "dnsserver", "director/gossip"}
	doors := map[string][]string{
		"k8s.io/client-go":                     {"health/kube", "director/discovery"},
		"go.etcd.io/etcd":                      {"election/etcd", "director/store"},
		"github.com/hashicorp/memberlist":      {"director/gossip"},
		"github.com/miekg/dns":                 {"dnsserver", "health/probe"}, // what answers, and what asks
		"github.com/oschwald/maxminddb-golang": {"dnsserver/geo/mmdb"},
		"github.com/coreos/go-oidc":            {"director/oidc"},
		"github.com/open-policy-agent/opa":     {"director/policy"},
		"filippo.io/age":                       {"director/secret"},
	}
	for _, p := range all {
		for _, folder := range closed {
			if !within(p.ImportPath, folder) {
				continue
			}
			for _, dep := range p.Deps {
				if strings.HasPrefix(dep, module+"/") && !within(dep, folder) {
					t.Errorf("%s depends on %s: %s imports nothing of ours outside its own folder", p.ImportPath, dep, folder)
				}
			}
		}
		for heavy, allowed := range doors {
			for _, imp := range p.Imports {
				if imp != heavy && !strings.HasPrefix(imp, heavy+"/") {
					continue
				}
				if !slices.ContainsFunc(allowed, func(folder string) bool { return within(p.ImportPath, folder) }) {
					t.Errorf("%s imports %s, whose doors are %v", p.ImportPath, imp, allowed)
				}
			}
		}
		// The wiring is seen by main and by tests alone.
		for _, imp := range p.Imports {
			if imp == module+"/director" && !within(p.ImportPath, "cmd") && !within(p.ImportPath, "chaos") {
				t.Errorf("%s imports the wiring", p.ImportPath)
			}
		}
	}
}

// TestPureLaw holds DESIGN section 3: what is pure has no goroutine, I/O,
// logger, clock or global random.
func TestPureLaw(t *testing.T) {
	pure := []string{"health", "director/plan", "director/core", "director/steer", "director/access", "director/audit", "dnsserver/answer"}
	banned := map[string][]string{
		"log/slog": nil, "os": nil, "net/http": nil, "math/rand": nil, "math/rand/v2": nil, "crypto/rand": nil,
		"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
		"net":  {"Dial", "DialTimeout", "Listen", "ListenPacket", "ListenUDP", "LookupHost"},
	}
	for _, folder := range pure {
		files := parse(t, filepath.Join("..", folder))
		if len(files) == 0 {
			t.Errorf("%s: no files", folder)
		}
		for name, file := range files {
			names := map[string]string{}
			for _, imp := range file.Imports {
				path := strings.Trim(imp.Path.Value, `"`)
				if calls, bad := banned[path]; bad && calls == nil {
					t.Errorf("%s/%s imports %s: the package is pure", folder, name, path)
				}
				names[path[strings.LastIndex(path, "/")+1:]] = path
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s/%s starts a goroutine: the package is pure", folder, name)
				case *ast.SelectorExpr:
					if id, ok := n.X.(*ast.Ident); ok && slices.Contains(banned[names[id.Name]], n.Sel.Name) {
						t.Errorf("%s/%s uses %s.%s: the package is pure", folder, name, id.Name, n.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// TestNoInitLaw holds house rule 7: no init function anywhere.
func TestNoInitLaw(t *testing.T) {
	for _, p := range packages(t) {
		for name, file := range parse(t, p.Dir) {
			if strings.HasSuffix(name, ".pb.go") {
				continue
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s/%s has an init function", p.ImportPath, name)
				}
			}
		}
	}
}

// TestPackageDocLaw holds house rule 1: every package says what it owns and
// what it never does, and, main apart, has a DESIGN.md.
func TestPackageDocLaw(t *testing.T) {
	for _, p := range packages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module+"/")
		var text string
		for _, file := range parse(t, p.Dir) {
			text += file.Doc.Text()
		}
		if s := new(doc.Package).Synopsis(text); s == "" {
			t.Errorf("%s has no package doc", rel)
		}
		if !strings.Contains(text, "never") && !strings.Contains(text, "nothing") {
			t.Errorf("%s: the package doc does not say what it never does", rel)
		}
		if strings.Contains(rel, "internal/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(p.Dir, "DESIGN.md")); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s has no DESIGN.md", rel)
		}
	}
}

// parse reads a folder's Go files that are no tests.
func parse(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	set := token.NewFileSet()
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, filepath.Join(dir, e.Name()), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = f
	}
	return files
}

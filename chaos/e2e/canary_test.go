package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// canaries are secrets, by what they are, and every form in which one could be written
// somewhere. Twelve octets of one suffice: nothing else has them.
type canaries map[string][][]byte

func (c canaries) add(what string, secret []byte) {
	const most = 12
	head := secret[:most]
	numbers := make([]string, most)
	for i, octet := range head {
		numbers[i] = strconv.Itoa(int(octet))
	}
	c[what] = [][]byte{
		head,
		[]byte(hex.EncodeToString(head)), []byte(strings.ToUpper(hex.EncodeToString(head))),
		[]byte(strings.Join(numbers, " ")), []byte(strings.Join(numbers, ",")), // as Go prints octets, and JSON a list of numbers
	}
	for skip := range 3 { // wherever in a longer text it begins
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			c[what] = append(c[what], []byte(e.EncodeToString(secret[skip:skip+most])))
		}
	}
}

// in names the secrets that a text holds.
func (c canaries) in(text []byte) (found []string) {
	for _, what := range slices.Sorted(maps.Keys(c)) {
		if slices.ContainsFunc(c[what], func(form []byte) bool { return bytes.Contains(text, form) }) {
			found = append(found, what)
		}
	}
	return found
}

// TestCanary searches all that a fleet writes, says and keeps for what it must not: the
// gossip key and what is derived of it, secrets of transfers, keys of directors and of
// operators, secrets of the fleet. It finds each of them where it belongs, and nowhere else.
func TestCanary(t *testing.T) {
	dir := t.TempDir()
	tsig := filepath.Join(dir, "tsig.key")
	must(t, os.WriteFile(tsig, []byte(tsigSecret+"\n"), 0o600))
	r := start(t, local.Options{AlsoDNS: fmt.Sprintf("queryLog: {sample: 100%%}, transfers: {keys: [{name: secondary.example.net, secretFile: %q}]}", tsig)})
	r.settle()
	r.must(1, "keys", "operator", "new", filepath.Join(dir, "oncall.key"))
	r.must(1, "token", "create", "ci", "--role", "viewer", "--scope", "fleet", "--file", filepath.Join(dir, "ci.token"), "--reason", "canary")

	secrets := canaries{}
	home := filepath.Dir(filepath.Dir(r.DataDir(1)))
	belongs := map[string]string{ // file: what is in it
		tsig: "the secret of transfers", filepath.Join(dir, "oncall.key"): "the operator's key", filepath.Join(dir, "ci.token"): "the token",
	}
	for i := 1; i <= r.Directors(); i++ {
		belongs[r.GossipKeyFile(i)] = "the gossip key"
	}
	raw, err := os.ReadFile(r.GossipKeyFile(1))
	must(t, err)
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	must(t, err)
	secrets.add("the gossip key", key)
	cookies, err := hkdf.Key(sha256.New, key, nil, "divert dns cookies", sha256.Size)
	must(t, err)
	secrets.add("the key of cookies", cookies)
	shared, err := base64.StdEncoding.DecodeString(tsigSecret)
	must(t, err)
	secrets.add("the secret of transfers", shared)
	raw, err = os.ReadFile(filepath.Join(dir, "oncall.key"))
	must(t, err)
	block, _ := pem.Decode(raw)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(t, err)
	secrets.add("the operator's key", parsed.(ed25519.PrivateKey).Seed())
	raw, err = os.ReadFile(filepath.Join(dir, "ci.token"))
	must(t, err)
	token, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(raw)), "divert_"))
	must(t, err)
	secrets.add("the token", token)
	for i := 1; i <= r.Directors(); i++ {
		file := filepath.Join(r.DataDir(i), "identity.json")
		raw, err := os.ReadFile(file)
		must(t, err)
		var identity struct{ Seed []byte }
		must(t, json.Unmarshal(raw, &identity))
		what := "the key of " + local.Name(i)
		secrets.add(what, identity.Seed)
		readsWith, err := hkdf.Key(sha256.New, identity.Seed, nil, "divert secrets identity v1", 32)
		must(t, err)
		secrets.add("what "+local.Name(i)+" reads secrets with", readsWith)
		belongs[file] = what
	}
	// Secrets of the fleet: one that is given, and what is derived to read them with. They
	// are nowhere in the clear but where a person has them.
	fleet := filepath.Join(dir, "fleet.key")
	for n, file := range []string{fleet, fleet + ".next"} {
		what := fmt.Sprintf("version %d of the fleet's secret", n+1)
		secrets.add(what, drawn(t, file))
		belongs[file] = what
	}
	// What cannot be found where it is would be found nowhere.
	for file, what := range belongs {
		raw, err := os.ReadFile(file)
		must(t, err)
		if got := secrets.in(raw); !slices.Equal(got, []string{what}) {
			t.Fatalf("in %s were found %v, want %s: the search is blind", file, got, what)
		}
	}

	searched := 0
	search := func(where string, text []byte) {
		t.Helper()
		searched += len(text)
		for _, what := range secrets.in(text) {
			t.Errorf("%s holds %s", where, what)
		}
	}
	for _, args := range [][]string{
		{"keys", "operator", "add", "oncall", filepath.Join(dir, "oncall.key"), "--reason", "canary"},
		{"drain", "cluster/fra", "--for", "10m", "--reason", "canary"},
		{"status"},
		{"status", "-o", "json"},
		{"explain", "shop.example.org", "--client", "81.2.69.0/24"},
		{"explain", "shop.example.org", "-o", "json"},
		{"audit"},
		{"audit", "-o", "json"},
		{"director", "list", "-o", "json"},
		{"keys", "operator", "list", "-o", "json"},
		{"token", "list", "-o", "json"},
		{"whoami", "-o", "json", "--token-file", filepath.Join(dir, "ci.token")},
		{"store", "check", "-o", "json"},
		{"probe", "pay@nyc", "-o", "json"},
		{"undrain", "cluster/fra", "--now", "--reason", "canary"},
		{"keys", "rotate", "--reason", "canary"},
		{"secrets", "set", "cookie", "--file", fleet, "--reason", "canary"},
		{"secrets", "list", "-o", "json"},
		{"secrets", "set", "tsig/other.example.net", "--file", fleet + ".next", "--reason", "canary", "-o", "json"},
		{"secrets", "list"},
		{"audit", "-o", "json"},
		{"store", "check", "-o", "json"},
		{"backup", filepath.Join(dir, "backup")},
	} {
		out, code := r.divert(1, args...)
		if code != 0 && args[0] != "store" {
			t.Errorf("divert %s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
		search("the output of divert "+strings.Join(args, " "), []byte(out))
	}
	// Turned over, too, by one that is given and by one that is drawn.
	r.inUse("cookie", 1)
	search("the output of divert secrets set", []byte(r.must(2, "secrets", "set", "cookie", "--file", fleet+".next", "--reason", "canary")))
	r.inUse("cookie", 2)
	search("the output of divert secrets remove", []byte(r.must(2, "secrets", "remove", "cookie", "--version", "1", "--reason", "canary")))
	search("the output of divert secrets rotate", []byte(r.must(1, "secrets", "rotate", "cookie", "--reason", "canary")))
	r.inUse("cookie", 3)
	search("the output of divert backup", []byte(r.must(1, "backup", filepath.Join(dir, "backup.secrets"))))
	// The key that was turned to is as secret, and was on its way over the network.
	raw, err = os.ReadFile(r.GossipKeyFile(1))
	must(t, err)
	turned, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || bytes.Equal(turned, key) {
		t.Fatalf("the gossip key was not turned over: %v", err)
	}
	secrets.add("the gossip key turned to", turned)
	for i := 1; i <= r.Directors(); i++ {
		for _, path := range getRoutes(t) {
			search(local.Name(i)+"'s answer to "+path, r.get(i, path))
		}
	}
	for _, name := range []string{"etcd", "d1", "d2", "d3"} {
		must(t, r.Stop(name)) // what it only now writes counts
		log, err := r.Log(name)
		must(t, err)
		if len(log) == 0 && name != "etcd" {
			t.Errorf("%s has no log", name)
		}
		search("the log of "+name, log)
	}
	// All that is on a disk: plans, spec, votes, history, the store itself, the backup.
	files := 0
	for _, folder := range []string{home, dir} {
		must(t, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || belongs[path] != "" {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			search(path, raw)
			return nil
		}))
	}
	if files < 20 || searched < 1<<20 {
		t.Errorf("searched %d files and %d octets only", files, searched)
	}
}

// getRoutes lists the paths that a director answers, with what each wants to be asked: by
// the source of its table, so that a new one is asked, too.
func getRoutes(t *testing.T) (out []string) {
	t.Helper()
	asked := map[string]string{
		"/v1/explain": "?host=shop.example.org", "/v1/backup": "?local=true", "/v1/audit": "?limit=1000", "/v1/can": "?action=drain",
	}
	sources, err := filepath.Glob("../../director/api/*.go")
	must(t, err)
	seen := map[string]bool{}
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(file)
		must(t, err)
		for _, m := range regexp.MustCompile(`"(/v1/[a-z0-9/-]+|/metrics|/healthz|/readyz|/openapi[a-z.]*)"`).FindAllSubmatch(raw, -1) {
			if path := string(m[1]); !seen[path] {
				seen[path] = true
				out = append(out, path+asked[path])
			}
		}
	}
	if len(out) < 15 {
		t.Fatalf("found only the routes %v", out)
	}
	return out
}

// get asks a director for a path over its socket; of what does not end, what comes first.
func (r *rig) get(i int, path string) []byte {
	r.t.Helper()
	client := overSocket(r.Socket(i))
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://divert" + path)
	if err != nil {
		r.t.Errorf("%s: %v", path, err)
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusMethodNotAllowed {
		text, _ := io.ReadAll(resp.Body)
		r.t.Errorf("%s of %s: %s %s: teach getRoutes how it is asked", path, local.Name(i), resp.Status, text)
		return text
	}
	time.AfterFunc(3*time.Second, func() { resp.Body.Close() })
	text, _ := io.ReadAll(resp.Body)
	return text
}

// overSocket is an HTTP client of a unix socket.
func overSocket(path string) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

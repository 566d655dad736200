package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestEnrolToken: a director that holds a token comes into the roster by itself; the token
// is used up by it, is in no log and no plan, and does not bring it back once it is removed.
func TestEnrolToken(t *testing.T) {
	long(t)
	r := start(t, local.Options{Clusters: local.DefaultSites()[:2], Spares: 1})
	r.settle()
	text := r.must(1, "director", "token", "create", "--name", "d4", "--reason", "fourth", "--for", "10m")
	token := ""
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "divert-enrol-") {
			token = line
		}
	}
	if list := r.must(2, "director", "token", "list"); token == "" || !strings.Contains(list, "d4") {
		t.Fatalf("token %q, list:\n%s", token, list)
	}
	file := filepath.Join(filepath.Dir(r.SettingsFile(4)), "enrol.token")
	must(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	raw, err := os.ReadFile(r.SettingsFile(4))
	must(t, err)
	must(t, os.WriteFile(r.SettingsFile(4), fmt.Appendf(raw, "\nenrol: {tokenFile: %s}\n", file), 0o600))
	must(t, r.Start(t.Context(), "d4"))
	standing := func(want string) func() error {
		return func() error {
			s, err := r.status(1)
			if got := directorIn(s, "d4").Standing; err == nil && got != want {
				err = fmt.Errorf("d4 is %q", got)
			}
			return err
		}
	}
	r.until(30*time.Second, "d4 comes in by its token", standing("active"))
	if list := r.must(2, "director", "token", "list"); !strings.Contains(list, "there are none") {
		t.Errorf("the token is not used up:\n%s", list)
	}
	must(t, r.Stop("d4"))
	r.must(1, "director", "remove", "d4", "--reason", "over")
	must(t, r.Start(t.Context(), "d4"))
	r.holds(8*time.Second, "it does not come back by the same token", standing("removed"))
	for i := 1; i <= 4; i++ {
		log, _ := r.Log(local.Name(i))
		if strings.Contains(string(log), token) {
			t.Errorf("the log of %s holds the token", local.Name(i))
		}
	}
	for _, text := range []string{r.must(1, "status", "-o", "json"), r.must(1, "audit", "-o", "json")} {
		if strings.Contains(text, token) {
			t.Error("a person who looks sees the token")
		}
	}
}

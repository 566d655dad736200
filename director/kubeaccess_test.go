package director

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// accounts is a fake API server that knows one ServiceAccount's token, while it is not away.
func accounts(t *testing.T, token string, away *atomic.Bool) (kubeconfig string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got struct {
			Spec struct {
				Token     string
				Audiences []string
			}
		}
		switch {
		case away.Load():
			http.Error(w, "away", http.StatusInternalServerError)
		case json.NewDecoder(r.Body).Decode(&got) != nil || r.Header.Get("Authorization") != "Bearer reviewer":
			http.Error(w, "what is this?", http.StatusTeapot)
		case got.Spec.Token != token:
			_, _ = fmt.Fprint(w, `{"kind":"TokenReview","status":{"error":"invalid bearer token"}}`)
		default:
			_, _ = fmt.Fprintf(w, `{"kind":"TokenReview","status":{"authenticated":true,"audiences":[%q],"user":{"username":"system:serviceaccount:ops:drills","groups":["system:serviceaccounts:ops"]}}}`, got.Spec.Audiences[0])
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	write("kubeconfig", fmt.Sprintf(`{"current-context": "it", "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
"clusters": [{"name": "it", "cluster": {"server": %q, "certificate-authority": "ca.pem"}}], "users": [{"name": "me", "user": {"token": "reviewer"}}]}`, server.URL))
	return filepath.Join(dir, "kubeconfig")
}

// TestServiceAccountCommands: a ServiceAccount commands what the settings grant it, under its
// own name in plan and audit log, also while another says that it is nobody; while its API
// server is away it is told so, and answers and people's commands go on.
func TestServiceAccountCommands(t *testing.T) {
	token := func(mark string) string {
		payload := fmt.Sprintf(`{"iss":"https://fra","aud":["divert"],"exp":%d,"jti":%q}`, time.Now().Add(time.Hour).Unix(), mark)
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + "." + base64.RawURLEncoding.EncodeToString([]byte("canary-"+mark))
	}
	var away atomic.Bool
	var log syncBuffer
	good := token("good")
	d, _ := aloneBeside(t, slog.New(slog.NewTextHandler(&log, nil)), soloSpec(), func(s *spec.Settings) {
		s.API.Kubernetes = []spec.APICluster{{Name: "fra", Kubeconfig: accounts(t, good, &away), Audiences: []string{"divert"}}}
		s.API.Grants = []access.Grant{
			{Who: "kube:fra/system:serviceaccount:ops:drills", Role: access.Operator, Scopes: []access.Scope{{Kind: access.Cluster, Glob: "nyc"}}},
		}
	})
	client := func(text string) *api.Client {
		t.Helper()
		c, err := api.NewClientWith("unix:"+filepath.Join(d.settings.DataDir, api.SocketName), api.Credentials{Token: text})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := client(good)
	const who = "kube:fra/system:serviceaccount:ops:drills"
	if got, err := c.Whoami(t.Context()); err != nil || got.Who != who || got.Method != "kube" || len(got.Grants) != 1 || fmt.Sprint(got.Groups) != "[group:kube:fra/system:serviceaccounts:ops]" {
		t.Errorf("got %+v, %v", got, err)
	}
	for scope, want := range map[string]bool{"cluster/nyc": true, "cluster/fra": false} {
		if got, err := c.Can(t.Context(), "drain", scope); err != nil || got.Can != want {
			t.Errorf("%s: got %+v, %v", scope, got, err)
		}
	}
	wish := func(scope string) core.Command {
		return core.Command{ID: newID(), Verb: core.Drain, Scope: scope, Reason: "a drill", For: time.Hour, LastResort: true}
	}
	if out, err := c.Do(t.Context(), wish("cluster/fra"), 10*time.Second, nil); err != nil || out.Code != 1 || !strings.Contains(out.Error, who+" is operator of cluster/nyc") {
		t.Errorf("elsewhere: %+v, %v", out, err)
	}
	if out, err := c.Do(t.Context(), wish("cluster/nyc"), 10*time.Second, nil); err != nil || out.Code != 0 || out.Override.Author != who {
		t.Errorf("in its scope: %+v, %v", out, err)
	}
	if records, err := d.Audit(t.Context(), 0, 1); err != nil || len(records) != 1 || records[0].Who != who {
		t.Errorf("the audit log has %+v, %v", records, err)
	}
	if _, err := client(token("other")).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "cluster fra does not know this token") {
		t.Errorf("another token: %v", err)
	}
	away.Store(true)
	if _, err := client(token("new")).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "the API server of cluster fra did not answer: status 500") {
		t.Errorf("while it is away: %v", err)
	}
	if _, err := client("").Status(t.Context()); err != nil {
		t.Errorf("a person, while it is away: %v", err)
	}
	for _, mark := range []string{"good", "other", "new"} {
		if text := token(mark); strings.Contains(log.String(), text[strings.LastIndex(text, ".")+1:]) {
			t.Errorf("the log has the token %q", mark)
		}
	}
	eventually(t, "the log that says that the API server is away", func() bool { return strings.Contains(log.String(), "reviews no tokens") })
}

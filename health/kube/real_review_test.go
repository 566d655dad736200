package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// token has a token of a ServiceAccount made, as a projected volume has.
func (k *realCluster) token(account, audience string) string {
	k.t.Helper()
	status, body := k.call(http.MethodPost, "/api/v1/namespaces/default/serviceaccounts/"+account+"/token",
		fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[%q],"expirationSeconds":600}}`, audience))
	var got struct{ Status struct{ Token string } }
	if err := json.Unmarshal([]byte(body), &got); status != http.StatusCreated || err != nil || got.Status.Token == "" {
		k.t.Fatalf("no token of %s: %d %s", account, status, body)
	}
	return got.Status.Token
}

// reviewerRoles applies who may review, as deploy ships it, to the user of a token.
func (k *realCluster) reviewerRoles() {
	k.t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kubernetes", "reviewer.yaml"))
	if err != nil {
		k.t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(data), "\n---\n") {
		if !strings.Contains(doc, "kind: ClusterRoleBinding") {
			continue
		}
		object, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			k.t.Fatal(err)
		}
		const subject = `{"kind":"ServiceAccount","name":"divert-reviewer","namespace":"divert"}`
		if !strings.Contains(string(object), subject) {
			k.t.Fatalf("no %s in %s", subject, object)
		}
		k.must(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", strings.ReplaceAll(string(object), subject,
			`{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"observer"}`))
		return
	}
	k.t.Fatal("deploy ships no binding of the reviewer")
}

// TestRealKubeReview has a real API server review the tokens of its ServiceAccounts, with the
// rights that deploy ships: those for another audience, and of accounts that were deleted, are
// nobody's; without the rights, and while it is stopped, there is no answer.
func TestRealKubeReview(t *testing.T) {
	k := newRealCluster(t)
	k.ready()
	k.must(http.MethodPost, "/api/v1/namespaces/default/serviceaccounts", `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"drills"}}`)
	good, other := k.token("drills", "divert"), k.token("drills", "vault")
	r, err := NewReviewer(k.kubeconfig("looks"), "", askTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ask := func(token string) (Reviewed, error) { return r.Review(t.Context(), token, []string{"divert"}) }
	if _, err := ask(good); err == nil || !strings.Contains(err.Error(), "system:auth-delegator") {
		t.Errorf("without the right: %v", err)
	}
	k.reviewerRoles()
	eventually(t, func() bool { _, err := ask(good); return err == nil }) // RBAC is cached there
	got, err := ask(good)
	if err != nil || !got.Authenticated || got.Name != "system:serviceaccount:default:drills" || !slices.Equal(got.Audiences, []string{"divert"}) ||
		!slices.Contains(got.Groups, "system:serviceaccounts:default") {
		t.Errorf("known: got %+v, %v", got, err)
	}
	for name, token := range map[string]string{"for another audience": other, "tampered with": good[:len(good)-8] + "AAAAAAAA", "none": "a.b.c"} {
		if got, err := ask(token); err != nil || got.Authenticated {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	// A user that is no account is told as what it is, which its caller refuses.
	if got, err := ask("nobody"); err != nil || got.Authenticated && strings.HasPrefix(got.Name, "system:serviceaccount:") {
		t.Errorf("a static token: got %+v, %v", got, err)
	}
	k.api.signal(syscall.SIGSTOP)
	if _, err := ask(good); err == nil || err.Error() != "timeout" {
		t.Errorf("stopped: %v", err)
	}
	k.api.signal(syscall.SIGCONT)
	eventually(t, func() bool { got, err := ask(good); return err == nil && got.Authenticated })
	k.must(http.MethodDelete, "/api/v1/namespaces/default/serviceaccounts/drills", "")
	eventually(t, func() bool { got, err := ask(good); return err == nil && !got.Authenticated })
}

// eventually waits until something holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatal("it does not come to hold")
}

package kube

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// reviewing is a fake API server that reviews tokens, or does what a fault is.
type reviewing struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

// said answers with a status and a body.
func said(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func newReviewing(t *testing.T) *reviewing {
	t.Helper()
	s := &reviewing{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		var got struct {
			APIVersion, Kind string
			Spec             struct {
				Token     string
				Audiences []string
			}
		}
		if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer secret" ||
			json.NewDecoder(r.Body).Decode(&got) != nil || got.APIVersion != "authentication.k8s.io/v1" || got.Kind != "TokenReview" || got.Spec.Token != "a.b.c" || fmt.Sprint(got.Spec.Audiences) != "[divert]" {
			http.Error(w, "what is this?", http.StatusTeapot)
			return
		}
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *reviewing) kubeconfig(t *testing.T, cluster string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	write(t, dir, "token", "secret\n")
	return write(t, dir, "kubeconfig", fmt.Sprintf(`{"current-context": "it", "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
"clusters": [{"name": "it", "cluster": {"server": %q, %s}}], "users": [{"name": "me", "user": {"tokenFile": "token"}}]}`, s.URL, cluster))
}

const knownReview = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"audiences":["divert"],
"user":{"username":"system:serviceaccount:ops:drills","uid":"1","groups":["system:serviceaccounts","system:serviceaccounts:ops"],"extra":{"a":["b"]}}}}`

// TestReview: what an API server says of a token comes through; whatever else it does is an
// error that says so, and never what was asked.
func TestReview(t *testing.T) {
	s := newReviewing(t)
	r, err := NewReviewer(s.kubeconfig(t, `"certificate-authority": "ca.pem"`), "", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		known  bool
		err    string
	}{
		{"known", said(201, knownReview), true, ""},
		{"unknown", said(201, `{"kind":"TokenReview","status":{"error":"a.b.c is no good","user":{"username":"root"},"audiences":["divert"]}}`), false, ""},
		{"the kubeconfig's own credentials are refused", said(401, knownReview), false, "does not know the credentials of the kubeconfig"},
		{"without the right", said(403, knownReview), false, "system:auth-delegator"},
		{"overloaded", said(429, knownReview), false, "status 429"},
		{"broken", said(500, knownReview), false, "status 500"},
		{"something else", said(200, `{"kind":"Status","status":{"authenticated":true}}`), false, "no TokenReview"},
		{"no JSON", said(200, "a.b.c"), false, "no TokenReview"},
		{"without end", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, false, "more than"},
		{"sent elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL, http.StatusTemporaryRedirect) }, false, "status 307"},
		{"hung up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, "closed without an answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.answer.Store(&tc.answer)
			before := s.asked.Load()
			got, err := r.Review(t.Context(), "a.b.c", []string{"divert"})
			if (err == nil) != (tc.err == "") || err != nil && (!strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "a.b.c")) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if got.Authenticated != tc.known || (got.Name != "") != tc.known {
				t.Errorf("got %+v", got)
			}
			if tc.known && (got.Name != "system:serviceaccount:ops:drills" || len(got.Groups) != 2 || fmt.Sprint(got.Audiences) != "[divert]") {
				t.Errorf("got %+v", got)
			}
			if n := s.asked.Load() - before; n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestReviewAway: who does not answer ends one review, in time; a server that nobody
// vouches for is asked nothing.
func TestReviewAway(t *testing.T) {
	s := newReviewing(t)
	stuck := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	s.answer.Store(&stuck)
	within := func(patience time.Duration, kubeconfig string) error {
		t.Helper()
		r, err := NewReviewer(kubeconfig, "", patience)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = r.Review(t.Context(), "a.b.c", []string{"divert"})
		return err
	}
	review := func(kubeconfig string) error {
		t.Helper()
		return within(30*time.Second, kubeconfig)
	}
	if err := within(50*time.Millisecond, s.kubeconfig(t, `"certificate-authority": "ca.pem"`)); err == nil || err.Error() != "timeout" {
		t.Errorf("hangs: got %v", err)
	}
	before := s.asked.Load()
	if err := review(s.kubeconfig(t, `"insecure-skip-tls-verify": true`)); err == nil || !strings.Contains(err.Error(), "name its certificate-authority") {
		t.Errorf("insecure: got %v", err)
	}
	if err := review(s.kubeconfig(t, `"tls-server-name": ""`)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody knows: got %v", err)
	}
	if n := s.asked.Load() - before; n != 0 {
		t.Errorf("%d questions reached a server that nobody vouches for", n)
	}
	gone := s.kubeconfig(t, `"certificate-authority": "ca.pem"`)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := review(gone); err == nil || !strings.Contains(err.Error(), "kubeconfig") {
		t.Errorf("no kubeconfig: got %v", err)
	}
	if _, err := NewReviewer("", "", 0); err == nil {
		t.Error("one without a kubeconfig is made")
	}
}

// FuzzReview: whatever an API server answers is a review, or an error; nobody is somebody
// unless it says so.
func FuzzReview(f *testing.F) {
	f.Add([]byte(knownReview))
	f.Add([]byte(`{"kind":"TokenReview","status":{"authenticated":false,"user":{"username":"root"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decodeReview(raw)
		if (err != nil || !got.Authenticated) && (got.Name != "" || got.Groups != nil || got.Audiences != nil) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

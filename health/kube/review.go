package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// maxReview is how many octets of a review are read: a name, groups, audiences.
const maxReview = 64 << 10

// Reviewer asks one API server whose a bearer's token is (authentication.k8s.io/v1
// TokenReview). It keeps nothing of what it asks or is told.
type Reviewer struct {
	kubeconfig, context string
	timeout             time.Duration

	mu     sync.Mutex // over access, which it makes anew where the kubeconfig has changed
	access access
}

// Reviewed is what an API server says of a token. The zero Reviewed is of one that it does
// not know.
type Reviewed struct {
	Authenticated bool
	Name          string   // system:serviceaccount:NAMESPACE:NAME of a ServiceAccount
	Groups        []string // as the API server says them
	Audiences     []string // of those asked for, whom the token is for
}

// NewReviewer makes a Reviewer that asks the server of a kubeconfig, which it reads each
// time, with what the kubeconfig gives. Each review may take so long.
func NewReviewer(kubeconfig, context string, timeout time.Duration) (*Reviewer, error) {
	a, err := newAccess(Options{Kubeconfig: kubeconfig, Context: context})
	if err != nil {
		return nil, err
	}
	return &Reviewer{kubeconfig: kubeconfig, context: context, timeout: timeout, access: a}, nil
}

// Review asks whose a token is that is for one of some audiences. An error says why there
// is no answer, and never what was asked.
func (r *Reviewer) Review(ctx context.Context, token string, audiences []string) (Reviewed, error) {
	c, err := r.client()
	if err != nil {
		return Reviewed{}, err
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
		"spec": map[string]any{"token": token, "audiences": audiences},
	})
	if err != nil {
		return Reviewed{}, errors.New("the review cannot be written")
	}
	raw, err := c.post(ctx, "apis/authentication.k8s.io/v1/tokenreviews", body)
	if err != nil {
		return Reviewed{}, err
	}
	return decodeReview(raw)
}

// client is how the server is reached, by what the kubeconfig holds now.
func (r *Reviewer) client() (*client, error) {
	m, err := opener(anywhere).load(r.kubeconfig, r.context)
	if err != nil {
		return nil, err
	}
	if m.cluster.InsecureSkipTLSVerify {
		return nil, fmt.Errorf("%s has insecure-skip-tls-verify, and whoever stands between could say who anybody is: name its certificate-authority instead", r.kubeconfig)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.access.adopt(m, r.timeout); err != nil {
		return nil, err
	}
	return r.access.clients[0], nil
}

// post sends an object and gives what is answered, of a bounded length.
func (c *client) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("cannot be asked")
	}
	request.Header.Set("Content-Type", plainJSON)
	request.Header.Set("Accept", plainJSON)
	response, err := c.http.Do(request)
	if err != nil {
		c.http.CloseIdleConnections() // the next must not hang on a connection that has died
		return nil, errors.New(failure(err).reason)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxReview+1))
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("it does not know the credentials of the kubeconfig (status 401)")
	case response.StatusCode == http.StatusForbidden:
		return nil, errors.New("the kubeconfig's user may not create tokenreviews (status 403): bind it to the ClusterRole system:auth-delegator")
	case response.StatusCode != http.StatusCreated && response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d", response.StatusCode)
	case err != nil:
		return nil, errors.New(failure(err).reason)
	case len(raw) > maxReview:
		return nil, fmt.Errorf("an answer of more than %d bytes", maxReview)
	}
	return raw, nil
}

// decodeReview reads a TokenReview as an API server answers it. What it says went wrong is
// not told on: it may quote the token.
func decodeReview(raw []byte) (Reviewed, error) {
	var got struct {
		Kind   string `json:"kind"`
		Status struct {
			Authenticated bool     `json:"authenticated"`
			Audiences     []string `json:"audiences"`
			User          struct {
				Username string   `json:"username"`
				Groups   []string `json:"groups"`
			} `json:"user"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &got); err != nil || got.Kind != "TokenReview" {
		return Reviewed{}, errors.New("an answer that is no TokenReview")
	}
	if !got.Status.Authenticated {
		return Reviewed{}, nil
	}
	return Reviewed{Authenticated: true, Name: got.Status.User.Username, Groups: got.Status.User.Groups, Audiences: got.Status.Audiences}, nil
}

// Close lets go of connections that are open.
func (r *Reviewer) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.access.drop()
}

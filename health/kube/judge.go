package kube

import (
	"fmt"
	"strings"
)

// State is what one API server shows from outside.
type State uint8

// The states of an API server.
const (
	Unknown    State = iota // it could not be asked: says nothing of it
	Alive                   // lives, and so does its storage
	Restarting              // lives and is not ready: starting, or draining before it ends
	NoStorage               // lives without its storage
	Gone                    // does not answer, or answers that it does not live
)

func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Restarting:
		return "restarting"
	case NoStorage:
		return "without storage"
	case Gone:
		return "gone"
	default:
		return "unknown"
	}
}

// answer is what came of one question.
type answer struct {
	status int      // 0: none came
	failed []string // checks that the server says have failed
	reason string   // why no status came
	void   bool     // none came, and the fault may be our own
}

func (a answer) ok() bool { return a.status == 200 }

// denied: it lives, but not for us.
func (a answer) denied() bool { return a.status == 401 || a.status == 403 }

func (a answer) String() string {
	switch {
	case a.status == 0:
		return a.reason
	case len(a.failed) > 0:
		return fmt.Sprintf("status %d (%s)", a.status, strings.Join(a.failed, ", "))
	default:
		return fmt.Sprintf("status %d", a.status)
	}
}

// judge reads the three answers side by side, as KUBERNETES.md section 2 gives
// them. An API server without its storage answers /livez late or never, so
// that alone would look like one that has died; without the etcd check it
// answers at once. Not ready and alive is how a rolling restart looks.
func judge(livez, noEtcd, readyz answer) (State, string) {
	switch {
	case livez.ok() && readyz.ok():
		return Alive, ""
	case livez.ok():
		return Restarting, "lives and is not ready: " + readyz.String()
	case noEtcd.ok() && livez.denied():
		return Unknown, "credentials refused: " + livez.String()
	case noEtcd.ok() && livez.status == 0 && livez.void:
		return Unknown, livez.reason
	case noEtcd.ok():
		return NoStorage, "storage (etcd) does not answer: /livez " + livez.String() + ", without its etcd check 200"
	case noEtcd.denied():
		return Unknown, "credentials refused: " + noEtcd.String()
	case noEtcd.status == 0 && noEtcd.void:
		return Unknown, noEtcd.reason
	case noEtcd.status == 0:
		return Gone, noEtcd.reason
	default:
		return Gone, "/livez " + noEtcd.String()
	}
}

// sum says what the endpoints mean together. One API server that works is a
// control plane that works; what is wrong with the others is told all the same.
// *Unknown* never impairs: a lost management link is not a failure (S17).
func sum(endpoints []Endpoint) (impaired bool, reason string) {
	working, lost, unknown, storage := 0, 0, 0, 0
	var parts []string
	for _, e := range endpoints {
		switch e.State {
		case Alive, Restarting:
			working++
		case NoStorage:
			storage++
			lost++
		case Gone:
			lost++
		default:
			unknown++
		}
		if e.Reason != "" {
			parts = append(parts, e.URL+" "+e.State.String()+": "+e.Reason)
		}
	}
	detail := strings.Join(parts[:min(len(parts), 3)], "; ")
	if more := len(parts) - 3; more > 0 {
		detail += fmt.Sprintf("; and %d more", more)
	}
	switch {
	case len(parts) == 0:
		return false, ""
	case working > 0 && lost == 0 && unknown == 0:
		return false, "rolling restart: " + detail
	case working > 0:
		return false, fmt.Sprintf("%d of %d API servers work: %s", working, len(endpoints), detail)
	case lost == 0:
		return false, "not observed: " + detail
	case storage == lost && unknown == 0:
		return true, "storage (etcd) gone: " + detail
	case storage > 0:
		return true, "no API server with storage: " + detail
	default:
		return true, "API server gone: " + detail
	}
}

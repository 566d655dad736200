package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

var binary string // the divert that is tried

// TestMain builds the binary once. DIVERT_E2E is off, smoke (the default) or
// long.
func TestMain(m *testing.M) {
	if level() == "off" {
		fmt.Println("end-to-end suite: off (DIVERT_E2E=off)")
		return
	}
	dir, err := os.MkdirTemp("", "divert-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "divert")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/divert")
	build.Stderr = os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func level() string {
	if v := os.Getenv("DIVERT_E2E"); v != "" {
		return v
	}
	return "smoke"
}

// long skips a test that only the long suite runs.
func long(t *testing.T) {
	t.Helper()
	if level() != "long" {
		t.Skip("in the long suite only: make e2e")
	}
}

// rig is a running fleet and what a test asks of it.
type rig struct {
	*local.Fleet
	t       *testing.T
	clients map[int]*api.Client // one a director: each keeps a connection
}

// start runs a fleet until the test ends.
func start(t *testing.T, o local.Options) *rig {
	t.Helper()
	if runtimeHasOneLoopback() {
		t.Skip("loopback has only 127.0.0.1 here: the fleet needs an address for each part")
	}
	o.Binary, o.Dir, o.Net = binary, t.TempDir(), claim(t)
	fleet, err := local.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- fleet.Run(ctx, func() { close(ready) }) }()
	r := &rig{Fleet: fleet, t: t, clients: map[int]*api.Client{}}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("fleet: %v", err)
		}
		if t.Failed() {
			r.logs()
		}
		nothingLeft(t, o.Dir)
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return r
}

// claim takes a part of loopback for one fleet, until the test ends: other suites
// may run on the same machine.
func claim(t *testing.T) byte {
	t.Helper()
	for i := range 180 {
		n := byte(60 + (os.Getpid()+i)%180)
		l, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, n, 0, 1}), 7900).String())
		if err == nil {
			t.Cleanup(func() { l.Close() })
			return n
		}
	}
	t.Fatal("all parts of loopback are taken")
	return 0
}

// nothingLeft checks that neither a process nor a goroutine outlives the fleet
// (L5).
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte(dir)) {
			t.Errorf("left behind: process %s, %s", filepath.Base(filepath.Dir(path)), bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "/chaos/local.") || strings.Contains(stack, "/chaos/relay.") {
			t.Errorf("left behind: a goroutine\n%s", stack)
		}
	}
}

func runtimeHasOneLoopback() bool {
	l, err := net.Listen("tcp", "127.60.0.1:0")
	if err == nil {
		l.Close()
	}
	return err != nil
}

// logs shows the ends of the directors' logs.
func (r *rig) logs() {
	for i := 1; i <= r.Directors(); i++ {
		b, _ := r.Log(local.Name(i))
		if len(b) > 12000 {
			b = b[len(b)-12000:]
		}
		r.t.Logf("--- log of %s\n%s", local.Name(i), b)
	}
}

// on is the same fleet for a subtest, which fails by itself.
func (r *rig) on(t *testing.T) *rig { return &rig{Fleet: r.Fleet, t: t, clients: r.clients} }

// settle waits until every director is enrolled, heard, and at one plan, and
// has seen a full round of healthy clusters.
func (r *rig) settle() {
	r.t.Helper()
	r.settleBut()
}

// settleBut is settle where the health of some clusters does not matter.
func (r *rig) settleBut(unwell ...string) {
	r.t.Helper()
	r.until(40*time.Second, "the fleet settles", func() error {
		for i := 1; i <= r.Directors(); i++ {
			s, err := r.status(i)
			if err != nil {
				return err
			}
			// One revision a join and one a folder that is noted: before, a folder that
			// changes is a newcomer's, and waits for a person (S19).
			if s.Plan != nil && s.Plan.Revision < uint64(2*r.Directors()-1) {
				return fmt.Errorf("%s is at revision %d: not every folder is noted yet", local.Name(i), s.Plan.Revision)
			}
			if s.Plan == nil {
				return fmt.Errorf("%s has no plan: %s", local.Name(i), s.Waiting)
			}
			for _, d := range s.Directors {
				if d.Key == "" || !d.Heard || d.Plan != fmt.Sprintf("%d.%d", s.Plan.Epoch, s.Plan.Revision) || d.DNS != "ok" {
					return fmt.Errorf("%s sees %s: heard %v, plan %s, dns %s, key %q", local.Name(i), d.Name, d.Heard, d.Plan, d.DNS, d.Key)
				}
			}
			for _, c := range s.Clusters {
				if c.Health != "healthy" && !slices.Contains(unwell, c.Name) {
					return fmt.Errorf("%s sees cluster %s %s", local.Name(i), c.Name, c.Health)
				}
			}
		}
		return nil
	})
}

// until waits for a condition.
func (r *rig) until(within time.Duration, what string, check func() error) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// holds checks a condition again and again for a while.
func (r *rig) holds(during time.Duration, what string, check func() error) {
	r.t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if err := check(); err != nil {
			r.t.Fatalf("%s: %v", what, err)
		}
	}
}

func (r *rig) status(i int) (api.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return r.client(i).Status(ctx)
}

// client asks the i-th director over its socket.
func (r *rig) client(i int) *api.Client {
	r.t.Helper()
	if c := r.clients[i]; c != nil {
		return c
	}
	c, err := api.NewClient("unix:" + r.Socket(i))
	if err != nil {
		r.t.Fatal(err)
	}
	r.clients[i] = c
	return c
}

// siteIn finds one site of a service in a status.
func siteIn(s api.Status, service, cluster string) api.Site {
	for _, svc := range s.Services {
		for _, site := range svc.Sites {
			if svc.Name == service && site.Cluster == cluster {
				return site
			}
		}
	}
	return api.Site{}
}

// clusterIn finds a cluster in a status.
func clusterIn(s api.Status, name string) api.Cluster {
	i := slices.IndexFunc(s.Clusters, func(c api.Cluster) bool { return c.Name == name })
	if i < 0 {
		return api.Cluster{}
	}
	return s.Clusters[i]
}

// directorIn finds a director in a status.
func directorIn(s api.Status, name string) api.DirectorState {
	i := slices.IndexFunc(s.Directors, func(d api.DirectorState) bool { return d.Name == name })
	if i < 0 {
		return api.DirectorState{}
	}
	return s.Directors[i]
}

// divert runs the CLI against the i-th director.
func (r *rig) divert(i int, args ...string) (out string, code int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"--server", "unix:" + r.Socket(i)}, args...)...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatalf("divert %s: %v", strings.Join(args, " "), err)
	}
	return both.String(), cmd.ProcessState.ExitCode()
}

// must runs the CLI and wants it done.
func (r *rig) must(i int, args ...string) string {
	r.t.Helper()
	out, code := r.divert(i, args...)
	if code != 0 {
		r.t.Fatalf("divert %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// decode reads JSON that the CLI printed with -o json, the last document of it.
func decode[T any](t *testing.T, out string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(out))
	for d.More() {
		v = *new(T)
		if err := d.Decode(&v); err != nil {
			t.Fatalf("not JSON: %v\n%s", err, out)
		}
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

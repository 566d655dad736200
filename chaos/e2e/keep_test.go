package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// TestExplainPast: each director says of a time that is past what it answered then and
// why, also after it was killed and started again.
func TestExplainPast(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	before := time.Now()
	must(t, r.Kill("fra"))
	r.until(10*time.Second, "failover", r.all(host, "nyc"))
	<-time.After(2 * time.Second)
	after := time.Now()
	told := func(i int, at time.Time) error {
		want := "fra"
		if at.Equal(after) {
			want = "nyc"
		}
		out, code := r.divert(i, "explain", host, "--client", "192.0.2.0/24", "--at", at.UTC().Format(time.RFC3339Nano), "-o", "json")
		if code != 0 {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		e := decode[api.Explanation](t, out)
		if len(e.Answers) == 0 || e.Answers[0].Clusters[0] != want {
			return fmt.Errorf("%s says %+v, want %s", local.Name(i), e.Answers, want)
		}
		return nil
	}
	check := func(when string) {
		t.Helper()
		for i := 1; i <= r.Directors(); i++ {
			for _, at := range []time.Time{before, after} {
				r.until(5*time.Second, when, func() error { return told(i, at) })
			}
		}
	}
	check("while it runs")
	for i := 1; i <= r.Directors(); i++ {
		must(t, r.Kill(local.Name(i)))
	}
	for i := 1; i <= r.Directors(); i++ {
		must(t, r.Start(t.Context(), local.Name(i)))
	}
	r.until(15*time.Second, "they answer again", r.all(host, "nyc"))
	check("after a restart")
	out, code := r.divert(1, "explain", host, "--at", "-1d")
	if code != 1 || !strings.Contains(out, "nothing is kept here from") {
		t.Errorf("a day ago: exit %d, %s", code, out)
	}
}

// TestBackupAndRestore: what a backup holds comes back on all directors, one epoch on;
// a drain of now stays.
func TestBackupAndRestore(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	file := filepath.Join(t.TempDir(), "fleet.backup")
	r.must(1, "backup", file)
	spec := filepath.Join(t.TempDir(), "fleet.yaml")
	text := strings.ReplaceAll(local.DemoSpec(r.Fleet), "policy: failover, order: [fra, nyc, sin]", "policy: failover, order: [nyc, fra, sin]")
	must(t, os.WriteFile(spec, []byte(text), 0o600))
	r.must(1, "apply", "-f", spec, "--reason", "a mistake")
	r.until(10*time.Second, "the mistake is in force", r.all(host, "nyc"))
	r.must(2, "drain", "cluster/sin", "--reason", "INC-20")
	out := decode[api.Outcome](t, r.must(3, "restore", file, "--reason", "INC-20", "-o", "json"))
	if len(out.Applied) != r.Directors() {
		t.Errorf("restored: %+v", out)
	}
	r.until(10*time.Second, "it is undone", r.all(host, "fra"))
	s, err := r.status(1)
	if err != nil || s.Plan.Epoch != 2 || len(s.Overrides) != 1 {
		t.Errorf("afterwards: %+v, %v", s.Plan, err)
	}
	r.must(1, "store", "check")
}

// watched asks all directors for a host all the while until the returned function is
// called, which fails the test if any answer was another.
func (r *rig) watched(host, want string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	wrong, looks := make(chan error, 1), make(chan int, 1)
	go func() {
		n := 0
		defer func() { looks <- n }()
		for ; ctx.Err() == nil; <-time.After(20 * time.Millisecond) {
			if err := r.all(host, want)(); err != nil {
				select {
				case wrong <- err:
				default:
				}
			}
			n++
		}
	}()
	return func() {
		r.t.Helper()
		cancel()
		if n := <-looks; n < 10 {
			r.t.Errorf("only %d looks: nothing is shown by them", n)
		}
		select {
		case err := <-wrong:
			r.t.Errorf("an answer changed meanwhile: %v", err)
		default:
		}
	}
}

// TestStoreLostWholly: a backup of a live fleet, then the loss of etcd with all its data:
// no answer changes, whatever is refused names the remedy, the store is recovered from
// what directors hold, the backup brings back the audit log and the spec (S12, S15, F25).
func TestStoreLostWholly(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-21")
	file := filepath.Join(t.TempDir(), "fleet.backup")
	r.must(1, "backup", file)
	r.until(5*time.Second, "drained", r.all(host, "nyc"))
	stop := r.watched(host, "nyc")
	must(t, r.Kill("etcd"))
	must(t, os.RemoveAll(r.EtcdDir()))
	if out, code := r.divert(1, "backup", file+".2"); code != 1 || !strings.Contains(out, "--local") {
		t.Errorf("a backup without a store: exit %d, %s", code, out)
	}
	r.must(1, "backup", "--local", file+".local")
	must(t, r.Start(t.Context(), "etcd"))
	r.until(20*time.Second, "it is recognised", func() error {
		out, code := r.divert(2, "restore", file)
		if code != 1 || !strings.Contains(out, "store recover") {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	r.must(2, "store", "recover")
	if out, code := r.divert(1, "store", "check"); code != 1 || !strings.Contains(out, "restore FILE --audit") {
		t.Errorf("the audit log is lost: exit %d, %s", code, out)
	}
	r.must(3, "restore", "--audit", file)
	r.must(1, "store", "check")
	r.must(3, "restore", file) // its spec is in force
	stop()
	r.settle()
	for i := 1; i <= r.Directors(); i++ {
		if err := r.answers(i, host, "nyc")(); err != nil {
			t.Error(err)
		}
	}
	r.must(1, "undrain", "cluster/fra", "--now")
	r.until(10*time.Second, "commands are taken", r.all(host, "fra"))
}

// TestEverythingLost: store and disks are gone but for the directors' keys. Nothing is
// restored unasked beside directors that do not answer; then all of it comes back, one
// epoch on, and the others follow (S3, S12, S18).
func TestEverythingLost(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	r.must(1, "drain", "cluster/fra", "--reason", "INC-22")
	file := filepath.Join(t.TempDir(), "fleet.backup")
	r.must(1, "backup", file)
	fleet := decode[struct{ Fleet string }](t, r.must(1, "backup", file+".2", "-o", "json")).Fleet
	must(t, r.Kill("etcd"))
	must(t, os.RemoveAll(r.EtcdDir()))
	for i := 1; i <= r.Directors(); i++ {
		must(t, r.Kill(local.Name(i)))
		key, err := os.ReadFile(filepath.Join(r.DataDir(i), "identity.json"))
		must(t, err)
		must(t, os.RemoveAll(r.DataDir(i)))
		must(t, os.MkdirAll(r.DataDir(i), 0o700))
		must(t, os.WriteFile(filepath.Join(r.DataDir(i), "identity.json"), key, 0o600))
	}
	must(t, r.Start(t.Context(), "etcd"))
	must(t, r.Start(t.Context(), "d1")) // which waits for the others before it begins a fleet
	r.until(20*time.Second, "nothing is restored beside the silent", func() error {
		out, code := r.divert(1, "restore", file)
		if code != 1 || !strings.Contains(out, "have not answered whether they hold a plan") {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	raw, err := os.ReadFile(file)
	must(t, err)
	for name, broken := range map[string][]byte{"cut": raw[:len(raw)/2], "flipped": append(bytes.Clone(raw[:len(raw)-40]), raw[len(raw)-39:]...), "empty": nil} {
		path := filepath.Join(t.TempDir(), name+".backup")
		must(t, os.WriteFile(path, broken, 0o600))
		if out, code := r.divert(1, "restore", path, "--force", "--confirm", fleet); code != 1 || !strings.Contains(out, path) || !strings.Contains(out, "use another backup") {
			t.Errorf("%s: exit %d, %s", name, code, out)
		}
	}
	out, code := r.divert(1, "restore", file, "--reason", "INC-23", "--force", "--confirm", fleet)
	if code != 3 || !strings.Contains(out, "comes back: drain of cluster/fra") || !strings.Contains(out, "all but d2") {
		t.Errorf("what comes back, and who lacks it, is not told: exit %d, %s", code, out) // S6
	}
	for i := 2; i <= r.Directors(); i++ {
		must(t, r.Start(t.Context(), local.Name(i)))
	}
	r.until(20*time.Second, "all answer, the drain included", r.all(host, "nyc"))
	s, err := r.status(2)
	if err != nil || s.Plan.Epoch != 2 || s.Plan.Fleet != fleet || len(s.Overrides) != 1 {
		t.Errorf("afterwards: %+v, %v", s.Plan, err)
	}
	r.must(1, "store", "check")
}

// TestStoreMoved: from one etcd process to another while commands run. At no instant do
// both take one, none that was said to be done is lost, no answer changes, and directors
// go on there once they are started anew (S4, S5).
func TestStoreMoved(t *testing.T) {
	long(t)
	const host = "pay.example.org"
	r := start(t, local.Options{})
	r.settle()
	stop := r.watched(host, "fra")
	old, err := os.ReadFile(r.SettingsFile(1))
	must(t, err)
	octets := r.Director(1).As4()
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, octets[1], 0, 3}), 2379).String()
	etcd := exec.Command(binary, "etcd", "--data", filepath.Join(t.TempDir(), "next"), "--listen", "http://"+to)
	must(t, etcd.Start())
	t.Cleanup(func() { _ = etcd.Process.Kill(); _ = etcd.Wait() })
	r.until(20*time.Second, "the new etcd listens", func() error {
		conn, err := net.Dial("tcp", to)
		if err == nil {
			conn.Close()
		}
		return err
	})

	ctx, cancel := context.WithCancel(t.Context())
	type report struct {
		done  int
		ended string
	}
	reports := make(chan report, 1)
	go func() {
		var p report
		for n := 0; ctx.Err() == nil && p.ended == ""; n++ {
			verb := []string{"drain", "cluster/sin", "--reason", fmt.Sprint("move-", n)}
			if n%2 == 1 {
				verb = []string{"undrain", "cluster/sin", "--now", "--reason", fmt.Sprint("move-", n)}
			}
			switch out, code := r.divert(2, verb...); {
			case code == 0:
				p.done++
			case strings.Contains(out, "was moved to"):
				p.ended = out
			default:
				p.ended = "unexpected: " + out
			}
		}
		reports <- p
	}()
	<-time.After(2 * time.Second) // so that commands are under way
	r.must(1, "store", "migrate", "--to", "http://"+to)
	p := <-reports
	cancel()
	if p.done < 3 || !strings.Contains(p.ended, "was moved to") || !strings.Contains(p.ended, to) {
		t.Errorf("%d commands were done, then: %s", p.done, p.ended)
	}
	r.must(1, "store", "migrate", "--to", "http://"+to) // again is no harm
	for i := 1; i <= r.Directors(); i++ {
		text, err := os.ReadFile(r.SettingsFile(i))
		must(t, err)
		was := fmt.Sprintf("127.%d.3.%d:2379", octets[1], i)
		if !bytes.Contains(text, []byte(was)) {
			t.Fatalf("no %s in\n%s", was, old)
		}
		must(t, os.WriteFile(r.SettingsFile(i), bytes.ReplaceAll(text, []byte(was), []byte(to)), 0o600))
		must(t, r.Replace(t.Context(), local.Name(i)))
	}
	must(t, r.Kill("etcd"))
	r.until(20*time.Second, "commands are taken there", func() error {
		if out, code := r.divert(3, "drain", "cluster/nyc", "--reason", "INC-24"); code != 0 {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	stop()
	r.must(3, "store", "check")
	if lines := strings.Count(r.must(3, "audit", "--limit", "1000"), "because: move-"); lines != p.done {
		t.Errorf("%d commands were done, the audit log there has %d of them", p.done, lines)
	}
}

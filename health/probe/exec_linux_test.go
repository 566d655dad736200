package probe

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExecRights: a program has no capability, ambient and inheritable ones included, and
// can come by none; it, and what it starts, is killed before its director where memory runs
// out. The director keeps its own rights. As root it is tried again as a director under
// systemd is: another user, with the one ambient capability that port 53 needs.
func TestExecRights(t *testing.T) {
	const under = "DIVERT_TEST_AMBIENT"
	mine := capabilities(t)
	switch {
	case os.Getenv(under) != "":
		if status(t, "/proc/thread-self/status")["CapAmb"] != "0000000000000400" {
			t.Fatal("there is no ambient capability that could be passed on")
		}
	case os.Geteuid() == 0:
		t.Run("under systemd", func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestExecRights$", "-test.v") //nolint:gosec // this test
			cmd.Env = append(os.Environ(), under+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE}}
			out, err := cmd.CombinedOutput()
			if cmd.Process == nil {
				t.Skipf("no other user can be had here: %v", err)
			}
			if err != nil || !strings.Contains(string(out), "--- PASS: TestExecRights") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	seen := filepath.Join(t.TempDir(), "status")
	path := script(t, "cat /proc/self/status > "+seen+`
raised() { read -r n < /proc/self/oom_score_adj && test "$n" -ge 500; }
until raised; do sleep 0.01; done
sh -c 'read -r n < /proc/self/oom_score_adj && test "$n" -ge 500'`)
	for range 3 { // of which one may be on the main thread
		want(t, once(t, Options{Exec: []string{path}}, netip.MustParseAddrPort("192.0.2.10:0"), Target{Exec: &Exec{Command: path}}), "", 0)
		got := status(t, seen)
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if got[set] != "0000000000000000" {
				t.Errorf("%s of a program is %s", set, got[set])
			}
		}
		if got["NoNewPrivs"] != "1" {
			t.Errorf("NoNewPrivs of a program is %q", got["NoNewPrivs"])
		}
		if now := capabilities(t); now != mine {
			t.Errorf("the director has %v, and had %v", now, mine)
		}
		if got := status(t, "/proc/self/status"); got["NoNewPrivs"] != status(t, "/proc/thread-self/status")["NoNewPrivs"] {
			t.Errorf("the main thread has given up what it had: %v", got)
		}
	}
}

// TestExecPassesOnWhatItStarted: what a program started before its oom_score_adj was
// raised has it raised, too.
func TestExecPassesOnWhatItStarted(t *testing.T) {
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		t.Skip("this kernel does not tell of children")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 1000 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	alone(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { clean(cmd); _ = cmd.Wait() }()
	line := make([]byte, 16)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	child := strings.TrimSpace(string(line[:n]))
	parent := strconv.Itoa(cmd.Process.Pid)
	expose(parent, 3)
	for _, pid := range []string{parent, child} {
		data, err := os.ReadFile("/proc/" + pid + "/oom_score_adj")
		if got := strings.TrimSpace(string(data)); err != nil || got != "500" {
			t.Errorf("oom_score_adj of %s is %q, %v", pid, got, err)
		}
	}
}

// status reads a file of the kernel's that tells of a process.
func status(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		out[key] = strings.TrimSpace(value)
	}
	return out
}

// capabilities are those of this thread.
func capabilities(t *testing.T) (out [2]unix.CapUserData) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &out[0]); err != nil {
		t.Fatal(err)
	}
	return out
}

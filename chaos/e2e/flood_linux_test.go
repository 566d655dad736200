package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

// What a flood may do (F20), and how it is made.
const (
	floodShare   = 0.8 // of the rate at which rejects are all answered
	floodLength  = 20 * time.Second
	floodLost    = 0.01 // of the honest queries
	floodGrowth  = 20   // MB
	floodProbes  = 0.9  // of those that are sent in quiet times
	floodHonest  = 400  // queries a second
	floodPerNet  = 2000 // replies a second, the default of rateLimit
	floodNice    = -20  // of all that takes part
	floodInside  = "inside"
	floodSetting = "DIVERT_FLOOD"
)

// TestFlood (F20, C10) floods the leader of a fleet with default settings at 0.8 of
// the rate at which it answers all rejects, from forged random sources: names of
// the zone that do not exist, names of others, garbage, packets too short, and one
// network asking for more than its share. Clients with cookies are served, nothing
// moves, nobody is unheard, probes leave on time, memory is flat, and the one
// network gets no more than it is allowed.
//
// Loopback is exempt from rate limits, so the test has two network namespaces of
// its own, which end with it: the fleet is in one, all clients are in the other.
func TestFlood(t *testing.T) {
	switch os.Getenv(floodSetting) {
	case "":
		t.Skip("network namespaces and raw sockets were not asked for: make flood, as root")
	case floodInside:
	default:
		enterNamespace(t)
		return
	}
	n := newNetwork(t)
	r := start(t, local.Options{DNS: n.server})
	r.settle()
	leader := r.leader()
	a := n.attacker(leader)
	calm := r.look(leader)

	<-time.After(5 * time.Second)
	quiet := r.look(leader)
	reject := a.rejectRate(t, n)
	r.until(10*time.Second, "the fleet is as before", func() error { return r.moved(quiet.states) })
	before := r.look(leader)

	a.mix = flood
	honest := n.honest(t, leader)
	attack := a.start(floodShare * reject)
	honest.start(floodHonest)
	r.holds(floodLength, "during the flood", func() error { return r.moved(before.states) })
	honest.stop()
	sent, took := attack()
	after := r.look(leader)

	t.Logf("flooded %s with %.0f packets a second, for %s", local.Name(leader), float64(sent)/took.Seconds(), took.Round(time.Millisecond))
	if got := float64(sent) / took.Seconds(); got < 0.95*floodShare*reject {
		t.Errorf("only %.0f packets a second were sent, want %.0f: nothing is shown by them", got, floodShare*reject)
	}
	t.Logf("%s took %.2f of a core, of the %d there are", local.Name(leader), (after.cpu-before.cpu)/after.at.Sub(before.at).Seconds(), runtime.NumCPU())
	honest.judge(t, floodHonest*floodLength.Seconds())
	n.victim.judge(t, took, after.limited-before.limited)
	t.Logf("RSS of %s: %.1f MB in quiet times, %.1f before the flood, %.1f after it", local.Name(leader), calm.rss, before.rss, after.rss)
	if after.rss > calm.rss+floodGrowth {
		t.Errorf("its memory grew by %.1f MB, want at most %d", after.rss-calm.rss, floodGrowth)
	}
	for i := range after.fast {
		name := local.Name(i + 1)
		for _, p := range []struct {
			what                       string
			calm, quiet, before, after float64
		}{
			{"fast signals", calm.fast[i], quiet.fast[i], before.fast[i], after.fast[i]},
			{"deep probes", calm.deep[i], quiet.deep[i], before.deep[i], after.deep[i]},
		} {
			usual := (p.quiet - p.calm) / quiet.at.Sub(calm.at).Seconds()
			flooded := (p.after - p.before) / after.at.Sub(before.at).Seconds()
			t.Logf("%s: %.1f %s a second in quiet times, %.1f in the flood", name, usual, p.what, flooded)
			if flooded < floodProbes*usual {
				t.Errorf("%s sent %.1f %s a second, want at least %.0f %% of %.1f", name, flooded, p.what, 100*floodProbes, usual)
			}
		}
		news := after.logs[i][len(before.logs[i]):]
		if strings.TrimSpace(news) != "" {
			t.Logf("%s wrote\n%s", name, news)
		}
		for _, bad := range []string{"msg=transition", "isolated", "abstain", "panic"} {
			if strings.Contains(news, bad) {
				t.Errorf("%s wrote of %q during the flood", name, bad)
			}
		}
	}
	for _, m := range []string{"divert_stalls_total", `divert_dns_faults_total{fault="queue_full"}`, "divert_queue_overflows_total"} {
		t.Logf("%s of %s grew by %.0f", m, local.Name(leader), after.metrics[m]-before.metrics[m])
	}
}

// enterNamespace runs this test again as a process in a network namespace of its
// own, which ends with its last process.
func enterNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed (iproute2)")
	}
	runtime.LockOSThread() // the kernel ends the child with this thread
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFlood$", "-test.v", "-test.timeout=8m")
	cmd.Env = append(os.Environ(), floodSetting+"="+floodInside)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Setsid: true}
	// What else this machine does shall not decide how much a director can take. The
	// child inherits its priority from this thread; where the scheduler groups by
	// session, that is for nothing, and the priority of its session counts.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), floodNice)
	err := cmd.Start()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0)
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("no network namespace may be made here: %v", err)
	}
	must(t, err)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte(strconv.Itoa(floodNice)), 0)
	must(t, cmd.Wait())
}

// leader gives which director leads.
func (r *rig) leader() (leader int) {
	r.t.Helper()
	r.until(20*time.Second, "there is a leader", func() error {
		s, err := r.status(1)
		if err != nil {
			return err
		}
		for i := 1; i <= r.Directors(); i++ {
			if local.Name(i) == s.Leader {
				leader = i
				return nil
			}
		}
		return fmt.Errorf("%q leads", s.Leader)
	})
	return leader
}

// snapshot is a fleet at one time.
type snapshot struct {
	at         time.Time
	states     []string
	fast, deep []float64
	logs       []string
	rss        float64            // of one director, MB
	cpu        float64            // of it, seconds
	metrics    map[string]float64 // of it
	limited    float64
}

// look takes a snapshot; memory and metrics are those of one director.
func (r *rig) look(director int) snapshot {
	r.t.Helper()
	s := snapshot{rss: resident(r.t, r.pid(director)), metrics: r.metrics(director), at: time.Now()}
	user, system := cpuSeconds(r.t, r.pid(director))
	s.cpu = user + system
	s.limited = s.metrics[`divert_dns_limited_total{action="truncated"}`]
	for i := 1; i <= r.Directors(); i++ {
		fast, deep := r.probed(i)
		state, err := r.status(i)
		must(r.t, err)
		text, err := r.Log(local.Name(i))
		must(r.t, err)
		s.states, s.logs = append(s.states, still(state)), append(s.logs, string(text))
		s.fast, s.deep = append(s.fast, fast), append(s.deep, deep)
	}
	return s
}

// moved tells what is not as it was, in any director's eyes.
func (r *rig) moved(before []string) error {
	for i, want := range before {
		s, err := r.status(i + 1)
		if err != nil {
			return fmt.Errorf("%s: %w", local.Name(i+1), err)
		}
		if got := still(s); got != want {
			return fmt.Errorf("%s was at\n%s\nand is at\n%s", local.Name(i+1), want, got)
		}
	}
	return nil
}

// still writes down all of a status that is to stay as it is: leader and store,
// who is heard, whose DNS answers its peers, what is up, and how often it has changed.
func still(s api.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan %d.%d, leader %s, store %s, isolated %v, abstaining %q, behind %v, hears %d\n",
		s.Plan.Epoch, s.Plan.Revision, s.Leader, s.Store, s.Isolated, s.Abstaining, s.Behind, s.Quorum.Hears)
	for _, d := range s.Directors {
		fmt.Fprintf(&b, "%s heard %v, dns %s, alarm %q\n", d.Name, d.Heard, d.DNS, d.Alarm)
	}
	for _, c := range s.Clusters {
		fmt.Fprintf(&b, "%s %s, control plane %s\n", c.Name, c.Health, c.ControlPlane)
	}
	for _, svc := range s.Services {
		for _, site := range svc.Sites {
			for _, a := range site.Addresses {
				for _, subject := range a.Subjects {
					fmt.Fprintf(&b, "%s %s %s %s %d\n", svc.Name, site.Cluster, subject.Probe, subject.State, subject.Transition)
				}
			}
		}
	}
	return b.String()
}

// metrics reads what a director exports, by name and labels.
func (r *rig) metrics(director int) map[string]float64 {
	r.t.Helper()
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + r.API(director) + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := cutLast(lines.Text())
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = v
		}
	}
	must(r.t, lines.Err())
	return out
}

func cutLast(line string) (before, after string, found bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 || strings.HasPrefix(line, "#") {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

// rejectRate finds the highest rate at which all rejects are answered, by raising
// it until more than one in a hundred is not. Where the generator is exhausted first,
// the true rate is higher than the one given, and that is said.
func (a *attacker) rejectRate(t *testing.T, n *network) (best float64) {
	t.Helper()
	a.mix = rejects
	for rate := 50_000.0; ; rate *= 1.2 {
		lost, made := 1.0, 0.0
		for range 3 { // the best of three: another process may take the core for a while
			from := n.replied(t)
			sent, took := a.run(rate, time.Second)
			<-time.After(200 * time.Millisecond) // what is under way
			made = max(made, float64(sent)/took.Seconds())
			lost = min(lost, max(0, 1-float64(n.replied(t)-from)/float64(sent)))
			if lost < 0.01 && made >= 0.95*rate {
				break
			}
		}
		t.Logf("%.0f rejects a second: %.2f %% lost", made, 100*lost)
		switch {
		case lost >= 0.01 && best == 0:
			t.Fatalf("not even %.0f rejects a second are answered", rate)
		case lost >= 0.01:
			t.Logf("REJECT RATE: %.0f a second are all answered, of %.0f not", best, made)
			return best
		case made < 0.95*rate:
			t.Logf("REJECT RATE: at least %.0f a second: the generator makes no more, and none was lost", made)
			return max(best, made)
		}
		best = made
	}
}

//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// skipped is the exit code of a lab that cannot be had here.
const skipped = 77

// options are what a run is to show.
type options struct {
	rounds    int
	faults    []string
	directors int
	hours     float64
	phase     time.Duration
	binary    string
	json      string
	delay     time.Duration
	rivals    bool
	judge     bool
	keep      bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == backendWord {
		fmt.Fprintln(os.Stderr, backend(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	var o options
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 500, "rounds that count of each fault that a service dies of ("+strings.Join(deaths, ", ")+")")
	faults := flags.String("faults", strings.Join(slices.Concat(deaths, lives), ","), "faults to try")
	flags.IntVar(&o.directors, "directors", 5, "directors")
	flags.Float64Var(&o.hours, "hours", 1, "hours of faults that may move nothing on paths (F4, F5, F6, F14)")
	flags.DurationVar(&o.phase, "phase", time.Minute, "of each fault that befalls directors or the API server (F9, F12, isolated)")
	flags.StringVar(&o.binary, "divert", "./divert", "the binary under test")
	flags.StringVar(&o.json, "json", "", "file to write all of it to")
	flags.DurationVar(&o.delay, "delay", 40*time.Millisecond, "of all that directors send each other, each way")
	flags.BoolVar(&o.rivals, "rivals", true, "run gdnsd and PowerDNS beside it")
	flags.BoolVar(&o.judge, "judge", false, "fail when something moved that should not, or took 10 s")
	flags.BoolVar(&o.keep, "keep", false, "leave the folder with logs and settings")
	inside := len(args) > 0 && args[0] == insideWord
	if inside {
		args = args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	for f := range strings.SplitSeq(*faults, ",") {
		if !slices.Contains(deaths, f) && !slices.Contains(lives, f) {
			fmt.Fprintf(os.Stderr, "lab: there is no fault %q: take some of %s\n", f, strings.Join(slices.Concat(deaths, lives), ","))
			return 2
		}
		o.faults = append(o.faults, f)
	}
	if o.directors < 2 || o.directors > 9 {
		fmt.Fprintln(os.Stderr, "lab: 2 to 9 directors")
		return 2
	}
	if !inside {
		return enter(args, o)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l := &lab{options: o, out: os.Stdout, dir: os.Getenv(dirSetting), group: os.Getenv(groupSetting)}
	if err := l.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return 0
}

// What the lab inside is told by its environment.
const (
	dirSetting   = "DIVERT_LAB_DIR"
	groupSetting = "DIVERT_LAB_CGROUP"
)

// enter runs the lab again as a process in a network namespace of its own, and removes
// what outlives processes: a folder and a cgroup.
func enter(args []string, o options) int {
	if why := absent(o.binary); why != "" {
		fmt.Fprintln(os.Stderr, "lab: skipped:", why)
		return skipped
	}
	dir, err := os.MkdirTemp("", "divert-lab-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	group := makeGroup("divert-lab-" + strconv.Itoa(os.Getpid()))
	defer func() {
		if group != "" {
			_ = os.Remove(group)
		}
		if o.keep {
			fmt.Fprintln(os.Stderr, "lab: logs are in", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	// Ctrl-C is for the process inside: it ends all that it began, and this one waits.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	runtime.LockOSThread() // the kernel ends the child with this thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command(self, append([]string{insideWord}, args...)...)
	cmd.Env = append(os.Environ(), dirSetting+"="+dir, groupSetting+"="+group)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Setsid: true}
	// What else this machine does shall not decide how soon a director runs: see
	// TestFlood. The child inherits the priority.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	err = cmd.Start()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 0)
	if errors.Is(err, syscall.EPERM) {
		fmt.Fprintln(os.Stderr, "lab: skipped: no network namespace may be made here:", err)
		return skipped
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte("-20"), 0)
	ended := make(chan struct{})
	go func() { // ends below
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(1, exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	default:
		return 0
	}
}

// absent says what the lab needs and has not.
func absent(binary string) string {
	if os.Geteuid() != 0 {
		return "only root makes network namespaces"
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed (apt-get install iproute2 nftables)"
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return "/dev/net/tun is not there"
	}
	if _, err := os.Stat(binary); err != nil {
		return "the binary under test: " + err.Error()
	}
	return ""
}

// lab is one run.
type lab struct {
	options
	out    io.Writer
	dir    string
	group  string // the cgroup to starve a director in; "" = none
	warmUp time.Duration

	world  *world
	fleet  *fleet
	rivals []*rival
	dog    *watchdog
	named  int // services so far
	began  time.Time
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.out, "%7.1fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}

func (l *lab) run(ctx context.Context) (err error) {
	l.began, l.dog, l.warmUp = time.Now(), &watchdog{}, 3*time.Second
	if l.binary, err = filepath.Abs(l.binary); err != nil {
		return err
	}
	// Namespaces end after all that is in them.
	spaces, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if l.world, err = newWorld(spaces, l.dir, l.options.directors, l.delay); err != nil {
		return err
	}
	defer l.world.processes.endAll()
	inner, cancel := context.WithCancel(ctx)
	relayed := make(chan error, 1)
	watched := make(chan struct{})
	go func() { relayed <- l.world.relay.Run(inner) }()
	go func() { defer close(watched); l.dog.run(inner) }()
	defer func() {
		cancel()
		<-watched
		err = errors.Join(err, <-relayed)
	}()
	if l.options.rivals {
		if l.rivals, err = l.world.findRivals(l.say); err != nil {
			return err
		}
	}
	if l.fleet, err = newFleet(ctx, l.world, l.binary, l.options.directors); err != nil {
		return err
	}
	l.say("%d directors answer; %s each way between them", l.options.directors, l.delay)
	report := &report{Directors: l.options.directors, Delay: l.delay, Began: l.began}
	runErr := l.faultsInTurn(ctx, report)
	report.finish(l)
	report.print(l.out)
	if l.json != "" {
		runErr = errors.Join(runErr, report.write(l.json))
	}
	if runErr == nil && l.judge {
		runErr = report.judge()
	}
	return runErr
}

func (l *lab) faultsInTurn(ctx context.Context, r *report) (err error) {
	var dying []string
	for _, f := range l.faults {
		if slices.Contains(deaths, f) {
			dying = append(dying, f)
		}
	}
	if len(dying) > 0 && l.options.rounds > 0 {
		if r.Rounds, err = l.rounds(ctx, dying, l.options.rounds); err != nil {
			return err
		}
	}
	return l.live(ctx, r)
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// group is a server's processes and the CPU time of all of them. As root that is
// a cgroup; for others it is added up from /proc, where what a process used that
// has ended meanwhile is missing.
type group struct {
	dir   string // "" = no cgroup
	usage string // the file
	unit  time.Duration
	key   string // of the line; "" = the file is one number
	root  int    // the first process
}

// newGroup makes a cgroup, of version 1 where cpuacct is mounted, else of 2.
func newGroup(name string) *group {
	g := &group{}
	if os.Geteuid() != 0 {
		return g
	}
	name = fmt.Sprintf("divert-bench-%d-%s", os.Getpid(), name)
	for _, try := range []group{
		{dir: mountOf("cgroup", "cpuacct"), usage: "cpuacct.usage", unit: time.Nanosecond},
		{dir: mountOf("cgroup2", ""), usage: "cpu.stat", unit: time.Microsecond, key: "usage_usec"},
	} {
		if try.dir == "" {
			continue
		}
		try.dir = filepath.Join(try.dir, name)
		try.usage = filepath.Join(try.dir, try.usage)
		if os.Mkdir(try.dir, 0o755) != nil {
			continue
		}
		if _, err := try.read(); err == nil {
			return &try
		}
		_ = os.Remove(try.dir)
	}
	return g
}

// mountOf finds where a kind of cgroup is mounted, with a controller among its
// options.
func mountOf(kind, controller string) string {
	f, err := os.Open("/proc/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && fields[2] == kind && (controller == "" || slices.Contains(strings.Split(fields[3], ","), controller)) {
			return fields[1]
		}
	}
	return ""
}

// procs is the file by which a process enters, "" where there is no cgroup.
func (g *group) procs() string {
	if g.dir == "" {
		return ""
	}
	return filepath.Join(g.dir, "cgroup.procs")
}

// read gives the CPU time used so far.
func (g *group) read() (time.Duration, error) {
	if g.dir == "" {
		return treeUsage(g.root)
	}
	raw, err := os.ReadFile(g.usage)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(raw))
	if g.key != "" {
		_, rest, found := strings.Cut(text, g.key+" ")
		if !found {
			return 0, fmt.Errorf("%s has no %s", g.usage, g.key)
		}
		text, _, _ = strings.Cut(rest, "\n")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(n) * g.unit, err
}

// pids lists the processes in it.
func (g *group) pids() []int {
	if g.dir == "" {
		return tree(g.root)
	}
	raw, err := os.ReadFile(g.procs())
	if err != nil {
		return nil
	}
	var out []int
	for field := range strings.FieldsSeq(string(raw)) {
		if pid, err := strconv.Atoi(field); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// end kills what is left of the server, all of which was started here, and removes
// the cgroup.
func (g *group) end() error {
	if g.dir == "" {
		return nil
	}
	for range 100 {
		for _, pid := range g.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := os.Remove(g.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return os.Remove(g.dir)
}

// stat is what is needed of /proc/PID/stat.
type stat struct {
	parent int
	used   time.Duration
}

func readStat(pid int) (s stat, ok bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false
	}
	// The name may hold anything, a parenthesis too.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 15 {
		return s, false
	}
	s.parent, _ = strconv.Atoi(fields[1])
	for _, f := range fields[11:15] { // utime, stime, and those of children that have ended
		n, _ := strconv.ParseInt(f, 10, 64)
		s.used += time.Duration(n) * tick
	}
	return s, true
}

// tree lists a process and all below it.
func tree(root int) []int {
	if root <= 0 {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if s, ok := readStat(pid); ok {
				children[s.parent] = append(children[s.parent], pid)
			}
		}
	}
	out := []int{root}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return out
}

func treeUsage(root int) (sum time.Duration, err error) {
	for _, pid := range tree(root) {
		if s, ok := readStat(pid); ok {
			sum += s.used
		}
	}
	return sum, nil
}

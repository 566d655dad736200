//go:build linux

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
)

// What a starved director has: 2 of each 100 ms.
const (
	starvePeriod = 100_000 // microseconds
	starveQuota  = 2_000
)

// makeGroup makes a cgroup that can have a CPU quota, of version 1 or 2; "": none can
// be made.
func makeGroup(name string) string {
	for _, root := range []string{mountOf("cgroup", "cpu"), mountOf("cgroup2", "")} {
		if root == "" {
			continue
		}
		dir := filepath.Join(root, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		if limit(dir, starveQuota) == nil {
			return dir
		}
		_ = os.Remove(dir)
	}
	return ""
}

// mountOf finds where a kind of cgroup is mounted, with a controller among its options.
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

// limit sets the CPU quota of a cgroup; a negative one is none.
func limit(dir string, quota int) error {
	if _, err := os.Stat(filepath.Join(dir, "cpu.max")); err == nil { // version 2
		text := strconv.Itoa(quota)
		if quota < 0 {
			text = "max"
		}
		return os.WriteFile(filepath.Join(dir, "cpu.max"), fmt.Appendf(nil, "%s %d", text, starvePeriod), 0)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cpu.cfs_period_us"), []byte(strconv.Itoa(starvePeriod)), 0),
		os.WriteFile(filepath.Join(dir, "cpu.cfs_quota_us"), []byte(strconv.Itoa(quota)), 0))
}

// confine moves a process into a cgroup.
func confine(dir string, pid int) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

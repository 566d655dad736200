package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SocketName is the control socket's name in a director's dataDir.
const SocketName = "control.sock"

// DemoFolders lists where a running `divert demo` of this user leaves symbolic
// links to its sockets, so that the CLI finds them without being told. There are
// two, since the terminal that asks may have no XDG_RUNTIME_DIR where the one
// that runs the demo had one, and a user who was changed to by su or setpriv has
// another's, which is closed to them.
func DemoFolders() []string {
	name := "divert-demo-" + strconv.Itoa(os.Getuid())
	var out []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		out = append(out, filepath.Join(dir, name))
	}
	return append(out, filepath.Join(os.TempDir(), name))
}

// Sockets lists the places where a local director's control socket is looked
// for, in order.
func Sockets() []string {
	out := []string{filepath.Join("/var/lib/divert", SocketName)}
	if home, err := os.UserHomeDir(); err == nil {
		out = append(out, filepath.Join(home, ".local", "state", "divert", SocketName))
	}
	for _, folder := range DemoFolders() {
		out = append(out, filepath.Join(folder, SocketName))
	}
	return out
}

// find gives the first of the paths on which a director answers, and the others
// that do as well.
func find(paths []string) (string, []string, error) {
	var live, tried []string
	for _, path := range paths {
		if err := answers(path); err != nil {
			tried = append(tried, "\n  "+path+": "+err.Error())
		} else if !slices.ContainsFunc(live, func(have string) bool { return same(have, path) }) {
			live = append(live, path)
		}
	}
	if len(live) > 0 {
		return live[0], live[1:], nil
	}
	return "", nil, fmt.Errorf("no director answers on this machine; looked for its control socket at%s\nname one with --server or DIVERT_SERVER (unix:/path/control.sock or http://127.0.0.1:8053), or start one with `divert serve`", strings.Join(tried, ""))
}

func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// answers tells why a socket cannot be used, in words.
func answers(path string) error {
	// A stranger may have put a directory of that name where all may write.
	if err := Trusted(filepath.Dir(path)); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return plain(err)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return plain(err)
	}
	return conn.Close()
}

// Trusted refuses a directory that belongs to another ordinary user while this
// one is no administrator.
func Trusted(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return plain(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	me := uint32(os.Getuid())
	if owner.Uid == me || owner.Uid == 0 || filepath.Dir(dir) == "/var/lib" {
		return nil
	}
	return fmt.Errorf("its folder belongs to uid %d, not to you", owner.Uid)
}

// plain takes the operation and the path, which the caller has said, out of an
// error.
func plain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("not there")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("permission denied (run as the user that runs the director, or as root)")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nobody listens there; a director that did is gone")
	}
	return err
}

//go:build unix

package spec

import (
	"io/fs"
	"syscall"
)

// ownerOf gives the user ID of a file's owner.
func ownerOf(info fs.FileInfo) (uid int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// groupOf gives the ID of a file's group, -1 where it is not known.
func groupOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Gid)
	}
	return -1
}

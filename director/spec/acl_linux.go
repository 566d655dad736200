package spec

import (
	"errors"
	"syscall"
)

// maxACL is more than an ACL that hands a secret to one process has, in octets.
const maxACL = 4 << 10

// aclOf gives a file's POSIX ACL as the kernel keeps it, nil where it has none.
func aclOf(name string) ([]byte, error) {
	buf := make([]byte, maxACL)
	n, err := syscall.Getxattr(name, "system.posix_acl_access", buf)
	if errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

package dnsserver

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/divertdns/divert/dnsserver/answer"
)

// LargePages asks the kernel to lay the names of a large zone into large pages: one
// look-up reads at two or three places, and to find each place's page costs more than
// to read it. What the kernel refuses (before Linux 6.1, or without memory in one
// piece) stays as it was. It is asked once for memory that is there: a standing
// advice would stay on the addresses when Go uses them for something else.
func LargePages(s *answer.Static) {
	for _, block := range s.Memory() {
		if len(block) < largeEnough {
			continue // its pages are found quickly as they are
		}
		from := uintptr(unsafe.Pointer(unsafe.SliceData(block)))
		page := uintptr(os.Getpagesize())
		skip := -from & (page - 1)
		_ = unix.Madvise(block[skip:skip+(uintptr(len(block))-skip)&^(page-1)], unix.MADV_COLLAPSE)
	}
}

// largeEnough is four large pages.
const largeEnough = 8 << 20

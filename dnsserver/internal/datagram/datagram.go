// Package datagram owns how UDP packets come in and go out many at a time. It
// never looks into one.
package datagram

const (
	// Max is how many packets one system call reads or sends at most.
	Max = 64
	// MaxQuery is the longest packet that is read whole: what an Ethernet carries.
	// Of a longer one the front is given.
	MaxQuery = 1500
	// MaxReply is what is kept free for each reply.
	MaxReply = 1232
)

package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// partFor is how long a server that was talked to may take to hang up in its turn.
const partFor = 200 * time.Millisecond

// talk sends, and reads until what is wanted has come. What came is looked at where it
// lies, and goes with the probe.
func talk(conn net.Conn, r *request) outcome {
	if _, err := conn.Write(r.send); err != nil {
		return ioFailure(err, "timeout sending")
	}
	heard := make([]byte, 0, 4<<10)
	lacks := fmt.Sprintf("answer lacks %.64q", r.body)
	if r.pattern != nil {
		lacks = fmt.Sprintf("answer does not match %.64q", r.pattern)
	}
	for attempts := 0; ; attempts++ {
		n, err := conn.Read(heard[len(heard):min(cap(heard), maxBody)])
		heard = heard[:len(heard)+n]
		full := len(heard) >= maxBody
		switch {
		case r.pattern == nil && bytes.Contains(heard[max(0, len(heard)-n-len(r.body)):], []byte(r.body)):
			return outcome{ok: true}
		// An expression is not tried for each of many drips, but once more at the end.
		case r.pattern != nil && (attempts < maxAttempts || full || err != nil) && r.pattern.Match(heard):
			return outcome{ok: true}
		case full:
			return wrong(lacks)
		case err != nil && len(heard) == 0 && errors.Is(err, io.EOF):
			return brokenOff(err)
		case errors.Is(err, io.EOF):
			return wrong(lacks)
		case err != nil && isTimeout(err) && len(heard) > 0:
			return wrong(lacks)
		case err != nil:
			return ioFailure(err, "timeout waiting for the answer")
		}
		if len(heard) == cap(heard) {
			heard = slices.Grow(heard, cap(heard))
		}
	}
}

// part hangs up as a client does that has finished, and lets the server do the same:
// whoever talks a protocol would else log each probe as an error. The time that takes is
// not the answer's; a server that does not hang up is reset, as all others are.
func part(conn *net.TCPConn) {
	if conn.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(partFor)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, maxBody)
}

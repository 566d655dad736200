package probe

import (
	"bytes"
	"strconv"
)

// header is all that a probe needs of one: http.ReadResponse builds a map of
// the rest, which costs as much as the probe's system calls.
type header struct {
	status  int
	length  int64 // of the body, -1 where it ends with the connection or by chunks
	chunked bool
	close   bool // the connection ends with this answer
}

// parseHeader reads a status line and header fields up to and with the blank
// line (RFC 9112). It is at least as strict as net/http about what frames the
// body, and reads over the rest.
func parseHeader(b []byte) (header, bool) {
	line, rest := cutLine(b)
	h := header{length: -1}
	minor, ok := statusLine(line, &h.status)
	if !ok {
		return header{}, false
	}
	h.close = minor == 0
	for fold := false; ; {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' { // a folded line goes on from the one before
			if !fold {
				return header{}, false
			}
			continue
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found || len(name) == 0 {
			return header{}, false
		}
		value = bytes.Trim(value, " \t")
		fold = true
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || value[0] == '+' || h.length >= 0 && h.length != int64(n) {
				return header{}, false
			}
			h.length, fold = int64(n), false
		case bytes.EqualFold(name, []byte("Transfer-Encoding")) && minor > 0:
			if h.chunked || !bytes.EqualFold(value, []byte("chunked")) {
				return header{}, false // we asked for none
			}
			h.chunked, fold = true, false
		case bytes.EqualFold(name, []byte("Connection")):
			// Whatever it says but this: a probe that connects anew harms nobody.
			h.close = h.close || !bytes.EqualFold(value, []byte("keep-alive"))
		}
	}
	if h.chunked {
		h.length = -1 // RFC 9112 section 6.3: it overrides
	}
	return h, true
}

func statusLine(line []byte, status *int) (minor byte, ok bool) {
	const version = "HTTP/1."
	if len(line) < len(version)+5 || string(line[:len(version)]) != version {
		return 0, false
	}
	minor = line[len(version)] - '0'
	code := line[len(version)+2:]
	if minor > 1 || line[len(version)+1] != ' ' || len(code) > 3 && code[3] != ' ' {
		return 0, false
	}
	for _, c := range code[:3] {
		if c < '0' || c > '9' {
			return 0, false
		}
		*status = *status*10 + int(c-'0')
	}
	return minor, *status >= 100
}

// cutLine takes a line off, without its end.
func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

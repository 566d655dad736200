package probe

import (
	"bufio"
	"bytes"
	"net/http"
	"slices"
	"testing"
)

func TestParseHeader(t *testing.T) {
	tests := []struct {
		in   string
		want header
		ok   bool
	}{
		{"HTTP/1.1 200 OK\r\n\r\n", header{200, -1, false, false}, true},
		{"HTTP/1.1 200\r\n\r\n", header{200, -1, false, false}, true},
		{"HTTP/1.0 204 \n\n", header{204, -1, false, true}, true},
		{"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: y\r\n\r\n", header{200, 5, false, false}, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", header{200, 5, false, false}, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 0\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", header{200, -1, false, false}, true},
		{"HTTP/1.1 200 OK\r\n b\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", header{200, -1, true, false}, true},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", header{200, -1, false, true}, true},
		{"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\n\r\n", header{200, -1, false, false}, true},
		{"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", header{200, -1, false, true}, true},
		{"HTTP/1.1 200 OK\r\nConnection: upgrade, close\r\n\r\n", header{200, -1, false, true}, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", header{}, false},
		{"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", header{}, false},
		{"HTTP/1.1 099 OK\r\n\r\n", header{}, false},
		{"HTTP/1.1 2000 OK\r\n\r\n", header{}, false},
		{"HTTP/1.1 20\r\n\r\n", header{}, false},
		{"HTTP/2.0 200 OK\r\n\r\n", header{}, false},
		{"SSH-2.0-OpenSSH_9.9\r\n\r\n", header{}, false},
		{"\r\n\r\n", header{}, false},
	}
	for _, tc := range tests {
		got, ok := parseHeader([]byte(tc.in))
		if got != tc.want || ok != tc.ok {
			t.Errorf("%q: got %+v %t, want %+v %t", tc.in, got, ok, tc.want, tc.ok)
		}
	}
}

// FuzzHeader holds parseHeader against net/http: whatever it takes for an
// answer, net/http frames alike, or refuses.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\n b\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 503 no\nA:b\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		end := headerEnd(in)
		if end < 0 {
			return
		}
		got, ok := parseHeader(in[:end])
		if !ok {
			return
		}
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in[:end])), nil)
		if err != nil || res.Body == http.NoBody && got.length != 0 {
			return
		}
		if res.Close && !got.close && got.length >= 0 {
			t.Errorf("%q: got a connection to keep, net/http closes it", in[:end])
		}
		if res.StatusCode != got.status || slices.Contains(res.TransferEncoding, "chunked") != got.chunked || res.ContentLength != got.length {
			t.Errorf("%q: got %+v, net/http has %d, %d octets, %v", in[:end], got, res.StatusCode, res.ContentLength, res.TransferEncoding)
		}
	})
}

package probe

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// replay gives an answer the text in pieces of the sizes that cut returns, and
// then the end of the connection, and tells the outcome and what was read.
func replay(r *request, text string, end bool, cut func(left int) int) (o outcome, read int, done bool) {
	answer := response{req: r}
	for read < len(text) {
		room := answer.room()
		n := copy(room, text[read:read+min(cut(len(text)-read), len(text)-read)])
		read += n
		if answer.add(n, false) {
			return answer.out, read, true
		}
	}
	if end && answer.add(0, true) {
		return answer.out, read, true
	}
	return outcome{reason: answer.stage()}, read, false
}

func whole(left int) int { return left }

func TestResponse(t *testing.T) {
	plain := &request{statuses: []int{200}, body: "ok"}
	tests := []struct {
		name   string
		req    *request
		text   string
		end    bool
		done   bool
		reason string
	}{
		{"length", plain, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, true, ""},
		{"length, more than announced", plain, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok", false, true, `body lacks "ok"`},
		{"until the end", plain, "HTTP/1.1 200 OK\r\n\r\nall ok", true, true, ""},
		{"until the end, which does not come", plain, "HTTP/1.1 200 OK\r\n\r\nall ok", false, false, "timeout in the body"},
		{"chunked", plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", false, true, ""},
		{"chunked, trailers", plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", false, true, ""},
		{"chunked, a blank line within", plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nok\r\n\r\n", false, false, "timeout in the body"},
		{"chunked, cut off", plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nok", true, true, "body cut off"},
		{"chunked, nonsense", plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", false, true, "malformed HTTP answer"},
		{"cut off", plain, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", true, true, "body cut off"},
		{"hangs in the body (F23)", plain, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", false, false, "timeout in the body"},
		{"hangs in the header (F23)", plain, "HTTP/1.1 200 OK\r\nContent-", false, false, "timeout in the header"},
		{"says nothing", plain, "", false, false, "timeout waiting for the answer"},
		{"closes", plain, "", true, true, "closed without an answer"},
		{"closes in the header", plain, "HTTP/1.1 200 OK\r\n", true, true, "answer cut off in the header"},
		{"status", plain, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n", false, true, "status 503"},
		{"redirect (F23)", plain, "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", false, true, "status 302 (redirects are not followed)"},
		{"redirect that is wanted", &request{statuses: []int{302}}, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", false, true, ""},
		{"interim answers", plain, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, true, ""},
		{"HEAD", &request{statuses: []int{200}, head: true}, "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", false, true, ""},
		{"204", &request{statuses: []int{204}}, "HTTP/1.1 204 No Content\r\n\r\n", false, true, ""},
		{"endless header (F23)", plain, "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 4000), false, true, "header too long"},
		{"endless interim answers (F23)", plain, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000), false, true, "too many interim answers"},
		{"endless body (F23)", &request{statuses: []int{200}}, "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 200<<10), false, true, ""},
		{"endless body, the text beyond the cap (F23)", plain, "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 100<<10) + "ok", false, true, `body lacks "ok"`},
		{"endless chunks (F23)", plain, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 60<<10), false, true, "malformed HTTP answer"},
		{"other protocol", plain, "220 mail.example.org ESMTP\r\n\r\n", false, true, "malformed HTTP answer"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range []int{1, 7, 1 << 20} {
				got, read, done := replay(tc.req, tc.text, tc.end, func(int) int { return size })
				if got.reason != tc.reason || done != tc.done || got.ok != (tc.reason == "") {
					t.Errorf("in pieces of %d: got %+v, done %t, want %q, done %t", size, got, done, tc.reason, tc.done)
				}
				if limit := maxHeader + 2*maxBody + maxBody; read > limit {
					t.Errorf("in pieces of %d: %d octets were read, want at most %d", size, read, limit)
				}
			}
		})
	}
}

// TestResponseSplit: how the network cuts an answer changes nothing.
func TestResponseSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"HTTP/1.1 200 OK\r\n", "HTTP/1.0 503 no\n", "HTTP/1.1 100 c\r\n\r\nHTTP/1.1 200 OK\r\n"}).Draw(t, "status")
		text += rapid.SampledFrom([]string{"", "Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n", "A: b\r\n"}).Draw(t, "fields") + "\r\n"
		text += rapid.SampledFrom([]string{"", "okay", "4\r\nokay\r\n0\r\n\r\n", "2\r\nok\r\n", "\r\n\r\n", "0\r\n\r\n"}).Draw(t, "body")
		end := rapid.Bool().Draw(t, "end")
		r := &request{statuses: []int{200}, body: "ok"}
		want, _, wantDone := replay(r, text, end, whole)
		got, _, done := replay(r, text, end, func(left int) int { return rapid.IntRange(1, left).Draw(t, "cut") })
		if got != want || done != wantDone {
			t.Fatalf("%q: got %+v %t in pieces, want %+v %t", text, got, done, want, wantDone)
		}
	})
}

// FuzzResponse: nothing a target sends makes the reader panic, read without
// bound or show what was sent.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), uint8(3), true)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), uint8(0), false)
	known := []string{"", "status ", "body lacks", "body cut off", "malformed HTTP answer", "header too long", "closed without", "answer cut off", "timeout ", "too many"}
	f.Fuzz(func(t *testing.T, in []byte, size uint8, end bool) {
		got, _, _ := replay(&request{statuses: []int{200}, body: "ok"}, string(in), end, func(int) int { return int(size) + 1 })
		for _, k := range known {
			if k != "" && strings.HasPrefix(got.reason, k) || got.reason == k {
				return
			}
		}
		t.Errorf("reason %q is none of ours", got.reason)
	})
}

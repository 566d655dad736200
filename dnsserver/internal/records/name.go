package records

import (
	"fmt"

	"github.com/miekg/dns"
)

// Name packs a name, lower case, not compressed.
func Name(name string) ([]byte, error) {
	buf := make([]byte, 256)
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("%q is not a domain name", name)
	}
	n, err := dns.PackDomainName(dns.Fqdn(name), buf, 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("%q is not a domain name: %w", name, err)
	}
	for i, c := range buf[:n] { // not of the text: a letter may be written as its number
		buf[i] = lowerOctet(c)
	}
	return buf[:n], nil
}

// Show is the presentation form of a packed name, for messages.
func Show(name []byte) string {
	text, _, err := dns.UnpackDomainName(name, 0)
	if err != nil {
		return fmt.Sprintf("%q", name)
	}
	return text
}

// AppendName appends a name in wire format, lower case. Most names are of letters,
// digits and hyphens, and need no parser.
func AppendName(b []byte, name string) ([]byte, error) {
	from := len(b)
	b = append(b, 0)
	start := from // of the label
	for i := range len(name) {
		c := lowerOctet(name[i])
		switch {
		case c == '.' && len(b)-start > 1 && len(b)-start <= 64:
			b[start] = byte(len(b) - start - 1)
			start = len(b)
			b = append(b, 0)
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '*':
			b = append(b, c)
		default:
			return appendOddName(b[:from], name)
		}
	}
	if len(b)-start > 1 || len(b)-from > 255 || len(name) == 0 {
		return appendOddName(b[:from], name)
	}
	return b, nil
}

func appendOddName(b []byte, name string) ([]byte, error) {
	packed, err := Name(name)
	return append(b, packed...), err
}

// lowerOctet brings a letter to lower case. The length octets of a name are below 'A'.
func lowerOctet(c byte) byte {
	if c-'A' < 26 {
		return c + 'a' - 'A'
	}
	return c
}

// AppendKey appends a text that orders as the name does in RFC 4034 section 6.1:
// labels from the root down, each ended by a zero octet, for which zero and one
// inside a label are written as two octets. The key of a name begins with the key of
// each name above it.
func AppendKey(key, name []byte) []byte {
	var starts [128]int
	n := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		starts[n] = at
		n++
	}
	for n--; n >= 0; n-- {
		at := starts[n]
		for _, c := range name[at+1 : at+1+int(name[at])] {
			if c <= 1 {
				key = append(key, 1)
			}
			key = append(key, c)
		}
		key = append(key, 0)
	}
	return key
}

// NameOfKey appends the name, in wire format, that a key is of.
func NameOfKey(b, key []byte) []byte {
	var out [256]byte
	at := len(out) - 1 // the root is there already
	for len(key) > 0 {
		var label [64]byte
		n := 0
		for ; key[0] != 0; key = key[1:] {
			if key[0] == 1 {
				key = key[1:]
			}
			n++
			label[n] = key[0]
		}
		key = key[1:]
		label[0] = byte(n)
		at -= n + 1
		copy(out[at:], label[:n+1])
	}
	return append(b, out[at:]...)
}

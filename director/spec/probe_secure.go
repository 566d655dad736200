package spec

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	defaultWarn = 14 * 24 * time.Hour
	mostLeft    = 400 * 24 * time.Hour // no authority that browsers trust issues for longer
	maxCA       = 64 << 10
)

// fields are the keys of a kind that goes over TLS.
func (s *Secure) fields() fields {
	return fields{
		"sni":         func(c cursor) { s.SNI = readProbeHost(c) },
		"insecure":    func(c cursor) { s.Insecure = c.bool() },
		"ca":          func(c cursor) { s.CA = readCA(c) },
		"certificate": func(c cursor) { s.readCertificate(c) },
	}
}

// check looks at the options together, once the kind is read. An option of TLS is
// refused where there is none: whoever wrote it believes that it is looked at.
func (s *Secure) check(c cursor, secure bool, otherwise string) {
	given := slices.DeleteFunc(slices.Sorted(maps.Keys(s.fields())), func(k string) bool { return c.v.get(k) == nil })
	switch {
	case !secure:
		*s = Secure{}
		for _, key := range given {
			cursor{c.d, c.v, child(c.path, key)}.failAt(c.v.lineOf(key), "is of TLS, which this probe goes without", otherwise+", or leave it out")
		}
	case s.Insecure:
		s.Warn, s.Fail = 0, 0
		for _, key := range []string{"ca", "certificate"} {
			if slices.Contains(given, key) {
				cursor{c.d, c.v, child(c.path, key)}.failAt(c.v.lineOf(key), "stands beside insecure, which looks at nothing of a certificate", "keep one of the two")
			}
		}
	case c.v.get("certificate").get("warn") == nil:
		s.Warn = max(defaultWarn, s.Fail)
	}
}

func (s *Secure) readCertificate(c cursor) {
	c.object(fields{
		"warn": func(c cursor) { s.Warn = c.duration(0, mostLeft) },
		"fail": func(c cursor) { s.Fail = c.duration(0, mostLeft) },
	})
	if s.Warn > 0 && s.Warn < s.Fail && c.v.get("warn") != nil {
		at := cursor{c.d, c.v, child(c.path, "warn")}
		at.failAt(c.v.lineOf("warn"), "comes after the failure, which is at "+FormatDuration(s.Fail), "write more, or 0 for no warning")
	}
}

// readCA reads certificates of authorities, in PEM, and nothing else.
func readCA(c cursor) string {
	s := c.text()
	switch {
	case s == "":
		return ""
	case len(s) > maxCA:
		c.fail("is longer than 64 KiB", "name the one authority that signs")
		return ""
	}
	found := 0
	for rest := []byte(s); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 && found > 0 {
				c.fail("has text after its last certificate", "take it out")
				return ""
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			c.fail("holds a "+quote(block.Type), "write certificates only: all who read the spec see it")
			return ""
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			c.fail("holds a certificate that cannot be read", "write the authority's, as its PEM file has it")
			return ""
		}
		found++
	}
	if found == 0 {
		c.fail("holds no certificate", "write the authority's PEM text: ca: | and the lines below, indented")
		return ""
	}
	return s
}

// define writes what is given, each with a name, and nothing of what is not.
func (s *Secure) define(b *strings.Builder) {
	if s.SNI != "" {
		fmt.Fprintf(b, " sni=%q", s.SNI)
	}
	if s.Insecure {
		b.WriteString(" insecure")
		return
	}
	if s.CA != "" {
		sum := sha256.Sum256([]byte(s.CA))
		b.WriteString(" ca=" + hex.EncodeToString(sum[:]))
	}
	if s.Warn != max(defaultWarn, s.Fail) {
		b.WriteString(" warn=" + s.Warn.String())
	}
	if s.Fail != 0 {
		b.WriteString(" fail=" + s.Fail.String())
	}
}

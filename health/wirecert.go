package health

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxCertsPayload is where EncodeCertificates begins another message: half of
// what a reliable message may hold.
const maxCertsPayload = 512 << 10

// EncodeCertificates writes certificates, as several messages if they are too
// large for one. A ballot that serves in many proofs is written once: when a
// site dies, all its subjects share a few.
func EncodeCertificates(certs []Certificate) [][]byte {
	var out [][]byte
	w := newCertWriter()
	for _, c := range certs {
		if w.full() {
			out = append(out, w.bytes())
			w = newCertWriter()
		}
		w.add(c, nil)
	}
	if w.count > 0 {
		out = append(out, w.bytes())
	}
	return out
}

// EncodeSomeCertificates writes as many of them, in order, as one message takes; nil if
// there are none. What comes after costs nothing.
func EncodeSomeCertificates(certs []Certificate) []byte {
	w := newCertWriter()
	for _, c := range certs {
		if w.full() {
			break
		}
		w.add(c, nil)
	}
	if w.count == 0 {
		return nil
	}
	return w.bytes()
}

// certWriter writes certificates beside one table of ballots.
type certWriter struct {
	ballots []byte // field 2 of the message, each
	certs   []byte // field 3
	index   map[string]uint64
	count   int
}

func newCertWriter() *certWriter { return &certWriter{index: map[string]uint64{}} }

// full reports whether what comes next belongs into another message.
func (w *certWriter) full() bool {
	return w.count >= maxCerts || len(w.ballots)+len(w.certs) >= maxCertsPayload
}

// add writes one certificate; more is appended to its fields.
func (w *certWriter) add(c Certificate, more []byte) {
	var buf [32]byte
	one := appendBytes(nil, 1, appendSubject(buf[:0], c.Subject))
	one = appendVarint(one, 2, c.N)
	for _, raw := range c.Proof {
		i, ok := w.index[string(raw)]
		if !ok {
			i = uint64(len(w.index))
			w.index[string(raw)] = i
			w.ballots = appendBytes(w.ballots, 2, raw)
		}
		one = appendVarint(one, 3, i)
	}
	if c.Reason != "" {
		one = appendBytes(one, 4, c.Reason)
	}
	w.certs = appendBytes(w.certs, 3, append(one, more...))
	w.count++
}

func (w *certWriter) bytes() []byte {
	b := appendVarint(nil, 1, wireFormat)
	return append(append(b, w.ballots...), w.certs...)
}

// DecodeCertificates reads one message of certificates. The proofs are not
// verified: Merge does that.
func DecodeCertificates(payload []byte) ([]Certificate, error) {
	var out []Certificate
	err := readCertificates(payload, maxCerts, func(c Certificate, _ []byte) error {
		out = append(out, c)
		return nil
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	return out, nil
}

// readCertificates reads what a certWriter wrote: each with its own bytes, so
// that a caller can read the fields it added, then the message's other fields.
func readCertificates(payload []byte, most int, each func(Certificate, []byte) error, other func(field) error) error {
	var table [][]byte
	formatted, count := false, 0
	return finish(&formatted, eachField(payload, func(f field) error {
		switch {
		case f.is(1, protowire.VarintType):
			formatted = true
			return f.format()
		case f.is(2, protowire.BytesType):
			if len(f.data) > maxProofBytes || len(table) >= most*maxProof {
				return errLarge
			}
			table = append(table, append([]byte(nil), f.data...))
		case f.is(3, protowire.BytesType):
			if count++; count > most {
				return errLarge
			}
			c, err := decodeCertificate(f.data, table)
			if err != nil {
				return err
			}
			return each(c, f.data)
		case other != nil:
			return other(f)
		}
		return nil
	}))
}

func finish(formatted *bool, err error) error {
	if err == nil && !*formatted {
		return errWire
	}
	return err
}

func decodeCertificate(b []byte, table [][]byte) (Certificate, error) {
	var c Certificate
	err := eachField(b, func(f field) (err error) {
		switch {
		case f.is(1, protowire.BytesType):
			c.Subject, err = parseSubject(f.data)
		case f.is(2, protowire.VarintType):
			c.N = f.n
		case f.is(3, protowire.VarintType):
			if len(c.Proof) >= maxProof {
				return errLarge
			}
			if f.n >= uint64(len(table)) {
				return errWire
			}
			c.Proof = append(c.Proof, table[f.n])
		case f.is(4, protowire.BytesType):
			c.Reason, err = f.text(maxReason)
		}
		return err
	})
	if err == nil && (c.Subject.Kind == KindUnknown || c.N == 0) {
		err = errWire
	}
	return c, err
}

// EncodeSummary writes which transitions are in force.
func EncodeSummary(summary []Standing) []byte {
	b := appendVarint(nil, 1, wireFormat)
	var one []byte
	for _, s := range summary {
		one = appendVote(one[:0], Vote{Subject: s.Subject, N: s.N})
		b = appendBytes(b, 2, one)
	}
	return b
}

// DecodeSummary reads which transitions a peer has in force.
func DecodeSummary(payload []byte) ([]Standing, error) {
	var out []Standing
	formatted := false
	err := finish(&formatted, eachField(payload, func(f field) error {
		switch {
		case f.is(1, protowire.VarintType):
			formatted = true
			return f.format()
		case f.is(2, protowire.BytesType):
			if len(out) >= maxStandings {
				return errLarge
			}
			v, err := decodeVote(f.data)
			if err != nil {
				return err
			}
			out = append(out, Standing{Subject: v.Subject, N: v.N})
		}
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("reading summary: %w", err)
	}
	return out, nil
}

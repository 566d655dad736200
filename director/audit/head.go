package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// origin begins the text under a head's signature, and with it sets that apart from
	// all else that a director's key signs.
	origin   = "divert.dev/audit/"
	maxFleet = 64
	// MaxHead bounds a signed head, in octets: what it says, and a signature of each of
	// some dozens of directors.
	MaxHead = 16 << 10
	// algEd25519 is note's number for the algorithm.
	algEd25519 = 1
)

// Head is what a log comes to: how many records, and the root of the tree over them.
// Whoever holds one that is signed can tell any other history from that one.
type Head struct {
	Fleet    string
	Size     int64
	Root     tlog.Hash
	Revision uint64 // of the plan of the last record; 0: the log is empty
}

// Text is what is signed: lines, so that people can read it.
func (h Head) Text() string {
	return fmt.Sprintf("%s%s\n%d\n%s\nrevision %d\n", origin, h.Fleet, h.Size, h.Root, h.Revision)
}

// ParseHead reads a text that Text has written, and no other.
func ParseHead(text string) (Head, error) {
	var h Head
	lines := strings.SplitAfter(text, "\n")
	if len(text) > 512 || len(lines) < 4 || !strings.HasPrefix(lines[0], origin) {
		return h, errors.New("it is no head of an audit log")
	}
	h.Fleet = strings.TrimSuffix(strings.TrimPrefix(lines[0], origin), "\n")
	var err error
	if h.Size, err = strconv.ParseInt(strings.TrimSuffix(lines[1], "\n"), 10, 64); err != nil || h.Size < 0 {
		return h, errors.New("the head's size is no number")
	}
	if h.Root, err = tlog.ParseHash(strings.TrimSuffix(lines[2], "\n")); err != nil {
		return h, errors.New("the head's root is no hash")
	}
	revision, ok := strings.CutPrefix(strings.TrimSuffix(lines[3], "\n"), "revision ")
	if h.Revision, err = strconv.ParseUint(revision, 10, 64); err != nil || !ok {
		return h, errors.New("the head's revision is no number")
	}
	if h.Fleet == "" || len(h.Fleet) > maxFleet || h.Text() != text {
		return h, errors.New("the head is not written as heads are")
	}
	return h, nil
}

// Sign seals a head with a director's key: a note as of golang.org/x/mod/sumdb/note.
func (h Head) Sign(director string, key ed25519.PrivateKey) ([]byte, error) {
	if _, err := ParseHead(h.Text()); err != nil {
		return nil, fmt.Errorf("signing the audit log's head: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: h.Text()}, signer{director, key})
	if err != nil {
		return nil, fmt.Errorf("signing the audit log's head: %w", err)
	}
	return signed, nil
}

// Keys are the directors whose word counts, by name.
type Keys map[string]ed25519.PublicKey

// Verifier finds the key of a signature; for note.
func (k Keys) Verifier(name string, hash uint32) (note.Verifier, error) {
	key := k[name]
	if len(key) != ed25519.PublicKeySize || keyHash(name, key) != hash {
		return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
	}
	return verifier{name, key}, nil
}

// Signed is a head with who has signed it.
type Signed struct {
	Head
	Directors []string // whose signatures hold, in order
	Strangers []string // whose keys are not known, in order
	Raw       []byte

	alone []byte // the head under the first of its signatures that hold, and no other
}

// OpenHead reads a signed head. At least one signature must be of a key that counts, and
// none may be wrong; strangers are named, and count for nothing.
func OpenHead(raw []byte, keys Keys) (Signed, error) {
	if len(raw) > MaxHead {
		return Signed{}, fmt.Errorf("a signed head of %d octets, at most %d", len(raw), MaxHead)
	}
	n, err := note.Open(raw, keys)
	if err != nil {
		return Signed{}, fmt.Errorf("the audit log's head: %w", headError(err))
	}
	s := Signed{Raw: raw}
	if s.Head, err = ParseHead(n.Text); err != nil {
		return Signed{}, err
	}
	if s.alone, err = note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs[:1]}); err != nil {
		return Signed{}, fmt.Errorf("the audit log's head: %w", err)
	}
	for _, sig := range n.Sigs {
		s.Directors = append(s.Directors, sig.Name)
	}
	for _, sig := range n.UnverifiedSigs {
		s.Strangers = append(s.Strangers, sig.Name)
	}
	slices.Sort(s.Directors)
	slices.Sort(s.Strangers)
	return s, nil
}

// headError says in words of this field what note says in its own.
func headError(err error) error {
	if stranger, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		names := []string{}
		for _, sig := range stranger.Note.UnverifiedSigs {
			names = append(names, sig.Name)
		}
		return fmt.Errorf("it is signed by nobody whose key counts, but by %s with a key that is not known", strings.Join(names, ", "))
	}
	if wrong, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return fmt.Errorf("the signature of %s does not hold", wrong.Name)
	}
	return err
}

// Join puts the signatures of one head side by side: what several directors say alike.
// Those of other heads are left out, and so are second ones of a director.
func Join(raws ...[]byte) []byte {
	var text []byte
	seen := map[string]bool{}
	var out []byte
	for _, raw := range raws {
		before, sigs, ok := bytes.Cut(raw, []byte("\n\n"))
		if !ok || text != nil && !bytes.Equal(before, text) {
			continue
		}
		if text == nil {
			text = before
			out = append(append(out, before...), "\n\n"...)
		}
		for line := range strings.Lines(string(sigs)) {
			if fields := strings.Fields(line); len(fields) == 3 && !seen[fields[1]] && len(out)+len(line) <= MaxHead {
				seen[fields[1]] = true
				out = append(out, line...)
			}
		}
	}
	return out
}

type signer struct {
	name string
	key  ed25519.PrivateKey
}

func (s signer) Name() string { return s.name }

func (s signer) KeyHash() uint32 {
	return keyHash(s.name, ed25519.PublicKey(s.key[ed25519.PrivateKeySize-ed25519.PublicKeySize:]))
}

func (s signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

type verifier struct {
	name string
	key  ed25519.PublicKey
}

func (v verifier) Name() string                { return v.name }
func (v verifier) KeyHash() uint32             { return keyHash(v.name, v.key) }
func (v verifier) Verify(msg, sig []byte) bool { return ed25519.Verify(v.key, msg, sig) }

// keyHash is how note tells keys of one name apart.
func keyHash(name string, key ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write([]byte{algEd25519})
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

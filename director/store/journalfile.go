package store

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys"
)

// A segment: 8 octets of magic and the format, then frames. A frame is the length of
// its payload, a CRC-32C of length and payload, and the payload, in protobuf's wire
// encoding, so that a later field is skipped by this code. What is kept beside is
// compressed, and its name is the hash of what it holds.
const (
	segmentMagic  = "divert\x00h"
	segmentFormat = 1
	frameHeader   = 8
	maxFrame      = 64 << 20
	packFrom      = 1 << 10 // bodies from this size on are compressed
	// keptRatio is more than text is ever compressed by here: what is larger than
	// so many times the room is not even tried.
	keptRatio = 32
)

const (
	fieldAt protowire.Number = iota + 1
	fieldRef
	fieldBody
	fieldPacked
)

// Entry is one fact of a journal: when, and what in words of the journal's user.
type Entry struct {
	At   time.Time
	Refs []plan.Hash // of what Keep has kept
	Body []byte
}

var errFrame = errors.New("is torn or damaged")

// torn tells a file that ends in the middle from a disk that cannot read it.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errFrame
	}
	return err
}

func castagnoli(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the library
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

func segmentHeader() []byte {
	return binary.BigEndian.AppendUint32([]byte(segmentMagic), segmentFormat)
}

// appendFrame writes an entry.
func appendFrame(to []byte, e Entry) []byte {
	payload := protowire.AppendTag(nil, fieldAt, protowire.Fixed64Type)
	payload = protowire.AppendFixed64(payload, uint64(e.At.UnixNano()))
	for _, h := range e.Refs {
		payload = protowire.AppendTag(payload, fieldRef, protowire.BytesType)
		payload = protowire.AppendBytes(payload, h[:])
	}
	field, body := fieldBody, e.Body
	if len(body) >= packFrom {
		if packed := pack(body); len(packed) < len(body) {
			field, body = fieldPacked, packed
		}
	}
	payload = protowire.AppendTag(payload, field, protowire.BytesType)
	payload = protowire.AppendBytes(payload, body)
	var header [frameHeader]byte
	binary.BigEndian.PutUint32(header[:], uint32(min(len(payload), math.MaxUint32)))
	binary.BigEndian.PutUint32(header[4:], castagnoli(header[:4], payload))
	return append(append(to, header[:]...), payload...)
}

// readFrame reads an entry, without its body where that is not wanted; io.EOF at the
// end.
func readFrame(r io.Reader, body bool) (Entry, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); errors.Is(err, io.EOF) {
		return Entry{}, io.EOF
	} else if err != nil {
		return Entry{}, torn(err)
	}
	n := binary.BigEndian.Uint32(header[:])
	if n > maxFrame {
		return Entry{}, errFrame
	}
	var payload bytes.Buffer
	// Not at once what a flipped length says.
	if _, err := io.CopyN(&payload, r, int64(n)); err != nil {
		return Entry{}, torn(err)
	}
	if castagnoli(header[:4], payload.Bytes()) != binary.BigEndian.Uint32(header[4:]) {
		return Entry{}, errFrame
	}
	return readEntry(payload.Bytes(), body)
}

func readEntry(payload []byte, body bool) (Entry, error) {
	var e Entry
	for len(payload) > 0 {
		num, kind, n := protowire.ConsumeTag(payload)
		if n < 0 {
			return e, errFrame
		}
		size := protowire.ConsumeFieldValue(num, kind, payload[n:])
		if size < 0 {
			return e, errFrame
		}
		raw := payload[n : n+size]
		payload = payload[n+size:]
		switch {
		case num == fieldAt && kind == protowire.Fixed64Type:
			v, _ := protowire.ConsumeFixed64(raw)
			e.At = time.Unix(0, int64(v))
		case num == fieldRef && kind == protowire.BytesType:
			v, _ := protowire.ConsumeBytes(raw)
			h, err := toHash(v)
			if err != nil {
				return e, errFrame
			}
			e.Refs = append(e.Refs, h)
		case !body:
		case num == fieldBody && kind == protowire.BytesType:
			e.Body, _ = protowire.ConsumeBytes(raw)
		case num == fieldPacked && kind == protowire.BytesType:
			v, _ := protowire.ConsumeBytes(raw)
			var err error
			if e.Body, err = unpack(v, maxFrame); err != nil {
				return e, errFrame
			}
		}
	}
	return e, nil
}

// pack compresses, for speed: the director has better things to do.
func pack(b []byte) []byte {
	var out bytes.Buffer
	if err := packTo(&out, b); err != nil {
		return b
	}
	return out.Bytes()
}

func packTo(w io.Writer, b []byte) error {
	z, err := flate.NewWriter(w, flate.BestSpeed)
	if err == nil {
		_, err = z.Write(b)
	}
	if err == nil {
		err = z.Close()
	}
	return err
}

// unpack is pack the other way round, to at most so many octets.
func unpack(b []byte, most int64) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), most+1))
	if err == nil && int64(len(out)) > most {
		err = ErrTooLarge
	}
	return out, err
}

// read gives the entries of a segment in order, until each wants no more or the end.
// An error says that there is more that cannot be read.
func (j *Journal) read(n uint64, body bool, each func(Entry) bool) error {
	f, err := j.fsys.OpenFile(j.path(n), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	header := make([]byte, len(segmentMagic)+4)
	if _, err := io.ReadFull(r, header); err != nil {
		return torn(err)
	}
	if string(header[:len(segmentMagic)]) != segmentMagic {
		return fmt.Errorf("is no part of a history: it %w", errFrame)
	}
	if format := binary.BigEndian.Uint32(header[len(segmentMagic):]); format != segmentFormat {
		return fmt.Errorf("has format %d, this director reads %d: it %w", format, segmentFormat, errNewer)
	}
	for {
		e, err := readFrame(r, body)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !each(e):
			return nil
		}
	}
}

// Stretch is what a journal says of an instant.
type Stretch struct {
	Entries []Entry // of one segment, from its first to the last that is not after the instant
	After   *Entry  // the next one; nil: there is none
	Torn    bool    // something between that cannot be read
	Twice   bool    // the clock went back over the instant: this is the later time that it came
}

// Find gives what holds at an instant; ErrNotKept where nothing is.
func (j *Journal) Find(at time.Time) (Stretch, error) {
	j.mu.Lock()
	numbers := make([]uint64, 0, len(j.segments))
	chosen := -1
	var out Stretch
	for i, s := range j.segments {
		numbers = append(numbers, s.number)
		if !s.first.After(at) {
			chosen = i
		}
	}
	for i := range max(chosen, 0) {
		out.Twice = out.Twice || j.segments[i].last.After(at)
	}
	j.mu.Unlock()
	if chosen < 0 {
		return Stretch{}, ErrNotKept
	}
	var all []Entry
	last := -1
	err := j.read(numbers[chosen], true, func(e Entry) bool {
		all = append(all, e)
		if !e.At.After(at) {
			last = len(all) - 1
		}
		return true
	})
	if last < 0 { // dropped, or damaged, since
		return Stretch{}, errors.Join(ErrNotKept, err)
	}
	out.Torn = err != nil && last == len(all)-1
	out.Entries = all[:last+1]
	for _, e := range out.Entries {
		out.Twice = out.Twice || e.At.After(at)
	}
	if last+1 < len(all) {
		out.After = &all[last+1]
		return out, nil
	}
	if chosen+1 < len(numbers) {
		_ = j.read(numbers[chosen+1], true, func(e Entry) bool { // unreadable: there is none
			out.After = &e
			return false
		})
	}
	return out, nil
}

// Kept gives what Keep kept.
func (j *Journal) Kept(h plan.Hash) ([]byte, error) {
	raw, err := fsys.ReadFile(j.fsys, j.keptPath(h), 2*MaxChunks*MaxChunk)
	if err != nil {
		return nil, fmt.Errorf("%s %w", h.Short(), ErrNotKept)
	}
	content, err := unpack(raw, MaxChunks*MaxChunk)
	if err != nil || plan.Sum(content) != h {
		return nil, fmt.Errorf("%s is damaged", h.Short())
	}
	return content, nil
}

// writeKept writes a compressed file so that it is whole or not there.
func writeKept(on fsys.FS, path string, content []byte) (size int64, err error) {
	err = fsys.Replace(on, path, func(w io.Writer) error {
		n := &counter{w: w}
		out := bufio.NewWriterSize(n, 64<<10)
		if err := packTo(out, content); err != nil {
			return err
		}
		err := out.Flush()
		size = n.octets
		return err
	})
	return size, err
}

// counter counts what is written.
type counter struct {
	w      io.Writer
	octets int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.octets += int64(n)
	return n, err
}

func parseHash(s string) (plan.Hash, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return plan.Hash{}, err
	}
	return toHash(raw)
}

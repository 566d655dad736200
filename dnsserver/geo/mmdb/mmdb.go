// Package mmdb owns the reading of MaxMind DB files into geo tables. It takes
// such a file for what it may be, a stranger's: it never crashes on one, never
// follows it longer than its size warrants, and keeps nothing of it.
package mmdb

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/divertdns/divert/dnsserver/geo"
)

// maxFile bounds the file: the largest databases of cities have 500 MB.
const maxFile = 1 << 30

// Open reads a database. The file is read, not mapped: one that is cut short in
// place while it is mapped ends the process.
func Open(path string) (*geo.Table, error) {
	data, err := load(path)
	if err != nil {
		return nil, err
	}
	t, err := Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func load(path string) ([]byte, error) {
	// A pipe is not opened: that would wait for somebody to write into it.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err = f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d MB; it may have %d", path, info.Size()>>20, maxFile>>20)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return data, nil
}

// open is the library's, which is trusted with no damaged file: that it panics on
// one has to be reckoned with.
func open(data []byte) (db *maxminddb.Reader, err error) {
	defer recovered(&err)
	if len(data) == 0 {
		return nil, errors.New("the file is empty")
	}
	db, err = maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("not a MaxMind DB file, or a damaged one: %w", err)
	}
	m := &db.Metadata
	switch {
	case m.IPVersion != 4 && m.IPVersion != 6:
		return nil, fmt.Errorf("it is for IP version %d", m.IPVersion)
	case m.RecordSize != 24 && m.RecordSize != 28 && m.RecordSize != 32:
		return nil, fmt.Errorf("it has records of %d bits", m.RecordSize)
	case m.NodeCount == 0 || m.NodeCount > 1<<30:
		return nil, fmt.Errorf("it has %d nodes", m.NodeCount)
	}
	return db, nil
}

func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the database is damaged: %v", r)
	}
}

// Read makes a table of a database's octets, which it does not keep.
func Read(data []byte) (t *geo.Table, err error) {
	defer recovered(&err)
	db, err := open(data)
	if err != nil {
		return nil, err
	}
	hash := hashOf(data) // first: after the walk nothing needs the file any more
	b := geo.NewBuilder()
	places := make(map[uint32]uint32)
	known := false
	m := &db.Metadata
	walker := tree{nodes: data[:m.NodeCount*m.RecordSize/4], record: m.RecordSize, count: uint32(m.NodeCount)}
	walker.none = func(network netip.Prefix) error { return b.Add(network, 0) }
	walker.found = func(network netip.Prefix, offset uint32) error {
		place, seen := places[offset]
		if !seen {
			result := db.LookupOffset(uintptr(offset))
			var err error
			if place, err = placeAt(b, &result); err != nil {
				return fmt.Errorf("the record of %s: %w", network, err)
			}
			places[offset] = place
			known = known || place != 0
		}
		return b.Add(network, place)
	}
	if err := walker.walk(m.IPVersion); err != nil {
		return nil, fmt.Errorf("the database is damaged: %w", err)
	}
	if !known {
		return nil, fmt.Errorf("%s holds no country of any network: it is a database of something else", db.Metadata.DatabaseType)
	}
	return b.Table(geo.Origin{Name: printable(db.Metadata.DatabaseType), Built: db.Metadata.BuildTime(), Hash: hash})
}

// hashOf sums the file up, in pieces: nothing interrupts the summing of one, a
// garbage collection that all wait for neither.
func hashOf(data []byte) string {
	const piece = 1 << 20
	sum := sha256.New()
	for len(data) > 0 {
		n := min(len(data), piece)
		sum.Write(data[:n])
		data = data[n:]
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// printable makes a name that may be shown, whatever the file says.
func printable(s string) string {
	const most = 40
	out := make([]byte, 0, most)
	for i := 0; i < len(s) && len(out) < most; i++ {
		if c := s[i]; c > ' ' && c < 0x7f {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return "unnamed"
	}
	return string(out)
}

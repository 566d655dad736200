package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/divertdns/divert/director/audit"
	"github.com/divertdns/divert/director/store/fsys"
)

// A tile's file: magic and format, its number, how many records, the root over them, a
// CRC-32C of that; each record with its length before it; the SHA-256 of all.
const (
	tilePrefix = "tile-"
	tileMagic  = "divert\x00t\x01"
	tileHeader = len(tileMagic) + 8 + 4 + tlog.HashSize + 4
	maxTile    = tileHeader + audit.TileWidth*(4+audit.MaxRecord) + sha256.Size
	// headFile and witnessFile are what this director has signed last, and what others have.
	headFile, witnessFile = "head", "witness"
	// seenFile is the longest head that the store was seen to have.
	seenFile = "seen"
)

// errTile says that a tile's file is not what was written.
var errTile = errors.New("it is damaged")

// Tiles is the sealed audit log on a director's own disk: files of 256 records each, of
// which the last grows. Every write replaces a file as a whole, so that a crash leaves the
// log as it was or with what was appended. It is written by one goroutine and read by any.
type Tiles struct {
	fsys fsys.FS
	dir  string
	free func(dir string) (octets uint64, err error)

	settled bool // the last file found at the start outlasts the machine. By the writer

	mu      sync.Mutex
	tree    *audit.Tree
	last    [][]byte // the records of the last tile, while it is not full
	problem string
}

// OpenTiles reads what a folder has, which is made when absent. Of a tile that cannot be
// read the log has what comes before, and Problem says so: what is missing can be appended
// again.
func OpenTiles(dir string) (*Tiles, error) { return tilesOn(fsys.OS{}, dir, freeOn) }

func tilesOn(on fsys.FS, dir string, free func(string) (uint64, error)) (*Tiles, error) {
	t := &Tiles{fsys: on, dir: dir, free: free, tree: &audit.Tree{}}
	if err := fsys.MkdirAll(on, dir, 0o700); err != nil {
		return nil, fmt.Errorf("the audit log's folder: %w", err)
	}
	entries, err := on.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the audit log's folder: %w", err)
	}
	there := 0
	for _, e := range entries {
		switch {
		case strings.HasSuffix(e.Name(), fsys.Temporary):
			_ = on.Remove(filepath.Join(dir, e.Name()))
		case strings.HasPrefix(e.Name(), tilePrefix):
			there++
		}
	}
	for n := range int64(there) {
		count, root, err := t.header(n)
		if err == nil && count == audit.TileWidth && n < int64(there)-1 {
			if err = t.tree.AddTile(root); err == nil {
				continue
			}
		}
		var raws [][]byte
		if err == nil {
			raws, err = t.read(n)
		}
		if err != nil && !errors.Is(err, errTile) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the audit log: %w", err) // that cannot be read now is not that it is lost
		}
		if err != nil {
			t.problem = fmt.Sprintf("%s: %s", t.path(n), err)
			break
		}
		for _, raw := range raws {
			t.tree.Add(tlog.RecordHash(raw))
		}
		if t.last = raws; len(raws) == audit.TileWidth {
			t.last = nil
			continue
		}
		if n < int64(there)-1 {
			t.problem = fmt.Sprintf("%s ends early: what comes after it is not used", t.path(n))
		}
		break
	}
	return t, nil
}

// Problem says what could not be read at the start; "" = all was.
func (t *Tiles) Problem() string { return t.problem }

func (t *Tiles) path(n int64) string {
	return filepath.Join(t.dir, fmt.Sprintf("%s%010d", tilePrefix, n))
}

// Size is how many records the log has.
func (t *Tiles) Size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tree.Size()
}

// Tree is the log's shape now, which later writes do not touch.
func (t *Tiles) Tree() *audit.Tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tree.Clone()
}

// Append adds records, and returns when all that the log has is on the disk: with none,
// what a start found is, too, which may be the work of a process that was killed before
// its sync. After an error some may be: Size tells. By the writer alone.
func (t *Tiles) Append(raws ...[]byte) error {
	if err := t.settle(); err != nil {
		return fmt.Errorf("sealing audit records: %w", err)
	}
	for len(raws) > 0 {
		if octets, err := t.free(t.dir); err == nil && octets < journalReserve {
			return ErrNoRoom
		}
		n := t.tree.Tiles()
		take := min(len(raws), audit.TileWidth-len(t.last))
		for _, raw := range raws[:take] {
			if len(raw) > audit.MaxRecord {
				return fmt.Errorf("an audit record of %d octets, at most %d: %w", len(raw), audit.MaxRecord, ErrTooLarge)
			}
		}
		next := slices.Concat(t.last, raws[:take])
		if err := t.write(n, next); err != nil {
			return fmt.Errorf("sealing audit records: %w", err)
		}
		t.mu.Lock()
		for _, raw := range raws[:take] {
			t.tree.Add(tlog.RecordHash(raw))
		}
		if t.last = next; len(next) == audit.TileWidth {
			t.last = nil
		}
		t.mu.Unlock()
		raws = raws[take:]
	}
	return nil
}

// settle writes the last file anew, once: a sync that was refused to another process is
// not said again.
func (t *Tiles) settle() error {
	if t.settled {
		return nil
	}
	if octets, err := t.free(t.dir); err == nil && octets < journalReserve {
		return ErrNoRoom
	}
	n, raws := t.tree.Tiles(), t.last
	if len(raws) == 0 && n > 0 {
		n--
		var err error
		if raws, err = t.read(n); err != nil && !errors.Is(err, errTile) { // one that is damaged is Mend's
			return err
		}
	}
	if len(raws) > 0 {
		if err := t.write(n, raws); err != nil {
			return err
		}
	}
	t.settled = true
	return nil
}

func (t *Tiles) write(n int64, raws [][]byte) error {
	hashes := make([]tlog.Hash, len(raws))
	size := tileHeader + sha256.Size
	for i, raw := range raws {
		hashes[i] = tlog.RecordHash(raw)
		size += 4 + len(raw)
	}
	root := rootOf(hashes)
	out := make([]byte, 0, size)
	out = append(out, tileMagic...)
	out = binary.BigEndian.AppendUint64(out, uint64(n))
	out = binary.BigEndian.AppendUint32(out, uint32(len(raws)))
	out = append(out, root[:]...)
	out = binary.BigEndian.AppendUint32(out, castagnoli(out))
	for _, raw := range raws {
		out = binary.BigEndian.AppendUint32(out, uint32(len(raw)))
		out = append(out, raw...)
	}
	sum := sha256.Sum256(out)
	return fsys.Replace(t.fsys, t.path(n), func(w io.Writer) error {
		_, err := w.Write(append(out, sum[:]...))
		return err
	})
}

func rootOf(hashes []tlog.Hash) tlog.Hash {
	var tree audit.Tree
	for _, h := range hashes {
		tree.Add(h)
	}
	return tree.Root()
}

// header reads what a tile's file says of itself.
func (t *Tiles) header(n int64) (count int, root tlog.Hash, err error) {
	raw, err := fsys.ReadFile(t.fsys, t.path(n), int64(tileHeader))
	if err != nil {
		return 0, root, err
	}
	return parseTileHeader(n, raw)
}

func parseTileHeader(n int64, raw []byte) (count int, root tlog.Hash, err error) {
	const at = len(tileMagic)
	if len(raw) < tileHeader || string(raw[:at]) != tileMagic ||
		binary.BigEndian.Uint32(raw[tileHeader-4:]) != castagnoli(raw[:tileHeader-4]) ||
		binary.BigEndian.Uint64(raw[at:]) != uint64(n) {
		return 0, root, errTile
	}
	count = int(binary.BigEndian.Uint32(raw[at+8:]))
	if count < 1 || count > audit.TileWidth {
		return 0, root, errTile
	}
	return count, tlog.Hash(raw[at+12 : at+12+tlog.HashSize]), nil
}

// read gives the records of a tile, held against its sums.
func (t *Tiles) read(n int64) ([][]byte, error) {
	raw, err := fsys.ReadFile(t.fsys, t.path(n), int64(maxTile)+1)
	if err != nil {
		return nil, err
	}
	return parseTile(n, raw)
}

func parseTile(n int64, raw []byte) ([][]byte, error) {
	count, root, err := parseTileHeader(n, raw)
	if err != nil {
		return nil, err
	}
	if len(raw) < tileHeader+sha256.Size || len(raw) > maxTile {
		return nil, errTile
	}
	end := len(raw) - sha256.Size
	if sum := sha256.Sum256(raw[:end]); !bytes.Equal(sum[:], raw[end:]) {
		return nil, errTile
	}
	body, out := raw[tileHeader:end], make([][]byte, 0, count)
	hashes := make([]tlog.Hash, 0, count)
	for range count {
		if len(body) < 4 {
			return nil, errTile
		}
		size := binary.BigEndian.Uint32(body)
		if size > audit.MaxRecord || int(size) > len(body)-4 {
			return nil, errTile
		}
		out = append(out, slices.Clip(body[4:4+size]))
		hashes = append(hashes, tlog.RecordHash(body[4:4+size]))
		body = body[4+size:]
	}
	if rootOf(hashes) != root || len(body) > 0 {
		return nil, errTile
	}
	return out, nil
}

// Records gives those of a tile, the last one's too.
func (t *Tiles) Records(tile int64) ([][]byte, error) {
	t.mu.Lock()
	tiles, last := t.tree.Tiles(), t.last
	var root tlog.Hash
	if tile < tiles {
		root = t.tree.TileRoot(tile)
	}
	t.mu.Unlock()
	if tile == tiles {
		return last, nil
	}
	raws, err := t.read(tile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.path(tile), err)
	}
	hashes := make([]tlog.Hash, 0, len(raws))
	for _, raw := range raws {
		hashes = append(hashes, tlog.RecordHash(raw))
	}
	if got, err := audit.TileRootOf(hashes); err != nil || got != root {
		return nil, fmt.Errorf("%s: %w: it is not the tile that was sealed", t.path(tile), errTile)
	}
	return raws, nil
}

// CheckLast reads the file of the last tile, which Records gives from memory, and holds it
// against that: an error says that the file is not what was sealed, or cannot be read.
func (t *Tiles) CheckLast() error {
	t.mu.Lock()
	n, last := t.tree.Tiles(), t.last
	t.mu.Unlock()
	if len(last) == 0 {
		return nil
	}
	raws, err := t.read(n) // as it is in memory, or with what is being appended
	if err == nil && (len(raws) < len(last) || !slices.EqualFunc(raws[:len(last)], last, bytes.Equal)) {
		err = fmt.Errorf("%w: it is not what was sealed", errTile)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", t.path(n), err)
	}
	return nil
}

// Leaves gives the hashes of a full tile's records.
func (t *Tiles) Leaves(tile int64) ([]tlog.Hash, error) {
	raws, err := t.Records(tile)
	out := make([]tlog.Hash, 0, len(raws))
	for _, raw := range raws {
		out = append(out, tlog.RecordHash(raw))
	}
	return out, err
}

// Each gives the records from one on, in order, as many as there are when it begins.
func (t *Tiles) Each(ctx context.Context, from int64, each func(n int64, raw []byte) error) error {
	size := t.Size()
	for from < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		tile := from / audit.TileWidth
		raws, err := t.Records(tile)
		if err != nil {
			return err
		}
		for at := tile * audit.TileWidth; len(raws) > 0 && at < size; at, raws = at+1, raws[1:] {
			if at < from {
				continue
			}
			if err := each(at, raws[0]); err != nil {
				return err
			}
			from = at + 1
		}
	}
	return nil
}

// Mend puts a full tile back that cannot be read. It takes the very records that were
// sealed, and no others. By the writer alone.
func (t *Tiles) Mend(tile int64, raws [][]byte) error {
	hashes := make([]tlog.Hash, 0, len(raws))
	for _, raw := range raws {
		hashes = append(hashes, tlog.RecordHash(raw))
	}
	if tile >= t.tree.Tiles() {
		return fmt.Errorf("tile %d is not full", tile)
	}
	if root, err := audit.TileRootOf(hashes); err != nil || root != t.tree.TileRoot(tile) {
		return errors.New("they are not the records that were sealed")
	}
	return t.write(tile, raws)
}

// Rewrite puts other records in a tile's place, those that were sealed where what is there
// was altered: the log must be opened anew. By the writer alone.
func (t *Tiles) Rewrite(tile int64, raws [][]byte) error {
	if tile > t.tree.Tiles() || len(raws) == 0 || len(raws) > audit.TileWidth {
		return fmt.Errorf("tile %d of %d records cannot be written", tile, len(raws))
	}
	if octets, err := t.free(t.dir); err == nil && octets < journalReserve {
		return ErrNoRoom
	}
	return t.write(tile, raws)
}

// WriteLast writes the file of the last tile anew, from memory. By the writer alone.
func (t *Tiles) WriteLast() error {
	if len(t.last) == 0 {
		return nil
	}
	return t.Rewrite(t.tree.Tiles(), t.last)
}

// Head is what this director signed last; nil: nothing.
func (t *Tiles) Head() ([]byte, error) { return t.small(headFile, audit.MaxHead) }

// SaveHead replaces it. By the writer alone.
func (t *Tiles) SaveHead(raw []byte) error { return t.saveSmall(headFile, raw) }

// Witness is what was kept of what others have signed; nil: nothing.
func (t *Tiles) Witness() ([]byte, error) { return t.small(witnessFile, audit.MaxWitness) }

// SaveWitness replaces it. By the writer alone.
func (t *Tiles) SaveWitness(raw []byte) error { return t.saveSmall(witnessFile, raw) }

// SeenHead is the longest head that the store was seen to have, by its size; in which
// epoch, and up to which revision records were collected under it then.
type SeenHead struct {
	Size      int64
	Epoch     uint64
	Collected uint64
}

// Seen is what was kept of that; zero: none, or nobody knows.
func (t *Tiles) Seen() SeenHead {
	raw, err := t.small(seenFile, 24+1)
	if err != nil || len(raw) != 24 {
		return SeenHead{}
	}
	return SeenHead{int64(binary.BigEndian.Uint64(raw) & (1<<62 - 1)), binary.BigEndian.Uint64(raw[8:]), binary.BigEndian.Uint64(raw[16:])}
}

// SaveSeen replaces it. By the writer alone.
func (t *Tiles) SaveSeen(h SeenHead) error {
	raw := binary.BigEndian.AppendUint64(nil, uint64(h.Size))
	return t.saveSmall(seenFile, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(raw, h.Epoch), h.Collected))
}

func (t *Tiles) small(name string, limit int64) ([]byte, error) {
	raw, err := fsys.ReadFile(t.fsys, filepath.Join(t.dir, name), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

func (t *Tiles) saveSmall(name string, raw []byte) error {
	if octets, err := t.free(t.dir); err == nil && octets < journalReserve {
		return ErrNoRoom
	}
	return fsys.Replace(t.fsys, filepath.Join(t.dir, name), func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

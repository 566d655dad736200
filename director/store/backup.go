package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// A backup: 8 octets of magic and the format, then parts: a kind, the length, the
// octets. The last part is the SHA-256 of all before it, so that a file which lost its
// end is told from a whole one. Kinds of later versions are skipped.
const (
	backupMagic  = "divert\x00b"
	backupFormat = 1
	maxPart      = 8 << 20
)

const (
	partHead   = 1 // BackupHead, as JSON
	partPlan   = 2 // the envelope, as sealed
	partDoc    = 3 // a piece of the spec document, in order
	partAudit  = 4 // the revision in 8 octets, and the record as stored
	partPolicy = 5 // the policy's bundle, where the plan names one and it was at hand
	partVault  = 6 // the ciphertexts of the fleet's secrets, likewise
	partEnd    = 255
)

// ErrBackup says that a file is no backup, or none that is whole.
var ErrBackup = errors.New("is no whole backup")

// BackupHead says what a backup is, for people.
type BackupHead struct {
	Made     time.Time `json:"made"`
	Director string    `json:"director"` // that made it
	Version  string    `json:"version"`
	Fleet    string    `json:"fleet"`
	Epoch    uint64    `json:"epoch"`
	Revision uint64    `json:"revision"`
	NoAudit  bool      `json:"noAudit,omitempty"` // the store did not answer
}

// Backup is what a backup holds, but for its audit records.
type Backup struct {
	Head    BackupHead
	Plan    *plan.Sealed
	Doc     []byte
	Policy  []byte // the policy's bundle; nil: there is none, or it was not at hand
	Vault   []byte // the ciphertexts of secrets, likewise
	Audits  int    // how many records
	Highest uint64 // the highest revision of one
}

// BackupWriter writes a backup. Nothing secret is in it: no private key, no key of gossip,
// and of the fleet's secrets the ciphertexts alone.
type BackupWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

// NewBackupWriter begins one with all but the audit log.
func NewBackupWriter(w io.Writer, head BackupHead, sealed *plan.Sealed, doc []byte) (*BackupWriter, error) {
	b := &BackupWriter{sum: sha256.New()}
	b.w = bufio.NewWriterSize(w, 64<<10)
	head.Fleet, head.Epoch, head.Revision = sealed.Identity.Fleet, sealed.Identity.Epoch, sealed.Identity.Revision
	text, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if err := b.write(binary.BigEndian.AppendUint32([]byte(backupMagic), backupFormat)); err != nil {
		return nil, err
	}
	if err := errors.Join(b.part(partHead, text), b.part(partPlan, sealed.Raw)); err != nil {
		return nil, err
	}
	for rest := doc; len(rest) > 0; {
		n := min(len(rest), MaxChunk)
		if err := b.part(partDoc, rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return b, nil
}

// Policy adds the bundle of the plan's policy.
func (b *BackupWriter) Policy(bundle []byte) error { return b.part(partPolicy, bundle) }

// Vault adds the ciphertexts of the fleet's secrets.
func (b *BackupWriter) Vault(octets []byte) error { return b.part(partVault, octets) }

// Audit adds a record, as it is stored.
func (b *BackupWriter) Audit(revision uint64, raw []byte) error {
	return b.part(partAudit, binary.BigEndian.AppendUint64(nil, revision), raw)
}

// End makes it whole.
func (b *BackupWriter) End() error {
	if err := b.part(partEnd, b.sum.Sum(nil)); err != nil {
		return err
	}
	return b.w.Flush()
}

func (b *BackupWriter) part(kind byte, pieces ...[]byte) error {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	if size > maxPart {
		return fmt.Errorf("backup: %d octets: %w", size, ErrTooLarge)
	}
	if err := b.write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(min(size, math.MaxUint32)))); err != nil {
		return err
	}
	for _, p := range pieces {
		if err := b.write(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *BackupWriter) write(p []byte) error {
	b.sum.Write(p)
	if _, err := b.w.Write(p); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// ReadBackup reads and checks a backup; audit, which may be nil, is given each record
// before it is known whether the file is whole.
func ReadBackup(r io.Reader, audit func(revision uint64, raw []byte) error) (Backup, error) {
	var b Backup
	in := bufio.NewReaderSize(r, 64<<10)
	sum := sha256.New()
	read := func(n int) ([]byte, error) {
		out := make([]byte, n)
		if _, err := io.ReadFull(in, out); err != nil {
			return nil, fmt.Errorf("%w: it ends in the middle", ErrBackup)
		}
		return out, nil
	}
	header, err := read(len(backupMagic) + 4)
	if err != nil || string(header[:len(backupMagic)]) != backupMagic {
		return b, ErrBackup
	}
	if format := binary.BigEndian.Uint32(header[len(backupMagic):]); format != backupFormat {
		return b, fmt.Errorf("the backup has format %d, this divert reads %d: it %w", format, backupFormat, errNewer)
	}
	sum.Write(header)
	var doc bytes.Buffer
	for {
		lead, err := read(5)
		if err != nil {
			return b, err
		}
		size := binary.BigEndian.Uint32(lead[1:])
		if size > maxPart {
			return b, fmt.Errorf("%w: it is damaged", ErrBackup)
		}
		body, err := read(int(size))
		if err != nil {
			return b, err
		}
		if lead[0] == partEnd {
			if !bytes.Equal(body, sum.Sum(nil)) {
				return b, fmt.Errorf("%w: its checksum differs", ErrBackup)
			}
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				return b, fmt.Errorf("%w: something follows its end", ErrBackup)
			}
			b.Doc = doc.Bytes()
			return b, b.check()
		}
		sum.Write(lead)
		sum.Write(body)
		if err := b.part(lead[0], body, &doc, audit); err != nil {
			return b, err
		}
	}
}

func (b *Backup) part(kind byte, body []byte, doc *bytes.Buffer, audit func(uint64, []byte) error) (err error) {
	switch kind {
	case partHead:
		if err := json.Unmarshal(body, &b.Head); err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
	case partPlan:
		if b.Plan, err = plan.Open(body); err != nil {
			return fmt.Errorf("the plan of the backup: %w", err)
		}
	case partDoc:
		if doc.Len()+len(body) > MaxChunks*MaxChunk {
			return fmt.Errorf("the spec of the backup: %w", ErrTooLarge)
		}
		doc.Write(body)
	case partPolicy:
		b.Policy = body
	case partVault:
		b.Vault = body
	case partAudit:
		if len(body) < 8 {
			return fmt.Errorf("%w: an audit record is damaged", ErrBackup)
		}
		revision := binary.BigEndian.Uint64(body)
		b.Audits, b.Highest = b.Audits+1, max(b.Highest, revision)
		if audit != nil {
			return audit(revision, body[8:])
		}
	}
	return nil
}

// check holds the parts against each other.
func (b *Backup) check() error {
	if b.Plan == nil {
		return fmt.Errorf("%w: it holds no plan", ErrBackup)
	}
	if ref := b.Plan.Plan.GetSpec(); ref != nil {
		if sum := plan.Sum(b.Doc); !bytes.Equal(sum[:], ref.GetHash()) {
			return fmt.Errorf("%w: its spec is not the one that its plan names", ErrBackup)
		}
	}
	if sum := plan.Sum(b.Policy); len(b.Policy) > 0 && !bytes.Equal(sum[:], b.Plan.Plan.GetPolicy().GetBundle().GetHash()) {
		return fmt.Errorf("%w: its policy is not the one that its plan names", ErrBackup)
	}
	if sum := plan.Sum(b.Vault); len(b.Vault) > 0 && !bytes.Equal(sum[:], b.Plan.Plan.GetVault().GetHash()) {
		return fmt.Errorf("%w: its secrets are not those that its plan names", ErrBackup)
	}
	return nil
}

// EachAudit gives the audit records as they are stored, in the order of their
// revisions, from one on.
func (s *Store) EachAudit(ctx context.Context, from uint64, each func(revision uint64, raw []byte) error) error {
	for key := s.keys.audit(from); key != ""; {
		resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.client.Get(ctx, key, clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.keys.audits())),
				clientv3.WithLimit(MaxAudit), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		})
		if err != nil {
			return unavailable("reading the audit log", err)
		}
		key = ""
		for _, kv := range resp.Kvs {
			if resp.More {
				key = string(kv.Key) + "\x00"
			}
			revision, err := strconv.ParseUint(strings.TrimPrefix(string(kv.Key), s.keys.audits()), 10, 64)
			if err != nil {
				continue // not of our making
			}
			if err := each(revision, kv.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// LastAudit gives the highest revision that the audit log has a record of; 0: none.
func (s *Store) LastAudit(ctx context.Context) (uint64, error) {
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, s.keys.audits(), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	})
	if err != nil {
		return 0, unavailable("reading the audit log", err)
	}
	if len(resp.Kvs) == 0 {
		return 0, nil
	}
	revision, err := strconv.ParseUint(strings.TrimPrefix(string(resp.Kvs[0].Key), s.keys.audits()), 10, 64)
	if err != nil {
		return 0, nil // nothing of ours sorts behind numbers
	}
	return revision, nil
}

// PutAudit puts a record back that the store lacks, or has and cannot be read. One
// that says otherwise stays (S15), and differs tells.
func (s *Store) PutAudit(ctx context.Context, revision uint64, raw []byte) (put, differs bool, err error) {
	if err := readable(revision, raw); err != nil {
		return false, false, nil // of no use to anybody
	}
	key := s.keys.audit(revision)
	kv, err := s.get(ctx, key)
	if err != nil {
		return false, false, unavailable("reading the audit log", err)
	}
	mod := int64(0)
	if kv != nil {
		if bytes.Equal(kv.Value, raw) {
			return false, false, nil
		}
		if readable(revision, kv.Value) == nil {
			return false, true, nil
		}
		mod = kv.ModRevision
	}
	resp, err := s.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", mod)}, []clientv3.Op{clientv3.OpPut(key, string(raw))})
	if err != nil {
		return false, false, unavailable("writing the audit log", err)
	}
	return resp.Succeeded, false, nil
}

// isOf tells whether a readable record is that of a plan.
func isOf(raw []byte, h plan.Hash) bool {
	a := &plan.Audit{}
	return proto.Unmarshal(raw, a) == nil && bytes.Equal(a.GetPlan(), h[:])
}

// readable says why a stored audit record is none.
func readable(revision uint64, raw []byte) error {
	a := &plan.Audit{}
	if err := proto.Unmarshal(raw, a); err != nil {
		return err
	}
	if a.GetRevision() != revision {
		return fmt.Errorf("it says that it is of revision %d", a.GetRevision())
	}
	return nil
}

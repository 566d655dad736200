package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// An export is lines of JSON: the first has the signed head, each other a record as it is
// stored with the proof that the head holds it. So each line can be held against the head
// alone, and of a file with one that was altered it is known which.
const (
	exportFormat = 1
	// maxLine bounds a line: a record in base64 and a proof.
	maxLine = 256 << 10
	// maxSkipped bounds what is passed over of a line that is too long: a device has no end.
	maxSkipped = 16 << 20
	// maxFindings bounds what Verify lists; it counts the rest.
	maxFindings = 100
)

type exportHead struct {
	Format int    `json:"divertAuditExport"`
	Head   string `json:"head"`
}

type exportRecord struct {
	Record int64       `json:"record"` // its place in the log, from 0
	Raw    []byte      `json:"raw"`
	Proof  []tlog.Hash `json:"proof"`
}

// Write writes an export: of the log that the signed head names, which reader holds. Each
// calls back for every record, in order.
func Write(w io.Writer, signed []byte, size int64, reader tlog.HashReader, each func(func(raw []byte) error) error) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	if err := enc.Encode(exportHead{Format: exportFormat, Head: string(signed)}); err != nil {
		return err
	}
	n := int64(0)
	err := each(func(raw []byte) error {
		if n >= size {
			return nil // of what came meanwhile
		}
		proof, err := tlog.ProveRecord(size, n, reader)
		if err != nil {
			return fmt.Errorf("proving record %d: %w", n, err)
		}
		if proof == nil {
			proof = tlog.RecordProof{}
		}
		err = enc.Encode(exportRecord{Record: n, Raw: raw, Proof: proof})
		n++
		return err
	})
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("the log has %d records, and %d were found", size, n)
	}
	return out.Flush()
}

// Report is what Verify found.
type Report struct {
	Signed   Signed
	Records  int64 // that the export has
	Findings []Finding
	More     int // findings that are not listed
	// Unchecked have signed the head, too, with keys that were not given, so that nothing is
	// known of their signatures.
	Unchecked []string
}

// Good tells whether all is as it was sealed.
func (r Report) Good() bool {
	for _, f := range r.Findings {
		if !f.Harmless {
			return false
		}
	}
	return r.More == 0
}

func (r *Report) find(f Finding) {
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

// Verify holds an export against its head, and the head against the keys of directors,
// in memory that does not grow with it. An error says that nothing can be said: it could
// not be read, or is no export.
//
// The keys are those of all directors: a signature by another is a finding.
func Verify(r io.Reader, keys Keys) (Report, error) { return verify(r, keys, false) }

// VerifyBy is Verify by the keys of some directors alone: the signatures of others are
// not checked, and the report names them.
func VerifyBy(r io.Reader, keys Keys) (Report, error) { return verify(r, keys, true) }

func verify(r io.Reader, keys Keys, some bool) (Report, error) {
	var out Report
	lines := bufio.NewReaderSize(r, maxLine)
	first, err := readLine(lines)
	if err != nil && !errors.Is(err, errTorn) {
		return out, fmt.Errorf("reading the export: %w", err)
	}
	var head exportHead
	if json.Unmarshal(first, &head) != nil || head.Format == 0 {
		return out, errors.New("it is no export of an audit log")
	}
	if head.Format > exportFormat {
		return out, fmt.Errorf("the export has format %d, and this divert reads up to %d: upgrade it", head.Format, exportFormat)
	}
	if err != nil || !asWritten(first, head) {
		out.find(Finding{Record: -1, What: "its first line is not as it was written"})
	}
	if out.Signed, err = OpenHead([]byte(head.Head), keys); err != nil {
		out.find(Finding{Record: -1, What: err.Error()})
		return out, nil
	}
	for _, name := range out.Signed.Strangers {
		if some && keys[name] == nil {
			out.Unchecked = append(out.Unchecked, name)
			continue
		}
		out.find(Finding{Record: -1, What: fmt.Sprintf("the head has a signature of %s with a key that is not known", name)})
	}
	if len(out.Signed.Directors) == 1 && len(keys) > 1 {
		out.find(Finding{Record: -1, Harmless: true, What: fmt.Sprintf("of %d directors only %s has signed this head, which so proves nothing against %s: hold an export of another one beside it", len(keys), out.Signed.Directors[0], out.Signed.Directors[0])})
	}
	err = out.records(lines)
	return out, err
}

func (r *Report) records(lines *bufio.Reader) error {
	var chain Chain
	next := int64(0) // the place that the next record should have
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, errTorn) && !errors.Is(err, errLong) {
			return fmt.Errorf("reading the export: %w", err)
		}
		r.Records++
		var rec exportRecord
		if err != nil || json.Unmarshal(line, &rec) != nil || !asWritten(line, rec) {
			r.find(Finding{Record: next, What: "its line is not as it was written"})
			next++
			chain.Skip()
			continue
		}
		switch at := rec.Record; {
		case at < next:
			r.find(Finding{Record: at, What: "it stands twice, or not in its place"})
			continue
		case at > next && at < r.Signed.Size:
			r.find(Finding{Record: next, What: missing(next, at)})
			chain.Skip()
			next = at
		}
		r.record(&chain, rec)
		next++
	}
	if next < r.Signed.Size {
		r.find(Finding{Record: next, What: missing(next, r.Signed.Size)})
	}
	if last := chain.Last(); last != nil && next == r.Signed.Size && last.GetRevision() != r.Signed.Revision {
		r.find(Finding{Record: -1, What: fmt.Sprintf("the head says that the last record is of revision %d, and it is of %d", r.Signed.Revision, last.GetRevision())})
	}
	return nil
}

// record holds one record against the head.
func (r *Report) record(chain *Chain, rec exportRecord) {
	a, unreadable := ReadRecord(rec.Raw)
	if rec.Record >= r.Signed.Size {
		r.find(Finding{Record: rec.Record, Revision: a.GetRevision(), What: fmt.Sprintf("the head knows of %d records, and not of this one", r.Signed.Size)})
		return
	}
	if err := tlog.CheckRecord(tlog.RecordProof(rec.Proof), r.Signed.Size, r.Signed.Root, rec.Record, tlog.RecordHash(rec.Raw)); err != nil {
		r.find(Finding{Record: rec.Record, Revision: a.GetRevision(), What: "it is not the one that was sealed: it was altered, or put in another's place"})
		chain.Skip()
		return
	}
	if unreadable != nil {
		r.find(Finding{Record: rec.Record, What: unreadable.Error()})
		chain.Skip()
		return
	}
	if f := chain.Add(a); f != nil {
		f.Record = rec.Record
		r.find(*f)
	}
}

func missing(from, to int64) string {
	if to == from+1 {
		return "it is missing"
	}
	return fmt.Sprintf("it and those up to record %d are missing", to-1)
}

var (
	errTorn = errors.New("the last line has no end")
	errLong = errors.New("a line is too long")
)

// readLine gives a line without its end. What it gives holds until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		for skipped := len(line); errors.Is(err, bufio.ErrBufferFull); skipped += len(line) {
			if skipped > maxSkipped {
				return nil, fmt.Errorf("a line has more than %d MiB: it is no export of an audit log", maxSkipped>>20)
			}
			line, err = r.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errLong
	case errors.Is(err, io.EOF) && len(line) > 0:
		return line, errTorn
	default:
		return nil, err
	}
}

// asWritten tells whether a line is, octet for octet, what is written of what it says:
// JSON has many ways to say one thing.
func asWritten(line []byte, of any) bool {
	again, err := json.Marshal(of)
	return err == nil && bytes.Equal(again, line)
}

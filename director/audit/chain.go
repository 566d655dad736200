package audit

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// MaxRecord bounds a record, in octets, as it is stored: what a person gives as a reason
// is far shorter.
const MaxRecord = 64 << 10

// ReadRecord reads a record as the store has it.
func ReadRecord(raw []byte) (*plan.Audit, error) {
	if len(raw) > MaxRecord {
		return nil, fmt.Errorf("it has %d octets, at most %d", len(raw), MaxRecord)
	}
	a := &plan.Audit{}
	if err := proto.Unmarshal(raw, a); err != nil {
		return nil, errors.New("it cannot be read: it was damaged or edited")
	}
	if a.GetRevision() == 0 {
		return nil, errors.New("it is of no revision")
	}
	return a, nil
}

// Finding is something that is wrong with a log, or that a reader of it should know.
type Finding struct {
	Record   int64  // its place in the log, from 0; -1: the log as a whole
	Revision uint64 // as far as it is known, else 0
	What     string
	Harmless bool // it has an honest cause, and says so
}

// String is the finding in a line.
func (f Finding) String() string {
	switch {
	case f.Record < 0:
		return f.What
	case f.Revision == 0:
		return fmt.Sprintf("record %d: %s", f.Record, f.What)
	default:
		return fmt.Sprintf("record %d (revision %d): %s", f.Record, f.Revision, f.What)
	}
}

// chainMemory is how many plans a chain remembers: one that a `store recover` went back
// behind is one of the last.
const chainMemory = 1024

// Chain holds records against each other, in order: each is of a plan, and names the plan
// before it, so that one that is missing shows in the next. The zero Chain begins a log.
type Chain struct {
	last  *plan.Audit
	plans []plan.Hash // of the last records, the newest last
	next  int64
}

// Clone is a chain that goes its own way.
func (c *Chain) Clone() *Chain {
	return &Chain{last: c.last, plans: slices.Clone(c.plans), next: c.next}
}

// Last is the last record; nil: there was none.
func (c *Chain) Last() *plan.Audit { return c.last }

// Add takes the next record in, and says what is odd about it: one finding at most.
func (c *Chain) Add(a *plan.Audit) *Finding {
	f := c.Judge(a)
	c.next++
	c.last = a
	if h, err := hashOf(a.GetPlan()); err == nil {
		if len(c.plans) >= chainMemory {
			c.plans = append(c.plans[:0], c.plans[len(c.plans)-chainMemory/2:]...)
		}
		c.plans = append(c.plans, h)
	}
	return f
}

// Skip counts a record that could not be read; the next one is held against nothing.
func (c *Chain) Skip() {
	c.next++
	c.last, c.plans = nil, nil
}

func hashOf(raw []byte) (h plan.Hash, err error) {
	if len(raw) != len(h) {
		return h, errors.New("no hash")
	}
	return plan.Hash(raw), nil
}

// Judge says what Add would, and takes nothing in.
func (c *Chain) Judge(a *plan.Audit) *Finding {
	f := c.judge(a)
	if f != nil {
		f.Record, f.Revision = c.next, a.GetRevision()
	}
	return f
}

func (c *Chain) judge(a *plan.Audit) *Finding {
	last := c.last
	if last == nil {
		if c.next == 0 && a.GetRevision() > 1 {
			return &Finding{Harmless: true, What: "the log begins here: what came before was lost with a store, or is older than this log"}
		}
		return nil
	}
	if a.GetRevision() <= last.GetRevision() {
		return &Finding{What: fmt.Sprintf("it stands behind the record of revision %d", last.GetRevision())}
	}
	// Of a divert that did not write parents. Who strips a record of both to pass for old
	// gains nothing: its plan must still be the one that the next record, or the plan in
	// force, follows, and its revision the next.
	if a.GetEpoch() == 0 && len(a.GetParent()) == 0 {
		if a.GetRevision() > last.GetRevision()+1 && last.GetEpoch() > 0 { // who deletes some must not pass for old
			return &Finding{What: fmt.Sprintf("there is none of %s, and it does not say after which plan it comes", between(last.GetRevision(), a.GetRevision()))}
		}
		if a.GetRevision() > last.GetRevision()+1 {
			return &Finding{Harmless: true, What: fmt.Sprintf("there is none of %s, and records of that age do not say why", between(last.GetRevision(), a.GetRevision()))}
		}
		return nil
	}
	parent, err := hashOf(a.GetParent())
	if err != nil {
		return &Finding{What: "it names no plan before its own"}
	}
	if h, err := hashOf(last.GetPlan()); err == nil && h == parent {
		return nil
	}
	if slices.Contains(c.plans, parent) {
		if last.GetEpoch() < a.GetEpoch() {
			return &Finding{Harmless: true, What: fmt.Sprintf("epoch %d began here, from a plan before: what stands between was given up when the store was recovered", a.GetEpoch())}
		}
		return &Finding{What: fmt.Sprintf("the record before it, of revision %d, is of no plan that came before this one's", last.GetRevision())}
	}
	if last.GetEpoch() < a.GetEpoch() && last.GetEpoch() > 0 {
		return &Finding{Harmless: true, What: fmt.Sprintf("epoch %d began here, from a plan that this log has no record of", a.GetEpoch())}
	}
	if a.GetRevision() == last.GetRevision()+1 {
		return &Finding{What: fmt.Sprintf("it follows another plan than the one of the record of revision %d: one of the two was altered", last.GetRevision())}
	}
	return &Finding{What: "the record before it is missing: of " + between(last.GetRevision(), a.GetRevision())}
}

func between(last, next uint64) string {
	if last+2 == next {
		return fmt.Sprintf("revision %d", last+1)
	}
	return fmt.Sprintf("revisions %d to %d", last+1, next-1)
}

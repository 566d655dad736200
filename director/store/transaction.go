package store

import (
	"errors"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/election"
)

// Transaction is a commit for whoever sends it by other means than a Store: the
// simulator, to its model of etcd. What is compared, written, and made of the answer
// is the same.
type Transaction struct {
	tx   *transaction
	keys keys
}

// Prepare makes the transaction of a commit, below a prefix.
func Prepare(prefix string, c Commit) (*Transaction, error) {
	tx, err := prepare(c)
	if err != nil {
		return nil, err
	}
	return &Transaction{tx: tx, keys: keysBelow(prefix)}, nil
}

// Ops gives the transaction: what must be so, what is then written, and what is asked
// else.
func (t *Transaction) Ops() (compares []clientv3.Cmp, then, otherwise []clientv3.Op) {
	return t.tx.compares(t.keys), t.tx.writes(t.keys, clientv3.NoLease), t.tx.questions(t.keys)
}

// Result is what is stored if it succeeds.
func (t *Transaction) Result() *plan.Result { return t.tx.result }

// Judge says what the answers to what was asked else mean; see Commit. Again: the
// blobs that were missing are this commit's own, to be written once more.
func (t *Transaction) Judge(resp *clientv3.TxnResponse) (r *plan.Result, again bool, err error) {
	r, err = t.tx.judge(resp)
	missing := (*Missing)(nil)
	return r, errors.As(err, &missing) && t.tx.brings(missing), err
}

// Keys names what is kept below a prefix, for whoever reads it by other means.
type Keys struct{ keys keys }

// KeysBelow gives the names below a prefix.
func KeysBelow(prefix string) Keys { return Keys{keysBelow(prefix)} }

func keysBelow(prefix string) keys { return keys{prefix: strings.TrimSuffix(prefix, "/") + "/"} }

// Plan is the plan's key.
func (k Keys) Plan() string { return k.keys.plan() }

// Blobs stands before all blobs.
func (k Keys) Blobs() string { return k.keys.blobs() }

// Blob is the key of a blob.
func (k Keys) Blob(h plan.Hash) string { return k.keys.blob(h) }

// Audits stands before all audit records.
func (k Keys) Audits() string { return k.keys.audits() }

// Audit is the key of a revision's record.
func (k Keys) Audit(revision uint64) string { return k.keys.audit(revision) }

// Command is the key of a command's result.
func (k Keys) Command(id string) string { return k.keys.command(id) }

// Ack is the key of a director's acknowledgement.
func (k Keys) Ack(director string) string { return k.keys.ack(director) }

// Collectable says which of the blobs that a store lists may be deleted, and under
// which fence; see Collect.
func (k Keys) Collectable(blobs []string, keep map[plan.Hash]bool, read *plan.Sealed, parent int64, term election.Term) (unused []string, fence []clientv3.Cmp, err error) {
	used, err := inUse(keep, read)
	if err != nil {
		return nil, nil, err
	}
	for _, key := range blobs {
		if !used[strings.TrimPrefix(key, k.Blobs())] {
			unused = append(unused, key)
		}
	}
	return unused, collecting(k.keys, parent, term), nil
}

package store

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

const (
	// DefaultPrefix stands before every key.
	DefaultPrefix = "divert/"
	// readPatience bounds a read, its repetitions included, and each attempt
	// of a write.
	readPatience = 3 * time.Second
	// memberPatience bounds the first attempt of a read: one member of several
	// may hang, and the next attempt asks another.
	memberPatience = time.Second
	// MaxAudit bounds one answer of Audit.
	MaxAudit = 1000
)

// Options say where the store is.
type Options struct {
	Endpoints  []string // http://127.0.0.1:2379, https://…, unix:///path
	TLS        TLS
	Prefix     string // default DefaultPrefix
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
	// At is called at each step, by the goroutine that has come to it. For tests; nil in
	// a director.
	At func(Step)
}

// Store is the fleet's intent in etcd. All methods may be called at once by
// many; each is bounded by its context and by a few seconds of its own.
type Store struct {
	client  *clientv3.Client
	keys    keys
	log     *slog.Logger
	metrics *metrics
	resync  chan struct{} // wakes Watch when the store turned out another
	at      func(Step)    // Options.At

	mu    sync.Mutex
	lease bucket // of command results
	seen  lineage
	acked map[string]heldAck // what this process acknowledged last, by director
}

// heldAck is an acknowledgement as it was written.
type heldAck struct {
	ack *plan.Ack
	mod int64
}

// lineage is what tells one store from another, or from its own past.
type lineage struct {
	cluster  uint64
	revision int64
}

// New makes a store. It asks etcd for nothing: a dead one blocks no start.
func New(o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	client, err := connect(o.Endpoints, o.TLS)
	if err != nil {
		return nil, err
	}
	// Said here, since what etcd is asked first may tell of a refused connection
	// only.
	if o.TLS != (TLS{}) {
		if _, err := o.TLS.load(); err != nil {
			o.Log.Warn("etcd is out of reach until its TLS files can be read", slog.Any("err", err))
		}
	}
	return &Store{
		client: client, keys: keysBelow(o.Prefix),
		log: o.Log, metrics: m, resync: make(chan struct{}, 1), at: o.At,
	}, nil
}

// Client gives etcd's client, for the campaign.
func (s *Store) Client() *clientv3.Client { return s.client }

// Prefix is what stands before every key, with its last slash.
func (s *Store) Prefix() string { return s.keys.prefix }

// Close ends the client's connections. Calls under way fail.
func (s *Store) Close() error { return s.client.Close() }

// Snapshot is the store at one instant.
type Snapshot struct {
	Sealed        *plan.Sealed // nil: the store holds no plan
	ModRevision   int64        // of the plan's key, the fence of the next commit; 0: no plan
	StoreRevision int64        // etcd's own; orders nothing of ours (S3)
	Cluster       uint64       // etcd's cluster ID: another one is another store (F25)
	Acks          map[string]*plan.Ack
}

// Read reads the plan and the acknowledgements at one instant, linearizably.
// With a plan that cannot be opened it returns the error, and the rest of the
// snapshot with it: `store recover` needs the fence.
func (s *Store) Read(ctx context.Context) (Snapshot, error) {
	done := s.metrics.start("read")
	snap, _, err := s.read(ctx)
	return snap, done(err)
}

// ReadFor is Read, with the stored result of a command at the same instant; nil
// when there is none, or no ID is given.
func (s *Store) ReadFor(ctx context.Context, id string) (Snapshot, *plan.Result, error) {
	if id == "" {
		snap, err := s.Read(ctx)
		return snap, nil, err
	}
	done := s.metrics.start("read")
	if err := checkName("command ID", id); err != nil {
		return Snapshot{}, nil, done(err)
	}
	snap, kvs, err := s.read(ctx, clientv3.OpGet(s.keys.command(id)))
	if len(kvs) == 0 {
		return snap, nil, done(err)
	}
	r, badResult := readResult(kvs[0])
	if badResult != nil {
		return Snapshot{}, nil, done(badResult)
	}
	return snap, r, done(err)
}

// read gives what more was asked for too, also where the plan cannot be opened.
func (s *Store) read(ctx context.Context, more ...clientv3.Op) (Snapshot, []*mvccpb.KeyValue, error) {
	s.reached(BeforeRead)
	defer s.reached(AfterRead)
	resp, err := s.txn(ctx, nil, append([]clientv3.Op{
		clientv3.OpGet(s.keys.plan()),
		clientv3.OpGet(s.keys.acks(), clientv3.WithPrefix(), clientv3.WithLimit(maxAcks)),
	}, more...))
	if err != nil {
		return Snapshot{}, nil, unavailable("reading the plan", err)
	}
	var found []*mvccpb.KeyValue
	for _, r := range resp.Responses[2:] {
		found = append(found, r.GetResponseRange().GetKvs()...)
	}
	snap := Snapshot{
		StoreRevision: resp.Header.GetRevision(), Cluster: resp.Header.GetClusterId(),
		Acks: map[string]*plan.Ack{},
	}
	s.note(lineage{cluster: snap.Cluster, revision: snap.StoreRevision})
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		ack := &plan.Ack{}
		name := strings.TrimPrefix(string(kv.Key), s.keys.acks())
		// What cannot be read acknowledges nothing; it does not hide the plan.
		if proto.Unmarshal(kv.Value, ack) == nil && ack.GetDirector() == name {
			snap.Acks[name] = ack
		}
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return snap, found, nil
	}
	snap.ModRevision = kvs[0].ModRevision
	if moved := movedTo(kvs[0].Value); moved != nil {
		return snap, found, moved
	}
	if snap.Sealed, err = plan.Open(kvs[0].Value); err != nil {
		return snap, found, fmt.Errorf("the plan in the store: %w", err)
	}
	return snap, found, nil
}

// maxAcks bounds the acknowledgements in one snapshot: one a director.
const maxAcks = 1000

// note remembers the store's lineage. One that changed, or that went back, is
// another store, and a watch on it could wait for a revision of the old one.
func (s *Store) note(l lineage) {
	s.mu.Lock()
	old := s.seen
	other := old.cluster != 0 && (old.cluster != l.cluster || l.revision < old.revision)
	// Concurrent reads may arrive out of order; the older one must not count
	// as a step back for the next.
	s.seen = l
	s.mu.Unlock()
	if other {
		wake(s.resync)
	}
}

// Chunks fetches blobs by hash, and checks each. Blobs that the store lacks
// are left out.
func (s *Store) Chunks(ctx context.Context, hashes [][]byte) (map[plan.Hash][]byte, error) {
	done := s.metrics.start("chunks")
	if len(hashes) > MaxChunks {
		return nil, done(fmt.Errorf("%d blobs, at most %d: %w", len(hashes), MaxChunks, ErrTooLarge))
	}
	out := make(map[plan.Hash][]byte, len(hashes))
	for _, raw := range hashes {
		h, err := toHash(raw)
		if err != nil {
			return nil, done(err)
		}
		kv, err := s.get(ctx, s.keys.blob(h))
		if err != nil {
			return nil, done(unavailable("reading a blob", err))
		}
		if kv == nil {
			continue
		}
		if plan.Sum(kv.Value) != h {
			return nil, done(&unreadable{"piece " + h.Short() + " of the spec in the store"})
		}
		out[h] = kv.Value
	}
	return out, done(nil)
}

// Result gives the stored result of a command; nil when there is none.
func (s *Store) Result(ctx context.Context, id string) (*plan.Result, error) {
	done := s.metrics.start("result")
	if err := checkName("command ID", id); err != nil {
		return nil, done(err)
	}
	kv, err := s.get(ctx, s.keys.command(id))
	if err != nil {
		return nil, done(unavailable("reading a command's result", err))
	}
	if kv == nil {
		return nil, done(nil)
	}
	r, err := readResult(kv)
	return r, done(err)
}

// Audit lists records in the order of their revisions: the first ones beginning with
// from, or the newest ones if that is 0, over gaps, which a store that was lost has.
func (s *Store) Audit(ctx context.Context, from uint64, limit int) ([]*plan.Audit, error) {
	done := s.metrics.start("audit")
	if limit <= 0 || limit > MaxAudit {
		limit = MaxAudit
	}
	order := clientv3.SortAscend
	if from == 0 {
		order = clientv3.SortDescend
	}
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, s.keys.audit(from), clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.keys.audits())),
			clientv3.WithLimit(int64(limit)), clientv3.WithSort(clientv3.SortByKey, order))
	})
	if err != nil {
		return nil, done(unavailable("reading the audit log", err))
	}
	out := make([]*plan.Audit, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		a := &plan.Audit{}
		if err := proto.Unmarshal(kv.Value, a); err != nil {
			// One that is damaged must not hide the others (S15).
			n, _ := strconv.ParseUint(strings.TrimPrefix(string(kv.Key), s.keys.audits()), 10, 64)
			a = &plan.Audit{Revision: n, What: "this record cannot be read: it was damaged or edited"}
		}
		out = append(out, a)
	}
	if from == 0 {
		slices.Reverse(out)
	}
	return out, done(nil)
}

// Ack writes a director's acknowledgement. A lower one never replaces a
// higher one of the same fleet, however late it arrives.
func (s *Store) Ack(ctx context.Context, ack *plan.Ack) error {
	done := s.metrics.start("ack")
	if err := checkName("director", ack.GetDirector()); err != nil {
		return done(err)
	}
	raw, err := proto.Marshal(ack)
	if err != nil {
		return done(fmt.Errorf("encoding an acknowledgement: %w", err))
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	key := s.keys.ack(ack.GetDirector())
	for {
		held, err := s.heldAck(ctx, ack)
		if err != nil {
			return done(unavailable("reading the acknowledgement", err))
		}
		if held.ack != nil && held.ack.GetFleet() == ack.GetFleet() {
			switch c := identity(held.ack).Compare(identity(ack)); {
			case c > 0:
				return done(fmt.Errorf("acknowledging plan %d.%d: this director has already acknowledged %d.%d", ack.GetEpoch(), ack.GetRevision(), held.ack.GetEpoch(), held.ack.GetRevision()))
			case c == 0 && string(held.ack.GetPlan()) == string(ack.GetPlan()):
				return done(nil)
			}
		}
		s.reached(BeforeAck)
		resp, err := s.client.Txn(clientv3.WithRequireLeader(ctx)).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", held.mod)).
			Then(clientv3.OpPut(key, string(raw))).Commit()
		s.reached(AfterAck)
		if err != nil {
			// Repeating it is safe, and the caller will: it is level-triggered.
			return done(fmt.Errorf("acknowledging plan %d.%d: %w", ack.GetEpoch(), ack.GetRevision(), err))
		}
		if resp.Succeeded {
			s.holdAck(ack.GetDirector(), heldAck{ack: ack, mod: resp.Header.GetRevision()})
			return done(nil)
		}
		s.holdAck(ack.GetDirector(), heldAck{})
	}
}

// heldAck gives what a director has acknowledged before: as this process wrote it
// where that is lower, which the fence of the write holds against the store, else as
// the store has it.
func (s *Store) heldAck(ctx context.Context, next *plan.Ack) (heldAck, error) {
	s.mu.Lock()
	held := s.acked[next.GetDirector()]
	s.mu.Unlock()
	if held.ack != nil && held.ack.GetFleet() == next.GetFleet() && identity(held.ack).Compare(identity(next)) < 0 {
		return held, nil
	}
	kv, err := s.get(ctx, s.keys.ack(next.GetDirector()))
	if err != nil || kv == nil {
		return heldAck{}, err
	}
	held = heldAck{mod: kv.ModRevision}
	if ack := (&plan.Ack{}); proto.Unmarshal(kv.Value, ack) == nil {
		held.ack = ack
	}
	return held, nil
}

func (s *Store) holdAck(director string, held heldAck) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acked == nil {
		s.acked = map[string]heldAck{}
	}
	s.acked[director] = held
}

func identity(a *plan.Ack) plan.Identity {
	return plan.Identity{Fleet: a.GetFleet(), Epoch: a.GetEpoch(), Revision: a.GetRevision()}
}

// get reads one key, linearizably; nil when there is none.
func (s *Store) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	resp, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return s.client.Get(ctx, key)
	})
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// txn sends a transaction that may be repeated: one that only reads, or whose
// repetition changes nothing.
func (s *Store) txn(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	return again(ctx, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return s.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	})
}

// again makes a call that may be repeated, for readPatience at most, and over
// short failures: a member of three that dies or hangs is no outage. A store
// that is slow as a whole has what is left after the first attempt.
func again[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), readPatience)
	defer cancel()
	start, limit := time.Now(), memberPatience
	for {
		attempt, end := context.WithTimeout(ctx, limit)
		r, err := call(attempt)
		end()
		limit = readPatience
		if err == nil || final(err) || ctx.Err() != nil || time.Since(start) > unsentPatience {
			return r, err
		}
		pause(ctx, commitRetry)
	}
}

func readResult(kv *mvccpb.KeyValue) (*plan.Result, error) {
	r := &plan.Result{}
	if err := proto.Unmarshal(kv.Value, r); err != nil {
		return nil, fmt.Errorf("%w: %w", &unreadable{"the stored result of command " + string(kv.Key[strings.LastIndexByte(string(kv.Key), '/')+1:])}, err)
	}
	return r, nil
}

// unavailable wraps an error of a call that wrote nothing. Of gRPC's errors it
// gives the sentence alone: people read it.
func unavailable(doing string, err error) error {
	if st, ok := status.FromError(err); ok && st.Code() == codes.Unavailable {
		return fmt.Errorf("%s: %w: %s", doing, ErrUnavailable, st.Message())
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}

func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

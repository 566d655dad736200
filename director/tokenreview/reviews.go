package tokenreview

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/health/kube"
)

const (
	patience  = 3 * time.Second // for an API server's answer
	queueing  = time.Second     // for others' reviews to end
	keepGood  = 30 * time.Second
	keepBad   = 10 * time.Second
	keepAway  = time.Second // after an API server did not answer
	most      = 1024        // of good and of bad ones that are kept, each
	underWay  = 8           // reviews at once, of each cluster: of tokens that were good, and of others
	perSecond = 2.0         // tokens of one network that were never good
	burst     = 20
	networks  = 1024
	maxGroups = 64
	maxGroup  = 256 // octets

	account = "system:serviceaccount:"
)

// Cluster is one whose ServiceAccounts are known.
type Cluster struct {
	Name       string   // which begins the names of its accounts
	Kubeconfig string   // file: the API server, and who asks it
	Context    string   // of the kubeconfig; "" = its current one
	Audiences  []string // whom its tokens must be for, one of these
	Issuer     string   // that its tokens name; "" = any
}

// Options say whose API servers are believed.
type Options struct {
	Clusters []Cluster
	Registry prometheus.Registerer // nil = a private one
	Log      *slog.Logger          // nil = silent
}

// Reviews knows the ServiceAccounts of some clusters.
type Reviews struct {
	clusters []*cluster
	fresh    *access.Limiter // of each network, for what was never good
	counts   *prometheus.CounterVec
	log      *slog.Logger
	clock    func() time.Time
}

// asker is how a cluster is asked: a kube.Reviewer, or a test's.
type asker interface {
	Review(ctx context.Context, token string, audiences []string) (kube.Reviewed, error)
}

// cluster is one API server, and what it said of late.
type cluster struct {
	Cluster
	asker  asker
	flight singleflight.Group     // by the token's hash
	slots  map[bool]chan struct{} // reviews under way, by whether the token was good before

	mu    sync.Mutex // over those below; held for no question
	good  map[key]verdict
	bad   map[key]verdict
	away  error     // why it did not answer; nil: it did
	again time.Time // when it is asked again about a token that was never good, while it is away …
	anew  time.Time // … and about one that was
}

// key is the SHA-256 of a token, so that no memory of it is one.
type key [sha256.Size]byte

// verdict is what is known of a token, until when.
type verdict struct {
	id    access.Identity // of a good one, without grants
	why   error           // of a bad one
	until time.Time
}

// New makes Reviews of some clusters. Whether they can be asked is found out when
// somebody brings a token.
func New(o Options) (*Reviews, error) {
	r := &Reviews{fresh: access.NewLimiter(perSecond, burst, networks), log: o.Log, clock: time.Now}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if r.counts, err = newCounts(o.Registry); err != nil {
		return nil, err
	}
	for _, c := range o.Clusters {
		reviewer, err := kube.NewReviewer(c.Kubeconfig, c.Context, patience)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		r.add(c, reviewer)
	}
	return r, nil
}

func (r *Reviews) add(c Cluster, by asker) {
	r.clusters = append(r.clusters, &cluster{
		Cluster: c, asker: by, good: map[key]verdict{}, bad: map[key]verdict{},
		slots: map[bool]chan struct{}{true: make(chan struct{}, underWay), false: make(chan struct{}, underWay)},
	})
	for _, result := range []string{known, refused, failed} {
		r.counts.WithLabelValues(c.Name, result) // so that each is shown from the start
	}
}

// Review is who brings a token, without grants; ours is whether it claims to be one of a
// cluster's for this fleet, so that nobody else need be asked. From is where the request
// came from, as limits go. An error of access.ErrUnavailable says that nobody can tell now,
// one of access.ErrHurried that too many were brought.
func (r *Reviews) Review(ctx context.Context, from, token string) (id access.Identity, ours bool, err error) {
	c, ok := readClaims(token)
	if !ok {
		return access.Identity{}, false, nil
	}
	i := slices.IndexFunc(r.clusters, func(k *cluster) bool { return c.meant(k.Cluster) })
	if i < 0 {
		return access.Identity{}, false, nil
	}
	k, now := r.clusters[i], r.clock()
	if !now.Before(c.expires) {
		return access.Identity{}, true, fmt.Errorf("this token of cluster %s has ended: have a new one made, or read anew from the file that Kubernetes keeps", k.Name)
	}
	sum := key(sha256.Sum256([]byte(token)))
	v, was, found := k.find(sum, now)
	if !found {
		if v, err = r.ask(ctx, k, question{token, sum, c, from, was}); err != nil {
			return access.Identity{}, true, err
		}
	}
	return v.id, true, v.why
}

// question is a token that an API server is to be asked about.
type question struct {
	token  string
	sum    key
	claims claims
	from   string
	was    bool // good, too long ago
}

// ask has one question under way for a token, whoever else brings it meanwhile.
func (r *Reviews) ask(ctx context.Context, k *cluster, q question) (verdict, error) {
	got, err, _ := k.flight.Do(string(q.sum[:]), func() (any, error) {
		if v, _, found := k.find(q.sum, r.clock()); found { // by who asked just before
			return v, nil
		}
		if !q.was && !r.fresh.Take(q.from, r.clock()) {
			return verdict{}, fmt.Errorf("%w: cluster %s is asked about no more tokens from there now", access.ErrHurried, k.Name)
		}
		if err := k.resting(q.was, r.clock()); err != nil {
			return verdict{}, err
		}
		turn := time.NewTimer(queueing)
		defer turn.Stop()
		select {
		case k.slots[q.was] <- struct{}{}:
			defer func() { <-k.slots[q.was] }()
		case <-turn.C:
			return verdict{}, fmt.Errorf("%w: too many tokens are being reviewed by the API server of cluster %s", access.ErrUnavailable, k.Name)
		}
		// Whoever brought it may leave: others wait for the same answer.
		said, err := k.asker.Review(context.WithoutCancel(ctx), q.token, k.Audiences)
		now := r.clock()
		if turned := k.answered(err, q.was, now); turned {
			r.tell(k, err)
		}
		if err != nil {
			r.counts.WithLabelValues(k.Name, failed).Inc()
			return verdict{}, k.unavailable(err)
		}
		v := k.judge(said, q.claims, now)
		if v.why == nil {
			r.counts.WithLabelValues(k.Name, known).Inc()
		} else {
			r.counts.WithLabelValues(k.Name, refused).Inc()
		}
		k.keep(q.sum, v)
		return v, nil
	})
	if err != nil {
		return verdict{}, err
	}
	v, _ := got.(verdict)
	return v, nil
}

// tell logs that an API server answers no more, or again.
func (r *Reviews) tell(k *cluster, err error) {
	if err == nil {
		r.log.Info("the API server reviews tokens again", slog.String("cluster", k.Name))
		return
	}
	r.log.Warn("the API server reviews no tokens: its accounts are let in no more", slog.String("cluster", k.Name), slog.Any("err", err))
}

// judge makes of what an API server said whom this director takes a token's bearer for.
// Whatever it says, it is an account of its own cluster.
func (k *cluster) judge(said kube.Reviewed, c claims, now time.Time) verdict {
	bad := func(why string) verdict {
		return verdict{why: errors.New(why), until: now.Add(keepBad)}
	}
	if !said.Authenticated {
		return bad(fmt.Sprintf("cluster %s does not know this token, or it is not for %s: have one made with --audience %s", k.Name, strings.Join(k.Audiences, ", "), k.Audiences[0]))
	}
	// An API server that does not look at audiences says none (KEP-1460).
	if !slices.ContainsFunc(said.Audiences, func(a string) bool { return slices.Contains(k.Audiences, a) }) {
		return bad(fmt.Sprintf("cluster %s does not say that this token is for %s", k.Name, strings.Join(k.Audiences, ", ")))
	}
	namespace, name, ok := strings.Cut(strings.TrimPrefix(said.Name, account), ":")
	if !strings.HasPrefix(said.Name, account) || !ok || namespace == "" || name == "" || strings.ContainsAny(name, ":/") || strings.Contains(namespace, "/") {
		return bad(fmt.Sprintf("this token of cluster %s is no ServiceAccount's", k.Name))
	}
	who, err := access.Name(access.Kube, k.Name+"/"+said.Name)
	if err != nil {
		return bad(err.Error())
	}
	id := access.Identity{Who: who, Method: access.Kube, Expires: c.expires}
	for _, g := range said.Groups {
		if len(id.Groups) == maxGroups {
			break
		}
		if _, err := access.Name(access.Kube, g); err == nil && len(g) <= maxGroup {
			id.Groups = append(id.Groups, access.Group(access.Kube, k.Name+"/"+g))
		}
	}
	until := now.Add(keepGood)
	if c.expires.Before(until) {
		until = c.expires
	}
	return verdict{id: id, until: until}
}

// unavailable is what whoever brings a token is told while an API server is away.
func (k *cluster) unavailable(err error) error {
	return fmt.Errorf("%w: the API server of cluster %s did not answer: %w", access.ErrUnavailable, k.Name, err)
}

// resting is why an API server is not asked now: a moment ago it did not answer. What became
// of a token that was never good holds up none that was: anybody can make one that no API
// server answers for.
func (k *cluster) resting(was bool, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	until := k.again
	if was {
		until = k.anew
	}
	if k.away != nil && now.Before(until) {
		return k.unavailable(k.away)
	}
	return nil
}

// answered notes whether an API server answers about a token, and tells whether that is new.
func (k *cluster) answered(err error, was bool, now time.Time) (turned bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	turned = (err == nil) != (k.away == nil)
	k.away, k.again = err, now.Add(keepAway)
	if was {
		k.anew = k.again
	}
	return turned
}

// find gives what is known of a token; was: it was good, if that is too long ago.
func (k *cluster) find(sum key, now time.Time) (v verdict, was, found bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, was = k.good[sum]; !was {
		v, found = k.bad[sum]
		return v, false, found && now.Before(v.until)
	}
	return v, true, now.Before(v.until)
}

// keep remembers a verdict. Bad ones take no place of good ones.
func (k *cluster) keep(sum key, v verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.good, sum)
	delete(k.bad, sum)
	of := k.good
	if v.why != nil {
		of = k.bad
	}
	if len(of) >= most {
		var oldest key
		first := true
		for s, old := range of {
			if first || old.until.Before(of[oldest].until) {
				oldest, first = s, false
			}
		}
		delete(of, oldest)
	}
	of[sum] = v
}

// Run waits for ctx to end, and lets go of connections to API servers then.
func (r *Reviews) Run(ctx context.Context) error {
	<-ctx.Done()
	for _, k := range r.clusters {
		if c, ok := k.asker.(interface{ Close() }); ok {
			c.Close()
		}
	}
	return nil
}

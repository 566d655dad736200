// Package api serves the director's HTTP interface (JSON and server-sent
// events) and has the client that the CLI uses. It decides nothing: what it
// shows and does comes through Director.
package api

import (
	"context"
	"io"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

// Director is what stands behind the API.
type Director interface {
	Status() Status
	// Explain says what the client at addr (an address or prefix; "" for a
	// client of unknown place) is told for host, step by step.
	Explain(host, addr string) (Explanation, error)
	Spec() []spec.Raw
	// Do commits a command and waits until every registered director has it, ctx
	// ends, or it is refused. progress is called at each change of the outcome, by
	// Do's own goroutine and never after Do has returned. The error of a refusal is
	// a *core.Refusal; the server makes the outcome's code and text of any error.
	Do(ctx context.Context, c core.Command, progress func(Outcome)) (Outcome, error)
	// Init and Recover are `divert store init|recover`; User(ctx) says who asks. With
	// force Recover writes over what it would refuse to.
	Init(ctx context.Context) (Outcome, error)
	Recover(ctx context.Context, force bool) (Outcome, error)
	// Changed is closed at the next change of Status.
	Changed() <-chan struct{}
	// Ready is nil once the director answers from a plan. It never fails for
	// isolation (S8).
	Ready() error
}

// Historian is a Director that can also explain what it told.
type Historian interface {
	// ExplainAt is Explain for an instant that is past. The error of a refusal, such as
	// that nothing is kept from then, is a *core.Refusal.
	ExplainAt(ctx context.Context, host, addr string, at time.Time) (Explanation, error)
}

// Keeper is a Director whose intent can also be saved, brought back, moved and looked
// at where it is stored; User(ctx) says who asks.
type Keeper interface {
	// Backup writes a backup. After an error what was written is none. With local it is of
	// what this director holds, without the audit log.
	Backup(ctx context.Context, w io.Writer, local bool) error
	Restore(ctx context.Context, backup io.Reader, o RestoreOptions) (Outcome, error)
	Migrate(ctx context.Context, o MigrateOptions) (Outcome, error)
	CheckStore(ctx context.Context) (StoreReport, error)
}

// RestoreOptions say how a backup is brought back.
type RestoreOptions struct {
	Reason string
	Force  bool
	DryRun bool
	Audit  bool // the audit records that the store lacks, and nothing else
}

// MigrateOptions say where the store goes.
type MigrateOptions struct {
	To   []string `json:"to"` // etcd endpoints
	CA   string   `json:"ca,omitempty"`
	Cert string   `json:"cert,omitempty"`
	Key  string   `json:"key,omitempty"`
}

// StoreReport is what `divert store check` shows.
type StoreReport struct {
	Plan      string    `json:"plan,omitempty"` // epoch.revision that the store holds
	Blobs     int       `json:"blobs"`          // pieces of its spec
	Audits    int       `json:"audits"`
	LastAudit uint64    `json:"lastAudit"` // revision of the newest audit record
	Findings  []Finding `json:"findings"`  // none: all is in order
}

// Finding is something in the store that is not as it should be.
type Finding struct {
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"` // what puts it right, where What does not say
}

// Prober is a Director that can also have all directors probe now.
type Prober interface {
	// Probe changes nothing, and ends with ctx at the latest; what is known by then is
	// no error. The error of a refusal is a *core.Refusal. progress is called by Probe's
	// own goroutine and never after it has returned.
	Probe(ctx context.Context, target string, progress func(Probing)) (Probing, error)
}

// Status is what `divert status` shows.
type Status struct {
	Director   string          `json:"director"`
	Version    string          `json:"version"`
	Now        time.Time       `json:"now"`
	Waiting    string          `json:"waiting,omitempty"` // no plan yet: for whom or what
	Plan       *Plan           `json:"plan,omitempty"`
	Behind     bool            `json:"behind,omitempty"` // answers from an older plan than is known (S3)
	Leader     string          `json:"leader,omitempty"`
	Geo        *Geo            `json:"geo,omitempty"`      // by what clients are placed
	Store      string          `json:"store"`              // "ok", or why commands are refused
	Isolated   bool            `json:"isolated,omitempty"` // S8: frozen
	Abstaining string          `json:"abstaining,omitempty"`
	Quorum     Quorum          `json:"quorum"`
	Frozen     *Override       `json:"frozen,omitempty"`
	Clusters   []Cluster       `json:"clusters"`
	Services   []Service       `json:"services"`
	Pools      []Pool          `json:"pools,omitempty"` // what capacities were written for
	Directors  []DirectorState `json:"directors"`
	Overrides  []Override      `json:"overrides,omitempty"`
	Interlocks []core.Standing `json:"interlocks,omitempty"`  // by name
	Policy     *Policy         `json:"policy,omitempty"`      // that people's commands are judged by
	Rollout    *Rollout        `json:"rollout,omitempty"`     // under way, or stopped by the leader
	Enrol      []EnrolToken    `json:"enrolTokens,omitempty"` // not used yet
	GossipKey  *GossipKey      `json:"gossipKey,omitempty"`   // none where directors gossip without one
	Requests   []Request       `json:"requests,omitempty"`    // for a second person, and what became of the last ones
	Glass      []Glass         `json:"glass,omitempty"`       // what was done without one, of the last day
	Pending    []spec.Change   `json:"pending,omitempty"`     // folder changes that wait for a person (S19)
	Problems   []string        `json:"problems,omitempty"`
	Alerts     []string        `json:"alerts,omitempty"`
}

// Plan names the plan in force.
type Plan struct {
	Fleet    string    `json:"fleet"`
	Epoch    uint64    `json:"epoch"`
	Revision uint64    `json:"revision"`
	Hash     string    `json:"hash"`
	Writer   string    `json:"writer"`
	Written  time.Time `json:"written"`
	Age      float64   `json:"ageSeconds"` // since this director last heard from the store that it is the newest
}

// Geo is the table that clients are placed by.
type Geo struct {
	Name     string     `json:"name"`               // "country table …", or a database's type
	Built    *time.Time `json:"built,omitempty"`    // of a database
	Hash     string     `json:"hash"`               // directors that show the same one place clients alike
	Degrees  float64    `json:"degrees,omitempty"`  // width of the cells that a database's coordinates are rounded to
	Found    int        `json:"found,omitempty"`    // places that the database tells apart
	Database string     `json:"database,omitempty"` // the file that is wanted; an alert says if it cannot be used
}

// Quorum says how many must agree.
type Quorum struct {
	Directors int    `json:"directors"` // N
	Observers int    `json:"observers"` // k
	Needed    int    `json:"needed"`    // q
	Domains   int    `json:"domains"`   // fault domains needed
	Hears     int    `json:"hears"`     // directors heard within 1 s, itself included
	Note      string `json:"note,omitempty"`
}

// Cluster is one cluster's roll-up, for display.
type Cluster struct {
	Name         string       `json:"name"`
	FaultDomain  string       `json:"faultDomain"`
	Location     string       `json:"location"`
	Health       string       `json:"health"`  // healthy degraded failed unknown
	Serving      int          `json:"serving"` // services that send clients here
	Endpoints    int          `json:"endpoints"`
	Drained      string       `json:"drained,omitempty"`
	Paced        string       `json:"paced,omitempty"`        // a drain in steps that leaves it clients yet
	ControlPlane string       `json:"controlPlane,omitempty"` // ok, "impaired: …", "unknown: …"; never steers
	Nodes        string       `json:"nodes,omitempty"`        // "3 of 4 ready", or why that is not known
	Servers      []KubeServer `json:"servers,omitempty"`      // of the control plane
	Why          string       `json:"why,omitempty"`
}

// Pool is what one capacity is of, and how much of it is used.
type Pool struct {
	Pool     string  `json:"pool"`              // cluster/fra, service/shop@fra of an endpoint with a capacity of its own
	Capacity int64   `json:"capacity"`          // in the fleet's unit
	Load     float64 `json:"load"`              // in the same
	Used     int     `json:"utilisation"`       // per cent
	Target   int     `json:"target"`            // per cent, safety.targetUtilisation
	Unknown  bool    `json:"unknown,omitempty"` // too few directors, or no Prometheus, say how busy it is
	Keeps    int     `json:"keeps,omitempty"`   // percent of its own clients, where not all
	Refuses  int     `json:"refuses,omitempty"` // percent of other sites' clients that it does not take
}

// KubeServer is one API server of a cluster, as the director that is asked sees it.
type KubeServer struct {
	URL     string  `json:"url"`
	State   string  `json:"state"` // alive, restarting, without storage, gone, unknown
	Why     string  `json:"why,omitempty"`
	Version string  `json:"version,omitempty"`        // as it last said
	Latency float64 `json:"latencySeconds,omitempty"` // in seconds, of /livez
}

// Service is one service and its sites.
type Service struct {
	Name      string   `json:"name"`
	Hosts     []string `json:"hosts"`
	Policy    string   `json:"policy"`
	Observing bool     `json:"observing,omitempty"`
	Sites     []Site   `json:"sites"`
	Alerts    []string `json:"alerts,omitempty"`
}

// Site is one endpoint: observed health and drain side by side.
type Site struct {
	Cluster   string    `json:"cluster"`
	Health    string    `json:"health"`
	Serving   bool      `json:"serving"`
	Share     int       `json:"share,omitempty"` // percent of its clients, while it returns or is drained in steps
	Kept      int       `json:"kept,omitempty"`  // percent of its clients, while it is too busy for all
	Drained   string    `json:"drained,omitempty"`
	Paced     string    `json:"paced,omitempty"` // a drain in steps that leaves it clients yet
	Addresses []Address `json:"addresses"`
	Why       string    `json:"why,omitempty"`
	// Returns says when a site that is well again may come back, and why it waits.
	Returns string `json:"returns,omitempty"`
	// Detection is the time within which faults of it are agreed upon, as it is probed
	// now; nil where the director that is asked does not probe it.
	Detection *Detection `json:"detection,omitempty"`
}

// Detection is how long, in seconds, it takes at worst until it is agreed that an
// endpoint has failed. 0: not known, as too few observers are there.
type Detection struct {
	Death float64 `json:"deathSeconds,omitempty"` // nothing answers
	Hang  float64 `json:"hangSeconds,omitempty"`  // it is connected to, and does not answer
}

// Address is one address of an endpoint, or its hostname, and its subjects.
type Address struct {
	Address  string    `json:"address"`
	Live     bool      `json:"live"`
	Subjects []Subject `json:"subjects"`
	Resolved *Hostname `json:"resolved,omitempty"` // of a hostname
}

// Hostname is what a hostname of an endpoint resolves to, for the director that is
// asked: each finds out for itself.
type Hostname struct {
	Hostname  string     `json:"hostname"`
	Addresses []string   `json:"addresses"`         // the last good
	At        *time.Time `json:"at,omitempty"`      // when they were last confirmed
	TTL       uint32     `json:"ttl,omitempty"`     // seconds
	Problem   string     `json:"problem,omitempty"` // what was wrong the last time
	Gone      bool       `json:"gone,omitempty"`    // the last time the name did not exist (NXDOMAIN)
	Stale     bool       `json:"stale,omitempty"`   // not confirmed for an hour
}

// Subject is one thing that is voted on.
type Subject struct {
	Subject    string            `json:"subject"`
	Probe      string            `json:"probe"` // for people: "http :8080/healthz", "fast :8080"
	State      string            `json:"state"`
	Transition uint64            `json:"transition"`
	Since      *time.Time        `json:"since,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Votes      map[string]string `json:"votes,omitempty"` // director -> up, down, unknown, stale
}

// DirectorState is one director as this one sees it.
type DirectorState struct {
	Name     string  `json:"name"`
	Site     string  `json:"site"`
	Standing string  `json:"standing"` // active, pending, removed
	Heard    bool    `json:"heard"`
	Silent   float64 `json:"silentSeconds,omitempty"` // since last heard
	Plan     string  `json:"plan,omitempty"`          // epoch.revision that it acknowledged
	DNS      string  `json:"dns,omitempty"`           // ok, mute, witness, or what it answered
	Key      string  `json:"key,omitempty"`
	Alarm    string  `json:"alarm,omitempty"` // changed key, two live boots, …
	Address  string  `json:"address,omitempty"`
}

// Override is one drain, freeze, observation or readmission.
type Override struct {
	ID         string     `json:"id"`
	Kind       string     `json:"kind"`
	Scope      string     `json:"scope"`
	Author     string     `json:"author"`
	Reason     string     `json:"reason"`
	Start      time.Time  `json:"start"`
	End        *time.Time `json:"end,omitempty"`
	LastResort bool       `json:"lastResort,omitempty"`
	Forced     bool       `json:"forced,omitempty"`
	Glass      bool       `json:"breakGlass,omitempty"` // past what the policy denied
	Overdue    bool       `json:"overdue,omitempty"`
	Revision   uint64     `json:"revision"`
	Pace       *Pace      `json:"pace,omitempty"` // of a drain that goes, or ends, in steps
	// Emergency is of a drain that an operator said while the store was away, and that no
	// plan holds yet.
	Emergency *EmergencyState `json:"emergency,omitempty"`
}

// Pace is where a drain in steps stands.
type Pace struct {
	State string    `json:"state"`       // moving, held, rolling back, rolled back, returning, done
	Step  int       `json:"step"`        // from 1
	Steps []int     `json:"steps"`       // per mille of the clients that have left, after each
	Moved int       `json:"moved"`       // of them, per mille that have left now
	Wait  float64   `json:"waitSeconds"` // at each step, at least
	Since time.Time `json:"since"`       // of the step, or of the state
	// Next is when what comes next is due at the earliest; none where nothing does.
	Next *time.Time `json:"next,omitempty"`
	// Waits says for what that waits, as the director that is asked sees it; the leader decides.
	Waits   string `json:"waits,omitempty"`
	Stalled bool   `json:"stalled,omitempty"` // later than three in four of its own steps were
	Why     string `json:"why,omitempty"`     // held, rolled back: what was wrong
}

// Rollout is a spec that some directors try before the others.
type Rollout struct {
	ID       string    `json:"id"`
	On       []string  `json:"on"`
	Here     bool      `json:"here,omitempty"` // the director that is asked is one of them
	State    string    `json:"state"`          // soaking, stopped
	Author   string    `json:"author"`
	Reason   string    `json:"reason,omitempty"`
	Revision uint64    `json:"revision"`
	Start    time.Time `json:"start"`
	Until    time.Time `json:"until"`           // the end of the soak
	Why      string    `json:"why,omitempty"`   // it was stopped, or is about to be
	Waits    []string  `json:"waits,omitempty"` // what its end waits for beside the soak
}

// Outcome is what became of a command so far.
type Outcome struct {
	ID       string       `json:"id"`
	Code     int          `json:"code"` // exit code: 0 done, 1 refused, 3 not complete in time
	Summary  string       `json:"summary"`
	Error    string       `json:"error,omitempty"`
	Remedy   string       `json:"remedy,omitempty"`
	CanForce bool         `json:"canForce,omitempty"`
	Revision uint64       `json:"revision,omitempty"`
	Override *Override    `json:"override,omitempty"`
	Request  *Request     `json:"request,omitempty"` // it waits, or has waited, for a second person
	Preview  core.Preview `json:"preview"`
	Applied  []string     `json:"applied,omitempty"` // directors that have it, in order of arrival
	Missing  []Missing    `json:"missing,omitempty"`
	Took     float64      `json:"tookSeconds,omitempty"`
	Final    bool         `json:"final,omitempty"` // set by the server: the last word, no more progress
}

// Missing is a registered director that does not have a plan yet.
type Missing struct {
	Director string `json:"director"`
	Why      string `json:"why"` // "silent 6m, may still answer"
}

// Explanation is what `divert explain` shows.
type Explanation struct {
	Host    string   `json:"host"`
	Service string   `json:"service,omitempty"`
	Client  string   `json:"client"`
	Place   string   `json:"place"`
	Geo     string   `json:"geo,omitempty"` // the geo table that says so
	Plan    string   `json:"plan"`
	Answers []Family `json:"answers"`
	// At is the instant that was asked for, where that is past, and ToldSince when what
	// the answer was decided by came to be so.
	At        *time.Time `json:"at,omitempty"`
	ToldSince *time.Time `json:"toldSince,omitempty"`
	Notes     []string   `json:"notes,omitempty"` // what else to know of a past answer
	// Hostnames are those of the service's endpoints.
	Hostnames []Hostname `json:"hostnames,omitempty"`
	// Evidence is what each site is judged by, as this director holds it.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Evidence is what one site is judged by.
type Evidence struct {
	Cluster  string            `json:"cluster"`
	Health   string            `json:"health"` // healthy degraded failed unknown
	Why      string            `json:"why,omitempty"`
	Subjects []SubjectEvidence `json:"subjects"`
}

// SubjectEvidence is what one subject is judged by: the certificate in force, and what
// each director now says of the transition that comes next.
type SubjectEvidence struct {
	Subject    string     `json:"subject"`
	Address    string     `json:"address"` // or hostname
	Probe      string     `json:"probe"`   // for people, as in Status
	State      string     `json:"state"`
	Transition uint64     `json:"transition"` // 0: no certificate yet
	Since      *time.Time `json:"since,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	// Voters are the directors whose votes prove the certificate in force, as far as this
	// director holds a proof; given for sites that are not healthy.
	Voters []string `json:"voters,omitempty"`
	Next   string   `json:"next"` // down, up: the transition that comes next
	// Votes is how many full votes bring it about, of a return or a soft subject. A fall
	// goes by Weight: what all directors together hold against the subject, of Needed,
	// one of them Cap at most.
	Votes  int     `json:"votes,omitempty"`
	Weight float64 `json:"weight"`
	Needed float64 `json:"needed,omitempty"`
	Cap    float64 `json:"cap,omitempty"`
	Words  []Word  `json:"words"`
}

// Word is what one director now says of a subject.
type Word struct {
	Director string `json:"director"`
	Assigned bool   `json:"assigned"`
	Word     string `json:"word"` // up, down, suspects (up, with doubts), unknown
	// Weight is what it counts for the next transition: of a fall, the director's
	// suspicion, at most Cap.
	Weight  float64 `json:"weight"`
	Counted bool    `json:"counted"`           // for or against
	Why     string  `json:"why,omitempty"`     // as far as this director knows
	LeftOut string  `json:"leftOut,omitempty"` // why it is not counted
}

// Family is the explanation for one address family, or for both.
type Family struct {
	Type      string   `json:"type"`      // A, AAAA; CNAME where that is the answer to every type
	Addresses []string `json:"addresses"` // of a CNAME, the hostname
	Clusters  []string `json:"clusters"`
	TTL       uint32   `json:"ttl"`
	Scope     int      `json:"scope"` // of a client-subnet answer
	Steps     []string `json:"steps"`
}

// Probing is what `divert probe` shows: what each director sees of a target now.
type Probing struct {
	Target    string     `json:"target"`
	Plan      string     `json:"plan"`        // epoch.revision of the spec that the target was found in
	Code      int        `json:"code"`        // exit code: 0 all pass, 1 some fail or disagree, 3 some directors did not answer
	Took      float64    `json:"tookSeconds"` // in seconds, until the last answer, or until none was waited for
	Observers []Observer `json:"observers"`
	Targets   []Probed   `json:"targets"`         // none before the last word
	Final     bool       `json:"final,omitempty"` // set by the server: the last word
}

// Observer is one registered director that was asked to probe.
type Observer struct {
	Name string `json:"name"`
	Site string `json:"site"`
	This bool   `json:"this,omitempty"` // the one that was asked by the CLI
	// State is asked, probing; in the end answered, refused, late (has the question, or is
	// heard), silent, or old (is heard, and does not know the question).
	State string  `json:"state"`
	Why   string  `json:"why,omitempty"`
	Plan  string  `json:"plan,omitempty"`        // epoch.revision of the spec that it probed by
	Took  float64 `json:"tookSeconds,omitempty"` // in seconds, until its answer was here
}

// Probed is one subject, and what came of its probe at each director that answered.
type Probed struct {
	Subject   string        `json:"subject"`
	Address   string        `json:"address"` // or hostname
	Probe     string        `json:"probe"`   // for people: "http :8080/healthz", "fast :8080"
	Endpoints []string      `json:"endpoints"`
	Assigned  []string      `json:"assigned"` // the directors that probe it and vote on it; the others probe it only when they are asked, as here
	Results   []ProbeResult `json:"results"`
	Verdict   string        `json:"verdict"`          // pass, fail, disagree, unknown
	Quorum    bool          `json:"quorum,omitempty"` // as many fail as could make it fall
	Summary   string        `json:"summary"`
}

// ProbeResult is one probe of one director. A reason is the director's own words, never
// what the target sent.
type ProbeResult struct {
	Director string  `json:"director"`
	Outcome  string  `json:"outcome"`               // ok, failed, void (says nothing of the target)
	Took     float64 `json:"tookSeconds,omitempty"` // in seconds, of the probe
	Reason   string  `json:"reason,omitempty"`
}

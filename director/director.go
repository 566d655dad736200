package director

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/election/etcd"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// Options is what a director is made of.
type Options struct {
	Settings spec.Settings
	Version  string
	Log      *slog.Logger
	// Etcd is the command of the embedded store, to which --data and --listen
	// are appended; default: this executable, "etcd".
	Etcd []string

	// AwaitRestore has a director without a plan begin no fleet: a backup is to come.
	AwaitRestore bool
	// WatchSecrets has secret files that are open to others be alerts.
	WatchSecrets bool

	front *front // that it stands behind; nil: it makes and runs its own
}

// Director is one running director.
type Director struct {
	opts     Options
	settings spec.Settings
	log      *slog.Logger
	lines    *lines // of log
	now      func() time.Time
	registry *prometheus.Registry
	release  func()

	identity  gossip.Identity
	disk      *store.Disk
	store     *store.Store
	child     *etcd.Child // nil: etcd is somebody else's
	campaign  *etcd.Campaign
	links     links
	front     *front
	dns       *dnsserver.Server // the front's
	handover  *handover
	begun     func() // all runs
	ran       bool
	table     *atomic.Pointer[answer.Table]
	prober    *probe.Scheduler
	survey    *survey // the front's, if there was one before
	horizon   *horizon
	courier   *courier
	loop      *loop
	saver     *saver
	librarian *librarian
	commander *commander
	policies  *policies
	vault     *coffer
	steward   *steward
	folders   *folders
	mirror    *mirror
	controls  *controls
	kubes     *kubes
	panel     *panel
	softs     *softs
	loads     *loads
	words     *emergencies
	secrets   [][]byte // gossip keys as they were at the start
	keys      *keyring
	own       *ownFiles
	tokens    chan gossip.Message // who shows one
	resolver  *resolve.Resolver
	history   *history // nil: the settings want none, or nothing can be written
	sealer    *sealer  // nil: nothing can be written
	api       *api.Server
	changes   *broadcast
	exchange  *exchange
	looks     singleflight.Group        // of Status
	looked    atomic.Int64              // when Status last looked, Unix nanoseconds
	confirmed atomic.Pointer[time.Time] // when the store last confirmed the plan in force
	waiting   atomic.Pointer[string]    // why there is no plan yet
	damaged   bool                      // the disk held state that cannot be read; set by New
	mute      error                     // why this director only answers DNS; set by New
	// unsurveyed is what was last logged of the geo database; by New, then by the survey.
	unsurveyed string
}

// New makes a director from its settings and what its disk holds, and binds its
// sockets, so that what is wrong shows before anything runs. With a last good
// generation on disk it is ready to answer.
func New(o Options) (*Director, error) {
	d := &Director{opts: o, settings: o.Settings, log: o.Log, now: time.Now, lines: newLines(), horizon: &horizon{texts: new(zoneTexts)}, changes: newBroadcast(), exchange: newExchange(), begun: func() {}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.log = d.lines.logger(d.log)
	if err := d.setup(); err != nil {
		d.close()
		d.lines.flush()
		return nil, err
	}
	return d, nil
}

// setup is a straight line: each part needs those before it.
func (d *Director) setup() error {
	s := d.settings
	if err := fsys.MkdirAll(fsys.OS{}, s.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	var err error
	if d.release, err = store.LockDir(s.DataDir); err != nil && !unwritable(err) {
		return err
	}
	clearRestores(s.DataDir)
	d.registry = prometheus.NewRegistry()
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	shown := newMetrics(d.registry, d.opts.Version, d.planAge)
	newGeoMetrics(d.registry, d)
	d.lines.lost = shown.overflow.WithLabelValues("log").Inc
	if d.identity, err = gossip.LoadIdentity(fsys.Folder{FS: fsys.OS{}, Dir: s.DataDir}, s.Name); unwritable(err) {
		// No boot can be taken, so nothing may be said to others. Clients can be
		// answered all the same (S12, F16).
		d.mute = err
	} else if err != nil {
		return err
	}
	if d.disk, err = store.OpenDisk(filepath.Join(s.DataDir, "state"), d.log); err != nil {
		return err
	}
	d.watchSecrets()
	if err := d.openStore(); err != nil {
		return err
	}
	if err := d.openGossip(); err != nil {
		return err
	}
	d.courier = newCourier(d.links.SendReliable, d.log)
	table := new(atomic.Pointer[answer.Table])
	if d.front = d.opts.front; d.front != nil {
		table, d.survey, d.horizon.texts = d.front.table, d.front.survey, d.front.texts
	} else {
		d.survey = newSurvey(s.Geo.Database)
	}
	d.survey.begin()
	d.tellSurvey()
	d.table = table
	d.resolver = d.newResolver()
	d.prober = probe.New(probe.Options{
		Source: s.Probe.Source, Allow: s.Probe.Allow, Exec: s.Probe.Exec, Lookup: d.lookup, Report: d.report, Log: d.log, Registerer: d.registry,
		Stalled: func(at time.Time, _ time.Duration) { d.loop.proberStalled.Store(&at) },
	})
	d.loop = &loop{
		name: s.Name, observer: health.NewObserver(d.now()), book: health.NewBook(s.Name, nil, 0),
		publish: health.NewPublisher(s.Name, d.identity.Boot, nil), decider: &steer.Decider{},
		horizon: d.horizon, outbox: d.links, courier: d.courier, prober: d.prober, pace: d.prober.Pace, resolver: d.resolver, describer: describer{resolved: d.resolver.Records}, table: table, identity: s.DNS.Identity, version: s.DNS.Version,
		shown: shown, log: d.log, now: d.now,
		reports: make(chan health.Report, 4096), messages: make(chan gossip.Message, 1024), queries: make(chan func(time.Time)), exchange: d.exchange, planned: newWake(),
		wakeup: newWake(), newer: newWake(), save: newWake(), stepped: newWake(), changed: d.changes.tell,
	}
	d.loop.earth.Store(d.survey.latest.Load())
	shown.placed(d.loop.earth.Load().table.Origin())
	d.librarian = &librarian{
		refusals: newRefusals(d.registry, d.log, d.horizon, d.now),
		name:     s.Name, store: d.store, horizon: d.horizon, courier: d.courier, resolver: d.resolver, offered: d.loop.wakeup, log: d.log,
		mail: make(chan gossip.Message, 64), ask: d.loop.newer, place: d.place, missed: newMissed(s.DataDir, d.log),
		places:    func(sets ...*spec.Set) []steer.Place { return d.loop.earth.Load().placesFor(sets...) },
		confirmed: func() { now := d.now(); d.confirmed.Store(&now) }, changed: d.changes.tell,
	}
	d.loop.plans = func(m gossip.Message) {
		select {
		case d.librarian.mail <- m:
		default:
			shown.overflow.WithLabelValues("plans").Inc()
		}
	}
	d.panel = (&panel{
		name: s.Name, send: d.links.Send, courier: d.courier, horizon: d.horizon, probe: d.prober.Now, peers: d.peers, log: d.log,
		soft: func(s health.Subject) health.Report { return d.softs.latest(s) }, shown: newPanelMetrics(d.registry),
	}).prepare()
	d.loop.panel = func(m gossip.Message) {
		if !d.panel.deliver(m) {
			shown.overflow.WithLabelValues("probe questions").Inc()
		}
	}
	d.policies = &policies{store: d.store, log: d.log, shown: newPolicyMetrics(d.registry), change: d.changes.tell, save: d.loop.save, unread: newWake(), compile: compiled, patience: compileLimit}
	d.librarian.policies = d.policies
	d.saver = &saver{policies: d.policies, name: s.Name, disk: d.disk, store: d.store, horizon: d.horizon, loop: d.loop, resolver: d.resolver, wanted: d.loop.save, renamed: newWake(), stepped: d.loop.stepped, told: newWake(), log: d.log, shown: shown}
	d.commander = &commander{
		turn: make(chan struct{}, 1), policies: d.policies,
		name: s.Name, key: d.identity.Key, store: d.store, librarian: d.librarian, horizon: d.horizon, resolver: d.resolver,
		states: d.states, earth: d.loop.earth.Load, log: d.log, now: d.now,
	}
	d.commander.gates, d.commander.seen = d.gates, d.seen
	d.commander.readers = d.readers
	d.commander.prepared = &d.loop.prepared
	d.commander.clock = d.clock
	d.folders = &folders{paths: s.Spec, reader: spec.NewReader(s.Spec, d.horizon.texts.check), name: s.Name, commander: d.commander, horizon: d.horizon, log: d.log, change: d.changes.tell, planned: d.loop.planned}
	d.mirror = &mirror{source: s.Probe.Source, peers: d.peers, log: d.log, shown: newMirrorMetrics(d.registry), change: d.changes.tell, last: map[string]sighting{}}
	d.controls = &controls{points: s.Controls, source: s.Probe.Source, peers: d.mirror.seen, log: d.log, change: d.changes.tell}
	d.loop.abstains = d.controls.abstains
	d.words = d.newEmergencies()
	if err := d.openKeyring(shown); err != nil {
		return err
	}
	d.steward = &steward{
		campaign: d.campaign, commander: d.commander, horizon: d.horizon, unfit: d.unfit, seen: d.seen, urgent: d.words.due, log: d.log,
	}
	d.vault = d.newVault()
	d.librarian.vault, d.commander.vault = d.vault, d.vault
	d.loop.secrets = func(m gossip.Message) {
		if !d.vault.deliver(m) {
			shown.overflow.WithLabelValues("secrets").Inc()
		}
	}
	d.kubes = &kubes{horizon: d.horizon, changes: d.changes, log: d.log, files: s.Kubeconfigs(), shown: newKubeMetrics(d.registry)}
	d.softs = &softs{
		horizon: d.horizon, changes: d.changes, name: s.Name, report: d.report, log: d.log, shown: newSoftMetrics(d.registry), now: d.now,
		sources: softSources{files: s.Kubeconfigs(), secrets: s.Probe.Secrets, prober: d.prober},
	}
	d.softs.ask = d.softs.sources.ask
	d.loads = d.newLoads(shown)
	d.history = d.newHistory()
	d.sealer = d.newSealer()
	if err := d.lastGood(); err != nil {
		return err
	}
	if d.front == nil {
		if d.front, err = newFront(s, table, d.survey, d.horizon.texts, nil, false, d.log); err != nil {
			return err
		}
	}
	d.dns = d.front.dns
	for _, c := range []prometheus.Collector{d.dns.Collector(), d.front.tap.Collector()} {
		if err := d.registry.Register(c); err != nil {
			return fmt.Errorf("dns metrics: %w", err)
		}
	}
	d.vault.begin()
	d.handover = &handover{path: filepath.Join(s.DataDir, handoverSocket), front: d.front, plan: d.answered, log: d.log}
	socket := cmp.Or(s.API.Socket, filepath.Join(s.DataDir, api.SocketName))
	if d.mute != nil {
		socket = "" // nothing can be changed from here
		if d.horizon.current() == nil {
			return fmt.Errorf("the data folder cannot be written, and it holds no plan to answer from: %w", d.mute)
		}
	}
	issuer, err := d.issuer()
	if err != nil {
		return err
	}
	reviews, err := d.reviews()
	if err != nil {
		return err
	}
	d.api, err = api.NewServer(api.Options{
		Director: d, Listen: s.API.Listen, TLS: api.TLSOptions(s.API.TLS), Socket: socket, Grants: s.API.Grants, Bearers: d.bearers, Issuer: issuer, Reviews: reviews,
		Registry: d.registry, Log: d.log, Large: d.commander.turn,
	})
	return err
}

// openStore finds the store: etcd somewhere, or a child of our own.
func (d *Director) openStore() error {
	e := d.settings.Etcd
	endpoints := e.Endpoints
	switch {
	case len(endpoints) > 0:
		if err := d.keepMember(); err != nil {
			return err
		}
	case d.mute != nil:
		endpoints = []string{"unix:///"} // nobody is there, and nobody asks
	default:
		var err error
		d.child, err = etcd.NewChild(etcd.ChildOptions{
			Data: filepath.Join(d.settings.DataDir, "etcd"), Command: d.opts.Etcd, Log: d.log,
		})
		if err != nil {
			return err
		}
		endpoints = []string{d.child.Endpoint()}
	}
	var err error
	d.store, err = store.New(store.Options{
		Endpoints: endpoints, TLS: store.TLS{CA: e.TLS.CA, Cert: e.TLS.Cert, Key: e.TLS.Key}, Log: d.log, Registerer: d.registry,
	})
	if err != nil {
		return err
	}
	d.campaign, err = etcd.New(etcd.Options{
		Client: d.store.Client(), Prefix: d.store.Prefix() + "election/", Name: d.settings.Name, Held: true, Log: d.log, Registerer: d.registry,
	})
	return err
}

// Run directs until ctx ends.
func (d *Director) Run(ctx context.Context) error {
	return d.lines.keep(func() error { return d.run(ctx) })
}

// run begins with DNS, since that needs nothing else.
func (d *Director) run(ctx context.Context) error {
	d.ran = true
	defer d.close()
	childCtx, endChild := context.WithCancel(context.WithoutCancel(ctx))
	defer endChild()
	var child errgroup.Group
	if d.child != nil {
		child.Go(func() error { return d.child.Run(childCtx) })
	}
	group, ctx := errgroup.WithContext(ctx)
	run := func(name string, f func(context.Context) error) {
		group.Go(func() error {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if d.opts.front == nil {
		run("dns", d.front.run)
	}
	d.loop.book.Begins(d.now())
	run("loop", d.loop.run)
	run("geo database", func(ctx context.Context) error { return d.survey.run(ctx, d.resurveyed) })
	run("api", d.api.Run)
	run("hostnames", d.resolver.Run)
	run("policies", d.policies.run)
	if d.mute != nil {
		d.log.Error("the data folder cannot be written: answering DNS from the last good state, and nothing else", slog.Any("err", d.mute))
		run("disk", d.awaitDisk)
		d.begun()
		return group.Wait()
	}
	d.handover.listen()
	run("handover", d.handover.run)
	run("gossip", d.links.Run)
	run("courier", d.courier.run)
	run("probes", d.prober.Run)
	run("saver", d.saver.run)
	run("store", d.librarian.run)
	run("campaign", d.campaign.Run)
	run("leader", d.steward.run)
	run("bootstrap", d.bootstrapper)
	run("enrolment", d.enrol)
	run("spec files", d.folders.run)
	run("peers' DNS", d.mirror.run)
	run("control points", d.controls.run)
	run("control planes", d.kubes.run)
	run("probe questions", d.panel.run)
	run("soft probes", d.softs.run)
	run("loads", d.loads.run)
	run("emergencies", d.words.run)
	run("gossip keys", d.keys.run)
	run("secrets", d.vault.run)
	run("own certificates", d.own.run)
	run("history", d.history.run)
	run("audit log", d.sealer.run)
	d.loop.wakeup.up()
	d.log.Info("director started", slog.String("name", d.settings.Name), slog.String("version", d.opts.Version),
		slog.Any("dns", d.dns.Addrs()), slog.String("gossip", d.links.Addr().String()), slog.String("api", d.api.Addr()), slog.String("data", d.settings.DataDir),
		slog.String("key", d.shownKey()))
	if len(d.dns.Addrs()) > 0 && d.meta().DNS == "" {
		d.log.Warn("the other directors cannot ask this one's DNS, and take it at its word: no dns.listen address is of the family that it gossips in, or all are loopback")
	}
	d.begun()
	err := group.Wait()
	endChild() // last: a leader that stops gives its key back
	if childErr := child.Wait(); err == nil {
		err = childErr
	}
	d.saver.last()
	d.log.Info("director stopped")
	return err
}

// close lets go of what New took. It may be called on a half-made director.
func (d *Director) close() {
	if !d.ran { // what Run would have closed
		over, cancel := context.WithCancel(context.Background())
		cancel()
		if d.links != nil {
			_ = d.links.Run(over)
		}
		if d.api != nil {
			_ = d.api.Run(over)
		}
		if d.front != nil && d.opts.front == nil {
			_ = d.front.run(over)
		}
	}
	if d.store != nil {
		_ = d.store.Close()
	}
	if d.release != nil {
		d.release()
	}
}

// report passes a probe's outcome to the loop without waiting for it. What
// passed is read at the next tick: some hundred a second, none of which says
// anything new by itself, are not worth as many awakenings.
func (d *Director) report(r health.Report) {
	d.loads.trips.note(r)
	l := d.loop
	select {
	case l.reports <- r:
	default:
		l.shown.overflow.WithLabelValues("reports").Inc()
	}
	if !r.OK && !r.Void || len(l.reports) > cap(l.reports)/2 {
		l.wakeup.up()
	}
}

// deliver passes a message to the loop; gossip's inbox drops when it is full.
func (d *Director) deliver(m gossip.Message) {
	select {
	case d.loop.messages <- m:
	default:
		d.loop.shown.overflow.WithLabelValues("messages").Inc()
	}
}

// fleet gives the fleet ID, "" before a plan is known.
func (d *Director) fleet() string {
	if f := d.horizon.current(); f != nil {
		return f.sealed.Identity.Fleet
	}
	return ""
}

func (d *Director) keyOf(name string) ed25519.PublicKey {
	f := d.horizon.current()
	if f == nil {
		return nil
	}
	return keysOf(f.sealed.Plan)(name)
}

// keysOf gives the roster's key of a director that counts.
func keysOf(p *plan.Plan) func(string) ed25519.PublicKey {
	return func(name string) ed25519.PublicKey {
		if e := p.Director(name); e != nil && e.GetStanding() == plan.Director_ACTIVE {
			return e.GetKey()
		}
		return nil
	}
}

// registered gives the directors to be redialled for ever.
func (d *Director) registered() map[string]string {
	f := d.horizon.current()
	if f == nil {
		return nil
	}
	out := map[string]string{}
	for _, e := range f.sealed.Plan.Active() {
		if e.GetName() != d.settings.Name && e.GetGossip() != "" {
			out[e.GetName()] = e.GetGossip()
		}
	}
	return out
}

func (d *Director) me() core.Director {
	return core.Director{Name: d.settings.Name, Site: d.settings.Site, Key: d.identity.Public(), Gossip: d.links.Advertised().String()}
}

// states gives the states in force, and what fresh votes say of the subjects
// that never fell.
func (d *Director) states(ctx context.Context) (certified, observed map[health.Subject]health.State, err error) {
	err = d.loop.inspect(ctx, func(now time.Time) { certified, observed = d.loop.book.States(), d.loop.book.Observed(now) })
	return certified, observed, err
}

package director

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/resolve"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
	"github.com/divertdns/divert/dnsserver"
	"github.com/divertdns/divert/dnsserver/answer"
	"github.com/divertdns/divert/dnsserver/tap"
	"github.com/divertdns/divert/health"
	"github.com/divertdns/divert/health/probe"
)

// front is what clients see of a director: the DNS sockets, and the table that
// they answer from. It outlives the directors that stand behind it one after the
// other, in this process and over its replacement, so that no query finds nobody.
type front struct {
	table     *atomic.Pointer[answer.Table]
	dns       *dnsserver.Server
	tap       *tap.Tap
	survey    *survey
	texts     *zoneTexts
	activated bool // the sockets are a service manager's
}

// newFront binds the sockets, or takes over those given. It answers REFUSED while
// table holds nil.
func newFront(s spec.Settings, table *atomic.Pointer[answer.Table], survey *survey, texts *zoneTexts, inherit []dnsserver.Socket, activated bool, log *slog.Logger) (*front, error) {
	f := &front{table: table, survey: survey, texts: texts, activated: activated, tap: tap.New(tap.Options{
		LogShare: s.DNS.QueryLog, TapShare: s.DNS.Tap.Sample, Socket: s.DNS.Tap.Socket,
		Identity: cmp.Or(s.DNS.Identity, s.Name), Version: s.DNS.Version, Log: log,
	})}
	key, err := cookieKey(s)
	if err != nil {
		// Gossip says so where that matters; cookies of its own serve as well.
		log.Warn("DNS cookies are this director's alone", slog.Any("err", err))
	}
	if activated {
		s.DNS.Listen = addresses(inherit, s.DNS.TLS.Listen)
	}
	transfers, err := transferOptions(s.DNS.Transfers)
	if err != nil {
		// A file that is gone must not take the answers away (S12). Nobody gets a zone:
		// with a key less, whoever is allowed by address would need none.
		log.Error("zone transfers are refused until this is mended and the director started anew", slog.Any("err", err))
		transfers = dnsserver.TransferOptions{}
	}
	f.dns, err = dnsserver.New(dnsserver.Options{
		Listen: s.DNS.Listen, Inherit: inherit, Table: f.table, Log: log,
		CookieKey: key, RateLimit: s.DNS.RateLimit, RateExempt: s.DNS.RateExempt, Tap: f.tap,
		TLS:       dnsserver.TLSOptions{Listen: s.DNS.TLS.Listen, Cert: s.DNS.TLS.Cert, Key: s.DNS.TLS.Key},
		Transfers: transfers, Proxies: s.DNS.ProxyProtocol,
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// run answers until ctx ends, or until it is retired.
func (f *front) run(ctx context.Context) error {
	beside, stop := context.WithCancel(ctx)
	var shown errgroup.Group
	shown.Go(func() error { return f.tap.Run(beside) })
	err := f.dns.Run(ctx)
	stop()
	return errors.Join(err, shown.Wait())
}

// addresses lists where sockets are bound, but for those of DNS over TLS.
func addresses(sockets []dnsserver.Socket, secure []string) []string {
	out, seen := []string{}, map[string]bool{}
	named := dnsserver.ListenAddrs(secure)
	for _, s := range sockets {
		if a := s.Addr.String(); !seen[a] && !s.TLS && !slices.Contains(named, s.Addr) {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// cookieKey derives the fleet's key of DNS cookies from that of gossip; nil where
// there is none.
func cookieKey(s spec.Settings) ([]byte, error) {
	if s.Gossip.KeyFile == "" {
		return nil, nil
	}
	secrets, err := gossip.LoadSecrets(s.Gossip.KeyFile)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secrets[0], nil, "divert dns cookies", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of DNS cookies: %w", err)
	}
	return key, nil
}

// standIn makes a table of the last good state on disk, as lastGood does, and takes
// nothing: the director that the disk belongs to may be running.
func standIn(s spec.Settings, survey *survey, texts *zoneTexts, log *slog.Logger) (*answer.Table, plan.Identity, error) {
	survey.begin()
	g, err := store.Peek(filepath.Join(s.DataDir, "state"), log)
	if err != nil {
		return nil, plan.Identity{}, err
	}
	if len(g.Plan) == 0 {
		return nil, plan.Identity{}, errors.New("the disk holds no plan to answer from")
	}
	sealed, err := plan.Open(g.Plan)
	if err != nil {
		return nil, plan.Identity{}, err
	}
	f, err := texts.prepare(sealed, g.Docs()...)
	if err != nil {
		return nil, plan.Identity{}, err
	}
	f = f.on(s.Name)
	now := time.Now()
	book := health.NewBook(s.Name, nil, 0)
	book.SetSubjects(subjects(f.specs()...), now)
	if err := book.Restore(g.Health, now); err != nil {
		log.Warn("certificates of the last good state are not used", slog.Any("err", err))
	}
	fit := survey.latest.Load().fit(f.spec)
	names := resolve.New(resolve.Options{Permit: probe.Permit(s.Probe.Allow)})
	restoreNames(names, g.Resolved, log)
	describe := describer{resolved: names.Records}
	var back ramps
	back.look(f.spec, book, &flips{all: true}, now)
	decision := new(steer.Decider).Decide(steer.Input{Spec: f.spec, Plan: sealed.Plan, States: book.States(), Returns: back.returns, Earlier: back.earlier, Places: fit.places})
	table, err := fit.compile(answer.Options{
		Zones: describe.describe(f, decision), Plan: sealed.Identity.String(),
		NSID: []byte(s.DNS.Identity), ID: s.DNS.Identity, Version: s.DNS.Version,
	})
	return table, sealed.Identity, err
}

// use puts secrets of the fleet into force.
func (f *front) use(s shared) error {
	return errors.Join(f.dns.UseCookies(s.cookies, s.pending), f.dns.UseSecrets(s.keys))
}

// share gives a front the secrets that the disk holds, before there is a director behind it:
// clients are to see no change while one process takes over from another.
func (f *front) share(s spec.Settings, log *slog.Logger) {
	file := filepath.Join(s.DataDir, vaultFile)
	if _, err := os.Stat(file); err != nil {
		return
	}
	g, err := store.Peek(filepath.Join(s.DataDir, "state"), log)
	var sealed *plan.Sealed
	if err == nil {
		sealed, err = plan.Open(g.Plan)
	}
	var key ed25519.PrivateKey
	if err == nil {
		key, err = gossip.PeekKey(fsys.Folder{FS: fsys.OS{}, Dir: s.DataDir}, s.Name)
	}
	if err != nil {
		log.Warn("secrets of the fleet are not in force before this director is", slog.Any("err", err))
		return
	}
	openVault(&coffer{name: s.Name, key: key, file: file, use: f.use, log: log}).follow(sealed.Plan)
}

// answered is the plan that this director answers from, as it tells whoever takes
// over; "" = none.
func (d *Director) answered() string {
	if f := d.horizon.current(); f != nil {
		return f.sealed.Identity.String()
	}
	return ""
}

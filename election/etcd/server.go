package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// ErrLocked says that another process uses the data directory.
var ErrLocked = errors.New("another process uses it: stop that one first")

const (
	// quota bounds the database. Past it etcd refuses writes until a person
	// disarms its alarm, so it is far above what history can reach: 600 commits
	// of the largest plan are 150 MiB, and a quota costs address space only.
	quota = 2 << 30
	// history is how long old revisions stay. Watches resume within seconds.
	history = "10m"
	// snapshotEvery and catchUp bound the raft log that stays in memory: the
	// defaults, 10,000 and 5,000 entries, may each hold a blob of 512 KiB.
	snapshotEvery, catchUp = 500, 50
	// startPatience is how long a server may take to become ready before that
	// is worth a line. It is no limit: a large log takes its time.
	startPatience = 20 * time.Second
	// maxStreams is how many calls and watches one connection may have under way: a
	// director has some dozens. etcd itself has no bound.
	maxStreams = 1024
	// keepAlive is after how long without a word a client is asked whether it is there;
	// one that is not gives its connection back twenty seconds later. etcd asks after two
	// hours.
	keepAlive = time.Minute
)

// ServerOptions say how Serve runs.
type ServerOptions struct {
	Data   string // directory, made when absent
	Listen string // http://127.0.0.1:2379, https://192.0.2.7:2379, or unix:///path/to/socket
	TLS    TLS    // wanted by https, and only there; of a member, for the others too
	Member Member // one of several; zero: a store of one
	Alone  bool   // the process does nothing else: how many connections it takes is limited
	Log    *slog.Logger
	Ready  func(endpoint string) // called once, when clients are served; may be nil
}

// Serve runs an etcd until ctx ends, and returns nil then: a store of one, without
// a listener for peers, or a member of several. It must be the main business of its process: etcd exits
// the process when it cannot write its log.
func Serve(ctx context.Context, o ServerOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Data == "" {
		return errors.New("data directory: none given")
	}
	u, err := parseListen(o.Listen, o.TLS)
	if err != nil {
		return err
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	release, err := lockData(data)
	if err != nil {
		return err
	}
	defer release()
	var peers *url.URL
	if o.Member.Name != "" || len(o.Member.Cluster) > 0 {
		if peers, err = o.Member.settle(u, o.TLS); err != nil {
			return err
		}
		if err := free(peers); err != nil {
			return err
		}
	}
	if err := free(u); err != nil {
		return err
	}
	ending := &atomic.Bool{}
	cfg := configure(data, u, o, ending)
	if peers != nil {
		if err := o.Member.configure(cfg, u, peers, o.TLS); err != nil {
			return err
		}
	}
	free := func() error { return nil }
	if o.Alone {
		if limited, err := limitConnections(); err == nil {
			free = limited
		} else {
			o.Log.Warn("connections are limited by the files of this process alone", slog.Any("err", err))
		}
	}
	server, err := embed.StartEtcd(cfg)
	if limit := free(); limit != nil {
		o.Log.Warn("few members can be heard at once", slog.Any("err", limit))
	}
	if err != nil {
		return fmt.Errorf("starting etcd on %s in %s: %w", u, data, err)
	}
	return attend(ctx, server, u, o, ending)
}

// attend waits for a started server to be ready, and then for its end.
func attend(ctx context.Context, server *embed.Etcd, u *url.URL, o ServerOptions, ending *atomic.Bool) error {
	defer server.Close()
	slow := time.NewTimer(startPatience)
	defer slow.Stop()
	ready := server.Server.ReadyNotify()
	for {
		select {
		case <-ready:
			ready = nil
			slow.Stop()
			if u.Scheme == "unix" {
				if err := os.Chmod(u.Path, 0o600); err != nil {
					return fmt.Errorf("guarding the socket: %w", err)
				}
			}
			o.Log.Info("etcd serves", slog.String("listen", u.String()), slog.String("data", server.Config().Dir))
			if o.Ready != nil {
				o.Ready(u.String())
			}
		case <-slow.C:
			o.Log.Warn("etcd is still not ready", slog.Duration("after", startPatience))
		case err := <-server.Err():
			return fmt.Errorf("serving etcd on %s: %w", u, err)
		case <-server.Server.StopNotify():
			return errors.New("etcd stopped by itself")
		case <-ctx.Done():
			// Watches never end by themselves: without this, Close would wait
			// for them for its whole request timeout, seven seconds.
			ending.Store(true)
			server.Server.HardStop()
			return nil
		}
	}
}

// configure says what differs from etcd's defaults, and why.
func configure(data string, u *url.URL, o ServerOptions, ending *atomic.Bool) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "divert"
	cfg.Dir = data
	cfg.ListenClientUrls = []url.URL{*u}
	cfg.AdvertiseClientUrls = []url.URL{*u}
	// One member has no peers, so nothing listens for them. The name of a peer
	// address is still part of a member's identity.
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	// Each new store has an identity of its own, so that a replaced one is
	// told from the old one by its cluster ID (F25).
	cfg.InitialClusterToken = "divert-" + rand.Text()
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = history
	cfg.QuotaBackendBytes = quota
	cfg.SnapshotCount = snapshotEvery
	cfg.SnapshotCatchUpEntries = catchUp
	// What is answered is in the log, synced; the database behind it follows, and is
	// made good from the log after a crash. Ten times a second would be a tenth of what
	// a change of the plan costs.
	cfg.BackendBatchInterval = time.Second
	cfg.MaxWalFiles = 2
	cfg.MaxSnapFiles = 2
	cfg.MaxConcurrentStreams = maxStreams
	cfg.GRPCKeepAliveInterval = keepAlive
	cfg.EnableGRPCGateway = false // a second door, with a client of its own
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(o.Log, ending))
	cfg.LogLevel = "error" // etcd asks it for what its gRPC library may say
	if u.Scheme == "https" {
		cfg.ClientTLSInfo = transport.TLSInfo{
			CertFile: o.TLS.Cert, KeyFile: o.TLS.Key,
			TrustedCAFile: o.TLS.CA, ClientCertAuth: true, SkipClientSANVerify: o.Member.Name != "", CRLFile: o.TLS.CRL,
		}
	}
	return cfg
}

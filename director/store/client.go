package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
)

// TLS names the files of mutual TLS. They are read at each handshake, so that
// they may be renewed in place, and so that a missing one keeps a director
// from etcd, never from starting.
type TLS struct{ CA, Cert, Key string }

// connect makes a client. It dials nothing: gRPC connects when first asked.
func connect(endpoints []string, files TLS) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("etcd: no endpoint given")
	}
	secure := strings.HasPrefix(endpoints[0], "https:")
	for _, e := range endpoints {
		if err := checkEndpoint(e, files); err != nil {
			return nil, err
		}
		// The client takes one kind of credentials for all.
		if strings.HasPrefix(e, "https:") != secure {
			return nil, errors.New("etcd: endpoints with TLS and without are mixed")
		}
	}
	dial := []grpc.DialOption{
		grpc.WithStatsHandler(sentHandler{}),
		grpc.WithChainUnaryInterceptor(failFast),
		// The default waits up to two minutes between attempts, long after
		// etcd is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	if secure {
		dial = append(dial, grpc.WithTransportCredentials(reading{files: files, TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})}))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialOptions:          dial,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		MaxUnaryRetries:      3, // see again and settle, which retry on terms of their own
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client: %w", err)
	}
	return client, nil
}

// failFast undoes etcd's choice to let each call wait for a connection until
// its deadline: a refusal must be quick, and say why nothing could be reached.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// checkEndpoint refuses to send plans over an open network.
func checkEndpoint(endpoint string, files TLS) error {
	if path, ok := strings.CutPrefix(endpoint, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("etcd endpoint %s: the path of the socket must be absolute", endpoint)
		}
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("etcd endpoint: %w", err)
	}
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil || host == "" {
		return fmt.Errorf("etcd endpoint %s: give scheme, host and port, such as https://etcd-1.example.org:2379", endpoint)
	}
	switch u.Scheme {
	case "http":
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return fmt.Errorf("etcd endpoint %s: off loopback only https with mutual TLS is used", endpoint)
		}
	case "https":
		if files.CA == "" || files.Cert == "" || files.Key == "" {
			return fmt.Errorf("etcd endpoint %s: https wants etcd.tls with ca, cert and key", endpoint)
		}
	default:
		return fmt.Errorf("etcd endpoint %s: the scheme is none of http, https, unix", endpoint)
	}
	return nil
}

// reading is TLS whose files are read at each handshake.
type reading struct {
	credentials.TransportCredentials
	files TLS
}

// ClientHandshake authenticates both sides with the files as they are now.
func (r reading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := r.files.load()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// load reads the files. An error names the one that is at fault.
func (f TLS) load() (*tls.Config, error) {
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("etcd.tls.ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("etcd.tls.ca: no certificate in %s", f.CA)
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("etcd.tls.cert %s and key %s: %w", f.Cert, f.Key, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}, nil
}

// Clone gives a copy.
func (r reading) Clone() credentials.TransportCredentials {
	return reading{TransportCredentials: r.TransportCredentials.Clone(), files: r.files}
}

// leaving says whether a call has left, and tells a test when.
type leaving struct {
	sent atomic.Bool
	at   func(Step) // may be nil
}

// sentKey finds the leaving of a call in its context.
type sentKey struct{}

// watchSent gives a context whose calls raise the flag once a request has been
// given to a connection. Without it nothing was written, whatever the error
// says: gRPC's texts for "never connected" and "broke off" are no interface.
func watchSent(ctx context.Context, at func(Step)) (context.Context, *leaving) {
	l := &leaving{at: at}
	return context.WithValue(ctx, sentKey{}, l), l
}

// sentHandler raises the flags of watchSent.
type sentHandler struct{}

// TagRPC does nothing: the flag is the caller's.
func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC notes that a request left.
func (sentHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	l, ok := ctx.Value(sentKey{}).(*leaving)
	if !ok {
		return
	}
	switch s.(type) {
	case *stats.OutHeader:
		l.sent.Store(true)
	case *stats.OutPayload:
		l.sent.Store(true)
		if l.at != nil {
			l.at(Sent)
		}
	}
}

// TagConn does nothing.
func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (sentHandler) HandleConn(context.Context, stats.ConnStats) {}

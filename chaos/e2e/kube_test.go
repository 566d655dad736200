package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/chaos/local"
)

// TestRealKube: fra's control plane is a real kube-apiserver. Killed, fra is
// *impaired* and no traffic moves (F9, S17); when its service dies, it does.
func TestRealKube(t *testing.T) {
	if os.Getenv("DIVERT_KUBE") == "" {
		t.Skip("a real kube-apiserver was not asked for: make test-kube")
	}
	server := filepath.Join("..", "..", ".cache", "kube-apiserver")
	if cache := os.Getenv("DIVERT_CACHE"); cache != "" {
		server = filepath.Join(cache, "kube-apiserver")
	}
	dir := t.TempDir()
	etcdURL := "http://127.0.0.1:" + port(t)
	run(t, filepath.Join(dir, "etcd.log"), binary, "etcd", "--data", filepath.Join(dir, "etcd"), "--listen", etcdURL)
	kubeconfig, stop := apiserver(t, dir, server, etcdURL)

	path := regexp.MustCompile(`path: \S*fra\.kubeconfig`)
	r := start(t, local.Options{Kubeconfigs: dir, Spec: func(f *local.Fleet) string {
		return path.ReplaceAllString(local.DemoSpec(f), "path: "+kubeconfig)
	}})
	r.settle()
	r.until(time.Minute, "the real control plane is seen to be well", r.controlPlane("fra", "ok"))
	stop()
	r.until(time.Minute, "its death is seen", r.controlPlane("fra", "impaired"))
	r.holds(10*time.Second, "no traffic moves", r.all("pay.example.org", "fra"))
	must(t, r.Kill("fra"))
	r.until(5*time.Second, "its service killed, traffic moves", r.all("pay.example.org", "nyc"))
}

// controlPlane checks what every director says of a cluster's control plane.
func (r *rig) controlPlane(cluster, want string) func() error {
	return func() error {
		for i := 1; i <= r.Directors(); i++ {
			s, err := r.status(i)
			if err != nil {
				return err
			}
			for _, c := range s.Clusters {
				if c.Name == cluster && !strings.HasPrefix(c.ControlPlane, want) {
					return fmt.Errorf("%s says %q of %s", local.Name(i), c.ControlPlane, cluster)
				}
			}
		}
		return nil
	}
}

// apiserver starts a kube-apiserver with as little as it needs. stop kills it.
func apiserver(t *testing.T, dir, server, etcd string) (kubeconfig string, stop func()) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	account := file("sa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	tokens := file("tokens.csv", "secret,admin,admin-uid,system:masters\n")
	secure := port(t)
	url := "https://127.0.0.1:" + secure
	stop = run(t, filepath.Join(dir, "apiserver.log"), server,
		"--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+secure, "--cert-dir="+filepath.Join(dir, "certs"),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC", "--token-auth-file="+tokens, "--service-account-issuer="+url+"/",
		"--service-account-key-file="+account, "--service-account-signing-key-file="+account, "--disable-admission-plugins=ServiceAccount")
	return file("real.kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: fra
clusters: [{name: fra, cluster: {server: %q, certificate-authority: certs/apiserver.crt}}]
contexts: [{name: fra, context: {cluster: fra, user: observer}}]
users: [{name: observer, user: {token: secret}}]
`, url)), stop
}

// run starts a process that ends with the test, if stop has not killed it.
func run(t *testing.T, log, name string, args ...string) (stop func()) {
	t.Helper()
	out, err := os.Create(log)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
		out.Close()
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		stop()
		if b, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("--- log of %s\n%s", filepath.Base(name), b[max(0, len(b)-4000):])
		}
	})
	return stop
}

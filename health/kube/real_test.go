package kube

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// apiserverBinary finds the real thing, or says why this test is not run.
func apiserverBinary(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("DIVERT_KUBE_APISERVER")
	switch {
	case binary != "":
	case os.Getenv("DIVERT_KUBE") == "":
		t.Skip("a real kube-apiserver was not asked for: make test-kube, or DIVERT_KUBE_APISERVER=path")
	default:
		cache := os.Getenv("DIVERT_CACHE")
		if cache == "" {
			cache = filepath.Join("..", "..", ".cache")
		}
		binary = filepath.Join(cache, "kube-apiserver")
	}
	absolute, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(absolute); err != nil {
		t.Fatalf("a real kube-apiserver was asked for and is not there (make kube-tools): %v", err)
	}
	return absolute
}

// process is one that the test started, and ends.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
}

func start(t *testing.T, dir, binary string, args ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.log", filepath.Base(binary), time.Now().UnixNano())))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
		_ = log.Close()
	}()
	t.Cleanup(func() {
		if t.Failed() {
			showTail(t, log.Name())
		}
	})
	return p
}

func showTail(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Log(err)
		return
	}
	t.Logf("the end of %s:\n%s", filepath.Base(path), data[max(0, len(data)-2000):])
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%s to %s: %v", s, p.cmd.Path, err)
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Kill()
	<-p.done
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// answers waits until somebody answers a plain GET.
func answers(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(url) //nolint:noctx // loopback, in a test
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			return
		}
	}
	t.Fatalf("%s does not answer", url)
}

// realCluster is an etcd and an API server.
type realCluster struct {
	t                  *testing.T
	dir, url, etcdURL  string
	divert, apiserver  string
	keyFile, portFlags string
	etcd, api          *process
}

// newRealCluster starts a real kube-apiserver and its etcd (`divert etcd`). They end
// with the test, the API server first: both at once hang for minutes.
func newRealCluster(t *testing.T) *realCluster {
	t.Helper()
	k := &realCluster{t: t, dir: t.TempDir(), apiserver: apiserverBinary(t)}
	k.divert = filepath.Join(k.dir, "divert")
	if out, err := exec.Command("go", "build", "-o", k.divert, "github.com/divertdns/divert/cmd/divert").CombinedOutput(); err != nil {
		t.Fatalf("building divert for its etcd: %v\n%s", err, out)
	}
	k.etcdURL = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	k.keyFile = write(t, k.dir, "sa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	write(t, k.dir, "tokens.csv", "secret,admin,admin-uid,system:masters\nlooks,observer,observer-uid\nnobody,nobody,nobody-uid\n")
	port := freePort(t)
	k.url, k.portFlags = fmt.Sprintf("https://127.0.0.1:%d", port), fmt.Sprintf("--secure-port=%d", port)
	k.startEtcd()
	t.Cleanup(func() { k.etcd.kill() })
	k.startAPI()
	t.Cleanup(func() { k.api.kill() })
	return k
}

func (k *realCluster) startEtcd() {
	k.t.Helper()
	k.etcd = start(k.t, k.dir, k.divert, "etcd", "--data", filepath.Join(k.dir, "etcd"), "--listen", k.etcdURL)
	answers(k.t, k.etcdURL+"/version")
}

func (k *realCluster) startAPI() {
	k.t.Helper()
	k.api = start(k.t, k.dir, k.apiserver,
		"--etcd-servers="+k.etcdURL, "--bind-address=127.0.0.1", k.portFlags, "--cert-dir="+filepath.Join(k.dir, "certs"),
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC", "--token-auth-file="+filepath.Join(k.dir, "tokens.csv"), "--service-account-issuer="+k.url+"/",
		"--service-account-key-file="+k.keyFile, "--service-account-signing-key-file="+k.keyFile,
		"--disable-admission-plugins=ServiceAccount", "--shutdown-delay-duration=6s")
}

// kubeconfig is that of whoever has the token.
func (k *realCluster) kubeconfig(token string) string {
	return write(k.t, k.dir, "kubeconfig-"+token, fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: %q, certificate-authority: certs/apiserver.crt}}]
contexts: [{name: it, context: {cluster: it, user: observer}}]
users: [{name: observer, user: {token: %s}}]
`, k.url, token))
}

// TestRealKubeF9 takes a real kube-apiserver and its etcd
// through the faults of KUBERNETES.md section 2. Nothing stronger than
// *impaired* comes of any of them.
func TestRealKubeF9(t *testing.T) {
	k := newRealCluster(t)
	o := Options{Kubeconfig: k.kubeconfig("secret"), Endpoints: []string{k.url}, Interval: 500 * time.Millisecond}
	conditions := observeReal(t, o)
	step := func(name string, impaired bool, reason string) {
		t.Helper()
		began := time.Now()
		c := untilWithin(t, conditions, 2*time.Minute, impaired, reason)
		t.Logf("%s: impaired %t after %v: %s", name, c.Impaired, time.Since(began).Round(time.Millisecond), c.Reason)
	}
	step("started", false, "")

	k.etcd.signal(syscall.SIGSTOP)
	step("etcd stopped", true, "storage (etcd) gone")
	k.etcd.signal(syscall.SIGCONT)
	step("etcd continued", false, "")
	k.etcd.kill()
	step("etcd killed", true, "storage (etcd) gone")
	k.startEtcd()
	step("etcd back", false, "")

	k.api.signal(syscall.SIGSTOP)
	step("API server stopped", true, "API server gone")
	k.api.signal(syscall.SIGCONT)
	step("API server continued", false, "")
	k.api.signal(syscall.SIGTERM)
	step("API server told to end", false, "rolling restart")
	step("API server ended", true, "connection refused")
	<-k.api.done
	k.startAPI()
	step("API server back", false, "")
	k.api.kill()
	step("API server killed", true, "API server gone")
}

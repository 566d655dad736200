package kube

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// maxFile bounds the kubeconfig and every file that it names.
const maxFile = 1 << 20

// material is one context of a kubeconfig with all that it points to read in.
type material struct {
	cluster api.Cluster
	user    api.AuthInfo
}

func (m *material) equal(n *material) bool { return reflect.DeepEqual(m, n) }

// opener opens a kubeconfig, and the files that it names.
type opener func(path string) (*os.File, error)

// anywhere does not wait for what is no file.
func anywhere(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// load reads a kubeconfig, from its path and nothing else: no environment, no
// home directory, no service account. It refuses what would run a program
// (C11), and reads the files named in it here, bounded, so that client-go is
// given bytes and opens nothing.
func (open opener) load(path, context string) (*material, error) {
	data, err := open.read(path)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.Load(data)
	if err != nil {
		// Its words may quote the file, and with it a key.
		return nil, fmt.Errorf("%s is not a kubeconfig", path)
	}
	if context == "" {
		context = config.CurrentContext
	}
	if context == "" {
		return nil, fmt.Errorf("%s has no current context: name one (controlPlane.kubeconfig.context)", path)
	}
	chosen := config.Contexts[context]
	if chosen == nil {
		return nil, fmt.Errorf("%s has no context %q", path, context)
	}
	cluster, user := config.Clusters[chosen.Cluster], config.AuthInfos[chosen.AuthInfo]
	if cluster == nil {
		return nil, fmt.Errorf("%s has no cluster %q, which context %q names", path, chosen.Cluster, context)
	}
	if user == nil {
		if chosen.AuthInfo != "" {
			return nil, fmt.Errorf("%s has no user %q, which context %q names", path, chosen.AuthInfo, context)
		}
		user = &api.AuthInfo{}
	}
	if err := refuse(user, path, chosen.AuthInfo); err != nil {
		return nil, err
	}
	m := &material{cluster: *cluster, user: *user}
	if err := m.inline(open, filepath.Dir(path)); err != nil {
		return nil, err
	}
	return m, nil
}

// refuse answers C11: a kubeconfig is a file that people pass around, and a
// director that runs what it names runs whatever its author wished.
func refuse(user *api.AuthInfo, path, name string) error {
	const remedy = "give it a token or a client certificate instead"
	switch {
	case user.Exec != nil:
		return fmt.Errorf("user %q of %s runs a program (exec), which is refused: %s", name, path, remedy)
	case user.AuthProvider != nil:
		return fmt.Errorf("user %q of %s uses an auth-provider plugin, which is refused: %s", name, path, remedy)
	}
	return nil
}

// inline replaces paths by what is in the files.
func (m *material) inline(open opener, dir string) error {
	for _, file := range []struct {
		path *string
		data *[]byte
	}{
		{&m.cluster.CertificateAuthority, &m.cluster.CertificateAuthorityData},
		{&m.user.ClientCertificate, &m.user.ClientCertificateData},
		{&m.user.ClientKey, &m.user.ClientKeyData},
	} {
		if *file.path != "" && len(*file.data) == 0 {
			data, err := open.read(beside(dir, *file.path))
			if err != nil {
				return err
			}
			*file.data = data
		}
		*file.path = ""
	}
	if m.user.TokenFile != "" {
		token, err := open.read(beside(dir, m.user.TokenFile))
		if err != nil {
			return err
		}
		m.user.Token, m.user.TokenFile = string(bytes.TrimSpace(token)), "" // the file counts before the token, as in kubectl
	}
	return nil
}

func beside(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// read reads a regular file of bounded size: a device or a pipe would keep us reading for
// ever.
func (open opener) read(path string) ([]byte, error) {
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return data, nil
}

// clients makes one client for each server, or for the kubeconfig's own.
func (m *material) clients(servers []*url.URL, timeout time.Duration) ([]*client, error) {
	own, err := url.Parse(m.cluster.Server)
	if err != nil || own.Scheme != "https" || own.Host == "" {
		return nil, errors.New("the kubeconfig's server is not https://host:port")
	}
	if len(servers) == 0 {
		servers = []*url.URL{own}
	}
	base, err := m.config()
	if err != nil {
		return nil, err
	}
	clients := make([]*client, 0, len(servers))
	for _, server := range servers {
		config := rest.CopyConfig(base)
		config.Host = server.String()
		if config.ServerName == "" {
			config.ServerName = nameFor(own, server)
		}
		h, err := rest.HTTPClientFor(config)
		if err != nil {
			// Words of the TLS library about a key pair; no content of it.
			return nil, fmt.Errorf("the kubeconfig's certificates cannot be used: %w", err)
		}
		h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		clients = append(clients, &client{url: server, http: h, timeout: timeout})
	}
	return clients, nil
}

// config hands the material to client-go.
func (m *material) config() (*rest.Config, error) {
	const name = "divert"
	cluster, user := m.cluster, m.user
	whole := api.Config{
		Clusters:       map[string]*api.Cluster{name: &cluster},
		AuthInfos:      map[string]*api.AuthInfo{name: &user},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(whole, name, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.UserAgent = "divert-probe"
	if config.Proxy == nil { // the kubeconfig's own proxy-url counts, the environment's does not
		config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	return config, nil
}

// nameFor says whose name an endpoint's certificate must carry, where the
// kubeconfig does not say (tls-server-name). All API servers behind a name
// carry that name; whether they carry their own address too is another matter.
// Where the kubeconfig has an address only, each must carry its own.
func nameFor(own, server *url.URL) string {
	name := own.Hostname()
	if _, err := netip.ParseAddr(name); err == nil || name == server.Hostname() || strings.EqualFold(name, "localhost") {
		return ""
	}
	return name
}

package fleet

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store/fsys"
)

const (
	authorities  = "ca"       // folder of the authorities, which no director needs
	operators    = "operator" // folder of what people hold
	adminName    = "admin"    // common name of the first person's certificate
	operatorName = "oncall"   // of the key for emergencies
	settingsName = "director.yaml"
	folderMode   = 0o700
)

// Options say what to lay out.
type Options struct {
	Sites   []Site
	Members []string // sites that run a member of etcd, an odd number; default: all where they are 1, 3 or 5, else the first 3, or 1 of 2
	Witness []string // sites whose directors vote and answer nothing
	Out     string   // folder, made; it must not be there yet
	DNSPort int      // default 53
	Now     time.Time
}

// Notes says what people should know of this layout before they rely on it.
func (o Options) Notes() (out []string) {
	var bare []string
	for _, s := range o.Sites {
		if s.Host == s.Name {
			bare = append(bare, s.Name)
		}
	}
	if len(bare) > 0 {
		out = append(out, fmt.Sprintf("%s: no address was given, so the name is taken for that of a host, which all sites must resolve; else write %s=ADDRESS", strings.Join(bare, ", "), bare[0]))
	}
	switch len(o.Sites) {
	case 1:
		out = append(out, "one site: it decides alone, and while it is away nobody answers; give three")
	case 2:
		out = append(out, "two sites: a majority of two is both, so while one is away the other goes on answering what it last knew, and neither failover nor commands are had; give a third, which may be a small host in a third place that answers no DNS: add it to --sites, and name it in --witness")
	}
	if members, err := o.members(); err == nil && len(members) == 1 && len(o.Sites) > 2 {
		out = append(out, fmt.Sprintf("etcd has one member, at %s: while that is away no command is taken; name three sites in --members", members[0].Name))
	}
	return out
}

// Check refuses what could not run, before anything is made.
func (o Options) Check() error {
	if _, err := o.members(); err != nil {
		return err
	}
	if o.DNSPort < 0 || o.DNSPort > 65535 {
		return fmt.Errorf("DNS port %d is none", o.DNSPort)
	}
	for port, whose := range map[string]string{gossipPort: "gossip's", clientPort: "etcd's", peerPort: "etcd's", apiPort: "the API's"} {
		if strconv.Itoa(o.DNSPort) == port {
			return fmt.Errorf("port %s is %s at each site: give --dns-port another, such as 53 or 5300", port, whose)
		}
	}
	for i, name := range o.Witness {
		if !slices.ContainsFunc(o.Sites, func(s Site) bool { return s.Name == name }) {
			return fmt.Errorf("witness %q is none of the sites", name)
		}
		if slices.Contains(o.Witness[:i], name) {
			return fmt.Errorf("witness %q stands there twice", name)
		}
	}
	if len(o.Witness) > 0 && len(o.Witness) == len(o.Sites) {
		return errors.New("all sites are witnesses, which answer no DNS: leave at least one that does")
	}
	return nil
}

// ErrThere says that the folder to lay out into is there already.
var ErrThere = errors.New("is there already, and nothing is written over")

// Init lays a new fleet out: for each site a folder to copy, beside them the authorities and
// what people hold. All of it is there, or none.
func Init(o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	members, err := o.members()
	if err != nil {
		return err
	}
	if o.DNSPort == 0 {
		o.DNSPort = 53
	}
	return whole(o.Out, func(dir string) error { return o.write(dir, members) })
}

// portOf is where a site answers DNS; 0 = it does not.
func (o Options) portOf(s Site) int {
	if slices.Contains(o.Witness, s.Name) {
		return 0
	}
	return o.DNSPort
}

// members picks the sites that run etcd.
func (o Options) members() ([]Site, error) {
	if len(o.Members) == 0 {
		n := len(o.Sites)
		switch {
		case n == 2 || n == 4:
			n-- // an even number bears no more losses than one less
		case n > 5:
			n = 5
		}
		return o.Sites[:n], nil
	}
	var out []Site
	for _, name := range o.Members {
		found := false
		for _, s := range o.Sites {
			if s.Name == name {
				out, found = append(out, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("member %q of etcd is none of the sites", name)
		}
	}
	if len(out)%2 == 0 {
		return nil, fmt.Errorf("%d members of etcd bear no more losses than %d: give an odd number", len(out), len(out)-1)
	}
	return out, nil
}

// whole makes a folder whole, or not at all: under a name beside it first.
func whole(out string, write func(dir string) error) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s %w: name another folder, or take this one away", out, ErrThere)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(filepath.Clean(out))
	dir, err := os.MkdirTemp(parent, ".fleet-")
	if err != nil {
		return fmt.Errorf("making %s: %w", out, err)
	}
	if err := write(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := os.Rename(dir, out); err != nil {
		return errors.Join(fmt.Errorf("making %s: %w", out, err), os.RemoveAll(dir))
	}
	if err := (fsys.OS{}).SyncDir(parent); err != nil {
		return fmt.Errorf("making %s: %w", out, err)
	}
	return nil
}

func (o Options) write(dir string, members []Site) error {
	etcd, err := NewAuthority("divert etcd authority", o.Now)
	if err != nil {
		return err
	}
	api, err := NewAuthority("divert API authority", o.Now)
	if err != nil {
		return err
	}
	secret, token := make([]byte, 32), make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return fmt.Errorf("drawing the gossip key: %w", err)
	}
	if _, err := rand.Read(token); err != nil {
		return fmt.Errorf("drawing the token of etcd: %w", err)
	}
	var entries []entry
	for _, s := range o.Sites {
		key, err := gossip.MakeIdentity(folder(dir, s.Name, "data"), s.Name)
		if err != nil {
			return err
		}
		entries = append(entries, entry{site: s, key: spec.FormatKey(key)})
	}
	for _, s := range o.Sites {
		w := writer{dir: filepath.Join(dir, s.Name)}
		w.text("gossip.key", base64.StdEncoding.EncodeToString(secret)+"\n")
		w.text(settingsName, settings(s, o.Sites, members, layout{token: hex.EncodeToString(token), port: o.portOf(s), begins: true, crl: true}))
		w.text(filepath.Join("spec.d", "fleet.yaml"), roster(entries))
		w.certificates(s, slices.Contains(members, s), etcd, api, o.Now)
		if w.err != nil {
			return w.err
		}
	}
	for _, list := range lists {
		der, err := map[string]*Authority{"etcd-ca": etcd, "api-ca": api}[list.authority].crl(nil, o.Now)
		if err != nil {
			return err
		}
		w := writer{dir: filepath.Join(dir, authorities)}
		w.bytes(list.authority+".crl", der)
		for _, s := range o.Sites {
			w.dir = filepath.Join(dir, s.Name)
			w.bytes(list.file, der)
		}
		if w.err != nil {
			return w.err
		}
	}
	return o.people(dir, etcd, api)
}

// people writes what no director has: the authorities, and what people hold.
func (o Options) people(dir string, etcd, api *Authority) error {
	w := writer{dir: filepath.Join(dir, authorities)}
	for name, a := range map[string]*Authority{"etcd-ca": etcd, "api-ca": api} {
		pair, err := a.pem()
		w.pair(name, pair, err)
	}
	w.text("README", "The keys of this fleet's two authorities. Whoever has them can make himself a director's\nstore, or any person to the API. Keep this folder off all directors, where secrets are\nbacked up; `divert fleet join` and `divert fleet renew` need it.\n")
	if w.err != nil {
		return w.err
	}
	w = writer{dir: filepath.Join(dir, operators)}
	pair, err := api.Issue(adminName, UseClient, nil, o.Now)
	if err != nil {
		return err
	}
	w.bytes(adminName+".pem", append(pair.Cert, pair.Key...)) // one file, which --cert alone takes
	w.bytes("api-ca.crt", encodeCert(api.Cert.Raw))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making the operator's key: %w", err)
	}
	raw, err := encodeKey(key)
	if err != nil {
		return err
	}
	w.bytes(operatorName+".key", raw)
	return w.err
}

// writer writes the files of a folder, each for its owner alone, until one fails.
type writer struct {
	dir string
	err error
}

func (w *writer) text(name, text string) { w.bytes(name, []byte(text)) }

func (w *writer) pair(name string, p Pair, err error) {
	if w.err == nil {
		w.err = err
	}
	w.bytes(name+".crt", p.Cert)
	w.bytes(name+".key", p.Key)
}

func (w *writer) bytes(name string, content []byte) {
	if w.err != nil {
		return
	}
	path := filepath.Join(w.dir, name)
	if w.err = os.MkdirAll(filepath.Dir(path), folderMode); w.err == nil {
		w.err = fsys.Folder{FS: fsys.OS{}, Dir: w.dir}.Replace(name, content)
	}
}

// certificates writes those of one site: for the API, for etcd, and for its director as a
// client of etcd. Two authorities: who may ask the API something must not reach the store.
func (w *writer) certificates(s Site, member bool, etcd, api *Authority, now time.Time) {
	if member {
		pair, err := etcd.Issue(s.Name, UsePeer, []string{s.Host}, now)
		w.pair("etcd", pair, err)
	}
	pair, err := etcd.Issue("director "+s.Name, UseClient, nil, now)
	w.pair("etcd-client", pair, err)
	pair, err = api.Issue(s.Name, UseServer, []string{s.Host}, now)
	w.pair("api", pair, err)
	w.bytes("etcd-ca.crt", encodeCert(etcd.Cert.Raw))
	w.bytes("api-ca.crt", encodeCert(api.Cert.Raw))
}

func folder(parts ...string) fsys.Folder {
	dir := filepath.Join(parts...)
	_ = os.MkdirAll(dir, folderMode) // what cannot be made is found out by the first file in it
	return fsys.Folder{FS: fsys.OS{}, Dir: dir}
}

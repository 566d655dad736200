package spec

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What a director uses where its settings say nothing.
const (
	DefaultDNSPort      = "5300"
	DefaultGossipPort   = "7946"
	defaultGossipListen = "127.0.0.1:" + DefaultGossipPort
	defaultAPIListen    = "127.0.0.1:8053"
	rootDataDir         = "/var/lib/divert"
	maxSettings         = 1 << 20
	// What is told changes seldom: a week of it has some megabytes.
	defaultHistory     = 7 * 24 * time.Hour
	defaultHistorySize = 64 << 20
	minHistory         = time.Minute
	maxHistory         = 400 * 24 * time.Hour
)

// DefaultSettings are those of a director without a file: it answers on
// loopback and keeps its own store. Name is "" where the host name is no DNS
// name, and DataDir where there is no home folder: LoadSettings says so.
func DefaultSettings() Settings {
	var s Settings
	if host, err := os.Hostname(); err == nil {
		if host = strings.ToLower(host); isDotted(host) {
			s.Name, s.Site = host, host
		}
	}
	s.DataDir = rootDataDir
	if os.Geteuid() != 0 {
		s.DataDir = ""
		if home, err := os.UserHomeDir(); err == nil {
			s.DataDir = filepath.Join(home, ".local", "state", "divert")
		}
	}
	s.DNS.Listen = []string{"127.0.0.1:" + DefaultDNSPort, "[::1]:" + DefaultDNSPort}
	s.DNS.RateLimit = defaultRateLimit
	s.Gossip.Listen = defaultGossipListen
	s.Etcd.Embedded = true
	s.API.Listen = defaultAPIListen
	s.History.For, s.History.Size = defaultHistory, defaultHistorySize
	return s
}

// LoadSettings reads a director's own file, strictly; "" is DefaultSettings.
// Relative paths in it start at its folder. The settings are good only if not
// Failed.
func LoadSettings(path string) (Settings, []Problem) {
	if path == "" {
		s := DefaultSettings()
		r := &settingsReader{s: &s, d: &decoder{}}
		r.check(&value{kind: kindMap})
		return s, tidy(r.d.problems)
	}
	data, err := readRegular(path, maxSettings)
	if err != nil {
		message := err.Error()
		if errors.Is(err, os.ErrNotExist) {
			message = "is not there"
		}
		return DefaultSettings(), []Problem{{File: path, Message: message, Remedy: "name the settings file, or none for the defaults"}}
	}
	return ParseSettings(path, data)
}

// ParseSettings reads settings as LoadSettings does from the file of that name.
func ParseSettings(name string, data []byte) (Settings, []Problem) {
	s := DefaultSettings()
	s.File = name
	r := &settingsReader{s: &s, d: &decoder{file: name, strict: true}, dir: filepath.Dir(name)}
	docs, problems := parseYAML(name, data)
	r.d.problems = problems
	root := &value{kind: kindMap, line: 1}
	switch {
	case len(docs) > 1:
		cursor{r.d, docs[1].root, ""}.fail("settings are one document", "take the line --- out")
	case len(docs) == 1:
		root = docs[0].root
	}
	if docs != nil || len(problems) == 0 {
		r.read(cursor{d: r.d, v: root})
	}
	return s, tidy(r.d.problems)
}

// settingsReader fills in one Settings.
type settingsReader struct {
	s   *Settings
	d   *decoder
	dir string
}

func (r *settingsReader) read(c cursor) {
	s := r.s
	if !c.object(fields{
		"name":    func(c cursor) { s.Name = c.dotted() },
		"site":    func(c cursor) { s.Site = c.word() },
		"dataDir": func(c cursor) { s.DataDir = r.path(c) },
		"dns":     r.dns,
		"gossip":  r.gossip,
		"etcd":    r.etcd,
		"api":     r.api,
		"geo": func(c cursor) {
			c.object(fields{"database": func(c cursor) { s.Geo.Database = r.path(c) }}, "database")
		},
		"probe":     r.probe,
		"resolvers": r.resolvers,
		"controls":  func(c cursor) { c.each(func(c cursor) { s.Controls = appendText(s.Controls, c.peer("")) }) },
		"history":   r.history,
		"enrol": func(c cursor) {
			c.object(fields{"tokenFile": func(c cursor) { r.s.Enrol.TokenFile = r.path(c) }}, "tokenFile")
		},
		"audit": r.auditLog,
		"spec":  func(c cursor) { c.each(func(c cursor) { s.Spec = appendText(s.Spec, r.path(c)) }) },
	}) {
		return
	}
	if c.v.get("site") == nil {
		s.Site = s.Name
	}
	r.check(c.v)
}

func appendText(list []string, s string) []string {
	if s == "" {
		return list
	}
	return append(list, s)
}

// path reads a path, relative to the folder of the settings.
func (r *settingsReader) path(c cursor) string {
	s := c.text()
	if s == "" || filepath.IsAbs(s) {
		return s
	}
	if s == "~" || strings.HasPrefix(s, "~/") {
		c.fail(quote(s)+" begins with ~, which only a shell knows", "write the path in full")
		return ""
	}
	return filepath.Join(r.dir, s)
}

// listen reads address:port. Names are refused: what a director binds must not
// depend on DNS.
func (c cursor) listen() string {
	s := c.text()
	if s == "" {
		return ""
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		c.fail(quote(s)+" is no address and port", `write one such as "127.0.0.1:5300" or "[::]:53"`)
		return ""
	}
	return a.String()
}

// peer reads host:port, or host alone where there is a default port.
func (c cursor) peer(port string) string {
	s := c.text()
	if s == "" {
		return ""
	}
	host, gotPort, ok := splitHostPort(s, port)
	if ok && gotPort != "0" {
		if a, err := netip.ParseAddr(host); err == nil && (a.IsUnspecified() || a.IsMulticast()) {
			c.fail(quote(s)+" is no address that one can connect to", "write that of the host itself")
			return ""
		} else if err == nil {
			return net.JoinHostPort(a.String(), gotPort)
		}
		if name, wrong := parseHost(host); wrong == "" {
			return name + ":" + gotPort
		}
	}
	c.fail(quote(s)+" is no host and port", `write one such as "d2.example.net:7946" or "203.0.113.5:7946"`)
	return ""
}

func (r *settingsReader) gossip(c cursor) {
	g := &r.s.Gossip
	c.object(fields{
		"listen":    func(c cursor) { g.Listen = c.listen() },
		"advertise": func(c cursor) { g.Advertise = c.peer(DefaultGossipPort) },
		"join": func(c cursor) {
			c.each(func(c cursor) { g.Join = appendText(g.Join, c.peer(DefaultGossipPort)) })
		},
		"keyFile": func(c cursor) { g.KeyFile = r.path(c) },
	})
}

func (r *settingsReader) probe(c cursor) {
	p := &r.s.Probe
	c.object(fields{
		"source": func(c cursor) { p.Source, _ = c.address() },
		"allow": func(c cursor) {
			c.each(func(c cursor) {
				if prefix, ok := c.prefix(); ok {
					p.Allow = append(p.Allow, prefix)
				}
			})
		},
		"exec": func(c cursor) {
			c.each(func(c cursor) { p.Exec = appendText(p.Exec, c.program()) })
		},
		"secrets":     func(c cursor) { p.Secrets = r.path(c) },
		"kubeconfigs": func(c cursor) { p.Kubeconfigs = r.path(c) },
	})
}

// history reads for how long, and in how much room, a director keeps what it told.
func (r *settingsReader) history(c cursor) {
	h := &r.s.History
	c.object(fields{
		"for": func(c cursor) {
			if h.For = c.duration(0, maxHistory); h.For > 0 && h.For < minHistory {
				c.fail(c.v.shown()+" is out of range", "write 0 to keep none, or "+FormatDuration(minHistory)+" to "+FormatDuration(maxHistory))
			}
		},
		"size": func(c cursor) { h.Size = c.size(1<<20, 64<<30) },
	})
}

// check checks the settings against each other; v is what was written.
func (r *settingsReader) check(v *value) {
	s := r.s
	fail := func(path, message, remedy string) {
		for _, p := range r.d.problems {
			if within(p.Path, path) || within(path, p.Path) {
				return
			}
		}
		cursor{r.d, v, path}.failAt(v.lineOf(path), message, remedy)
	}
	if s.Name == "" {
		fail("name", "there is none, and the host name is no DNS name", "add name: and the director's name in the roster")
	}
	if s.DataDir == "" {
		fail("dataDir", "there is none, and no home folder to put it in", "add dataDir: and a folder that lasts")
	}
	if len(s.Gossip.Join) > 0 && s.Etcd.Embedded {
		fail("gossip.join", "needs etcd endpoints: each director would keep a plan of its own",
			"add etcd: {endpoints: [...]} and run `divert etcd`, or an etcd, for all directors")
	}
	if s.Gossip.KeyFile == "" {
		for _, at := range []struct{ path, addr string }{{"gossip.listen", s.Gossip.Listen}, {"gossip.advertise", s.Gossip.Advertise}} {
			if at.addr != "" && !isLoopback(at.addr) {
				fail(at.path, at.addr+" is not loopback, and gossip off loopback needs a key", "add gossip: {keyFile: …}, the same file at each director")
				break
			}
		}
	}
	r.checkAPI(fail)
	r.checkStreams(fail)
	r.checkResolvers(fail)
	r.checkEtcd(fail)
	r.checkPorts(fail)
}

func isLoopback(hostPort string) bool {
	a, err := netip.ParseAddrPort(hostPort)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

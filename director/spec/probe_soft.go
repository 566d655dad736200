package spec

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultSoftInterval = 10 * time.Second
	defaultSoftTimeout  = 3 * time.Second
	leastSoftInterval   = time.Second // they ask what others pay for, and nothing that they say is urgent

	defaultMin = 50 // per cent, of addresses and nodes that are ready

	maxQuery = 4096
	maxFor   = 24 * time.Hour
)

// clusterWord stands for the name of the endpoint's cluster. Such a name is a DNS
// label, so that it means nothing else in a URL or a query.
const clusterWord = "$cluster"

// Soft tells whether the probe asks about the site behind the address: it makes an
// endpoint degraded, never failed.
func (p *Probe) Soft() bool { return p.Readiness != nil || p.Kube != nil || p.Prometheus != nil }

// Probed tells whether a probe of the service asks whether it is up.
func (g *GlobalService) Probed() bool {
	return slices.ContainsFunc(g.Probes, func(p Probe) bool { return !p.Soft() })
}

// soften gives a soft probe its defaults, and refuses what it cannot have.
func (p *Probe) soften(c cursor) {
	p.Fast, p.Weight = 0, 0
	for _, key := range []struct{ name, why, remedy string }{
		{"fast", "is of what goes to the address itself, and this probe asks elsewhere", "leave it out"},
		{"weight", "is of probes that an address must pass, and this one degrades by itself", "leave it out"},
	} {
		if v := c.v.get(key.name); v != nil {
			cursor{c.d, v, child(c.path, key.name)}.fail(key.why, key.remedy)
		}
	}
	switch v := c.v.get("interval"); {
	case v == nil:
		p.Interval = defaultSoftInterval
	case p.Interval < leastSoftInterval:
		cursor{c.d, v, child(c.path, "interval")}.fail(FormatDuration(p.Interval)+" is too often for a probe that asks elsewhere", "write "+FormatDuration(leastSoftInterval)+" or more")
	}
	if c.v.get("timeout") == nil {
		p.Timeout = min(defaultSoftTimeout, p.Interval)
	}
}

func readReadiness(c cursor) *ReadinessProbe {
	r := &ReadinessProbe{Min: defaultMin}
	c.object(fields{
		"namespace": func(c cursor) { r.Namespace = c.label() },
		"service": func(c cursor) {
			if r.Service = "*"; c.v.kind != kindString || c.v.text != "*" {
				r.Service = c.label()
			}
		},
		"min":      func(c cursor) { r.Min = c.percent(1) },
		"minReady": func(c cursor) { r.MinReady = int(c.integer(1, 1_000_000)) },
	})
	return r
}

// complete fills in what the i-th probe takes from the service.
func (r *ReadinessProbe) complete(spec cursor, i int, service string) {
	namespace, name, namespaced := strings.Cut(service, "/")
	if !namespaced {
		namespace, name = "", service
	}
	path := child(item(child(spec.path, "probes"), i), "readiness")
	written := spec.v.get("probes").list[i].get("readiness")
	if r.Namespace == "" {
		r.Namespace = namespace
	}
	if r.Service == "" && isLabel(name, false) {
		r.Service = name
	}
	for _, key := range []struct{ name, value string }{{"namespace", r.Namespace}, {"service", r.Service}} {
		if key.value == "" && written.get(key.name) == nil { // else it was complained of
			cursor{spec.d, written, child(path, key.name)}.fail("is missing, and the service's name does not say it", "add it: where the endpoints' Pods are in each cluster")
		}
	}
}

func (r *ReadinessProbe) port() uint16 { return 0 }

// Definition is the canonical text of what is asked.
func (r *ReadinessProbe) Definition() string {
	return fmt.Sprintf("readiness namespace=%s service=%s min=%d minReady=%d", r.Namespace, r.Service, r.Min, r.MinReady)
}

func (r *ReadinessProbe) String() string {
	return fmt.Sprintf("readiness of %s/%s", r.Namespace, r.Service)
}

func readKube(c cursor) *KubeProbe {
	k := &KubeProbe{MinNodesReady: defaultMin}
	c.object(fields{
		"minNodesReady": func(c cursor) { k.MinNodesReady = c.percent(1) },
		"selector":      func(c cursor) { k.Selector = readSelector(c) },
	})
	return k
}

// readSelector reads labels and gives them in the form that Kubernetes asks with.
func readSelector(c cursor) string {
	var terms []string
	for name, value := range readLabels(c) {
		if name == "" || strings.Trim(name, labelLetters+"/") != "" || strings.Trim(value, labelLetters) != "" {
			c.fail(quote(name+": "+value)+" is no label of Kubernetes", "write one such as node-role.kubernetes.io/worker: \"\"")
			return ""
		}
		terms = append(terms, name+"="+value)
	}
	slices.Sort(terms)
	return strings.Join(terms, ",")
}

const labelLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func (k *KubeProbe) port() uint16 { return 0 }

// Definition is the canonical text of what is asked.
func (k *KubeProbe) Definition() string {
	return fmt.Sprintf("nodes selector=%q min=%d", k.Selector, k.MinNodesReady)
}

func (k *KubeProbe) String() string {
	if k.Selector != "" {
		return "nodes " + k.Selector
	}
	return "nodes"
}

func readPrometheus(c cursor) *PrometheusProbe {
	p := &PrometheusProbe{}
	bound := func(to **float64) func(cursor) {
		return func(c cursor) {
			f := c.number(-1e300, 1e300)
			*to = &f
		}
	}
	keys := p.source()
	keys["above"], keys["below"] = bound(&p.Above), bound(&p.Below)
	keys["for"] = func(c cursor) { p.For = c.duration(0, maxFor) }
	if !c.object(keys, "url", "query") {
		return p
	}
	if p.Above == nil && p.Below == nil {
		c.fail("has neither above nor below, so that nothing it hears is bad", "add one, such as above: 0.05")
	}
	if p.Above != nil && p.Below != nil && *p.Above < *p.Below {
		c.fail("leaves no number that is good: all are below the one bound or above the other", "make above the greater")
	}
	p.checkPlain(c)
	return p
}

// source reads where the number is and how it is asked for.
func (p *PrometheusProbe) source() fields {
	secret := func(to *string) func(cursor) {
		return func(c cursor) { *to = c.secret() }
	}
	return fields{
		"url": func(c cursor) { p.URL = readPrometheusURL(c) },
		"query": func(c cursor) {
			if p.Query = c.text(); len(p.Query) > maxQuery {
				c.fail("is longer than 4096 octets", "make it a recording rule, and ask for that")
			}
		},
		"bearer": secret(&p.Bearer),
		"tls": func(c cursor) {
			t := &p.TLS
			if c.object(fields{"ca": secret(&t.CA), "cert": secret(&t.Cert), "key": secret(&t.Key), "serverName": func(c cursor) { t.ServerName = c.host() }}) &&
				(c.v.get("cert") == nil) != (c.v.get("key") == nil) {
				c.fail("has only one of cert and key", "name both, or neither")
			}
		},
	}
}

// checkPlain refuses what would be shown on the way.
func (p *PrometheusProbe) checkPlain(c cursor) {
	if plain := strings.HasPrefix(p.URL, "http:"); plain && (p.Bearer != "" || c.v.get("tls") != nil) {
		cursor{c.d, c.v.get("url"), child(c.path, "url")}.fail("is http, which shows a token to everybody on the way, and has no TLS", "write https://")
	}
}

// readLoad reads who says how busy an endpoint is.
func readLoad(c cursor) *PrometheusProbe {
	var p *PrometheusProbe
	c.object(fields{"prometheus": func(c cursor) {
		p = &PrometheusProbe{}
		if c.object(p.source(), "url", "query") {
			p.checkPlain(c)
		}
	}}, "prometheus")
	return p
}

func readPrometheusURL(c cursor) string {
	s := c.text()
	if s == "" {
		return ""
	}
	u, err := url.Parse(strings.ReplaceAll(s, clusterWord, "cluster"))
	if err == nil && u.User != nil {
		// Not quoted: what is said of a spec stands in logs and in the output of pipelines.
		c.fail("holds a user or a password, which all who read the spec would see", "take it out, and name a secret: bearer:, or tls: {cert: …, key: …}")
		return ""
	}
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || !goodPort(u.Port()) || !isPrintable(s) {
		c.fail(quote(s)+" is no Prometheus", "write its scheme, host and port, such as https://prometheus.example.org:9090")
		return ""
	}
	return strings.TrimSuffix(s, "/")
}

// secret reads the name of a file in the folder that the director's settings give
// (probe.secrets). It is never a path: who writes a spec must not have a director send
// what else it can read.
func (c cursor) secret() string {
	s := c.text()
	if s != "" && !SecretName(s) {
		c.fail(quote(s)+" is no name of a secret", "write the name of a file in the folder that probe.secrets of the directors' settings names, without a path")
		return ""
	}
	return s
}

// SecretName tells whether a secret may have this name.
func SecretName(s string) bool {
	return isWord(s) && s[0] != '.'
}

func (p *PrometheusProbe) port() uint16 { return 0 }

// Definition is the canonical text of what is asked.
func (p *PrometheusProbe) Definition() string {
	var b strings.Builder
	fmt.Fprintf(&b, "prometheus url=%q query=%q", p.URL, p.Query)
	for _, bound := range []struct {
		name string
		at   *float64
	}{{"above", p.Above}, {"below", p.Below}} {
		if bound.at != nil {
			b.WriteString(" " + bound.name + "=" + number(*bound.at))
		}
	}
	// How it is reached and shown who asks is no part of what is asked, and may change.
	b.WriteString(" for=" + p.For.String())
	return b.String()
}

func (p *PrometheusProbe) String() string { return "prometheus " + abridged(p.Query) }

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// ForCluster gives the probe as it is asked for one cluster.
func (p *PrometheusProbe) ForCluster(cluster string) *PrometheusProbe {
	own := *p
	own.URL, own.Query = strings.ReplaceAll(p.URL, clusterWord, cluster), strings.ReplaceAll(p.Query, clusterWord, cluster)
	return &own
}

// checkSoft reports a soft probe that nobody can ask.
func (k *checker) checkSoft(o *object, g *GlobalService, i int) {
	p := &g.Probes[i]
	if p.Readiness == nil && p.Kube == nil {
		return
	}
	var without []string
	for _, e := range g.Endpoints {
		if c := k.set.Cluster(e.Cluster); c != nil && c.ControlPlane == nil {
			without = append(without, c.Name)
		}
	}
	path := item("spec.probes", i)
	switch {
	case len(without) == 0:
	case len(without) == len(g.Endpoints):
		k.fail(o, path, "asks the control planes of clusters, and none here names its own", "give the clusters a controlPlane: {kubeconfig: …}, or leave the probe out")
	default:
		k.warn(o, path, "asks the cluster's control plane, which is not named of "+strings.Join(without, ", ")+": nothing is known there", "give it a controlPlane: {kubeconfig: …}")
	}
}

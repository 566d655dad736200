package local

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/chaos/relay"
)

// What a director's links may lead to in Cut and Heal, beside a cluster.
const (
	Peers   = "peers"   // all other directors, and from them back
	Streams = "streams" // the same, TCP alone: heartbeats and votes pass, plans and certificates do not
	Etcd    = "etcd"    // the store
)

// streamsOf names the TCP half of a director's gossip address.
func streamsOf(name string) string { return name + "/tcp" }

// Cut silences the link from a director to a cluster ("d1", "fra") or to one
// part of it ("d1", "fra/api"), all links to a cluster (relay.Any, "fra"), a
// director's links to its peers and back ("d1", Peers), or to the store ("d1",
// Etcd).
func (f *Fleet) Cut(ctx context.Context, from, to string) error {
	return f.rule(ctx, "cut", from, to, f.wires.Cut)
}

// Heal undoes Cut.
func (f *Fleet) Heal(ctx context.Context, from, to string) error {
	return f.rule(ctx, "heal", from, to, func(from, to string) { f.wires.Heal(from, to) })
}

func (f *Fleet) rule(ctx context.Context, verb, from, to string, set func(from, to string)) error {
	cluster, part, _ := strings.Cut(to, "/")
	director := f.number(from)
	switch {
	case from != relay.Any && director == 0:
		return fmt.Errorf("%s is not a director of this fleet", from)
	case slices.ContainsFunc(f.opts.Clusters, func(s Site) bool { return s.Name == cluster }):
		source := from
		if director > 0 {
			source = f.Director(director).String() // a cluster knows its callers by address
		}
		return f.tell(ctx, verb, source, cluster, part)
	case to != Peers && to != Streams && to != Etcd:
		return fmt.Errorf("%s is not a cluster of this fleet", to)
	case director == 0:
		return fmt.Errorf("it takes a director to be cut from %s", to)
	}
	if to == Etcd {
		set(from, to)
		return nil
	}
	for i := 1; i <= f.opts.Directors+f.opts.Spares; i++ {
		if i == director {
			continue
		}
		set(from, streamsOf(Name(i)))
		set(Name(i), streamsOf(from))
		if to == Peers {
			set(from, Name(i))
			set(Name(i), from)
		}
	}
	return nil
}

// Apart puts so much of a way between any two directors, and between each and the store, in
// each direction. What directors ask of each other's DNS takes no time.
func (f *Fleet) Apart(delay time.Duration) {
	far := relay.Fault{Delay: delay}
	f.wires.Shape(relay.Any, Etcd, far)
	for i := 1; i <= f.opts.Directors+f.opts.Spares; i++ {
		f.wires.Shape(relay.Any, Name(i), far)
		f.wires.Shape(relay.Any, streamsOf(Name(i)), far)
	}
}

// number gives which director has a name; 0 = none.
func (f *Fleet) number(name string) int {
	for i := 1; i <= f.opts.Directors+f.opts.Spares; i++ {
		if Name(i) == name {
			return i
		}
	}
	return 0
}

// tell has a cluster cut or heal one of its own links.
func (f *Fleet) tell(ctx context.Context, verb, source, cluster, part string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	q := url.Values{"from": {source}, "part": {part}}
	target := "http://" + netip.AddrPortFrom(f.Cluster(cluster), rulePort).String() + "/" + verb + "?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no connection outlives the call
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("telling cluster %s: %w", cluster, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("cluster %s: %s %s: %s", cluster, verb, part, resp.Status)
	}
	return nil
}

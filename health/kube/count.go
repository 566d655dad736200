package kube

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Fraction is how many of some things are ready.
type Fraction struct{ Ready, All int }

func (f Fraction) String() string { return fmt.Sprintf("%d of %d", f.Ready, f.All) }

// Below tells whether less than so many per cent are ready. Of nothing, nothing is.
func (f Fraction) Below(percent int) bool {
	return f.All == 0 || f.Ready*100 < percent*f.All
}

// What is listed, page after page, and how much of it at most: beyond that it is said
// to be unknown, since a part would be a wrong fraction.
const (
	pageItems = 500
	maxPages  = 40
	maxPage   = 8 << 20
)

// Lists are read as they are now, never with resourceVersion=0: from its cache an API
// server would go on to tell what was, with its storage dead (KUBERNETES.md section 2).
func (c *client) pages(ctx context.Context, path string, query url.Values, accept string, page func() (into any, next func() string)) error {
	query.Set("limit", strconv.Itoa(pageItems))
	for range maxPages {
		into, next := page()
		if err := c.get(ctx, path, query, accept, maxPage, into); err != nil {
			return err
		}
		token := next()
		if token == "" {
			return nil
		}
		query.Set("continue", token)
	}
	return fmt.Errorf("more than %d pages", maxPages)
}

// table is a list as API servers print it (kubectl get): a node is a row of some words,
// where the object itself, with its images, would have 20 kB.
type table struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Continue string `json:"continue"`
	} `json:"metadata"`
	Columns []struct {
		Name string `json:"name"`
	} `json:"columnDefinitions"`
	Rows []struct {
		Cells []any `json:"cells"`
	} `json:"rows"`
}

const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// nodes counts those that say that they are ready. One that is cordoned is: what runs
// there goes on.
func (c *client) nodes(ctx context.Context, selector string) (Fraction, error) {
	var f Fraction
	query := url.Values{"includeObject": {"None"}}
	if selector != "" {
		query.Set("labelSelector", selector)
	}
	status, strange := -1, false
	err := c.pages(ctx, "api/v1/nodes", query, asTable, func() (any, func() string) {
		t := &table{}
		return t, func() string {
			for i, column := range t.Columns { // of the first page alone, in some versions
				if column.Name == "Status" {
					status = i
				}
			}
			for _, row := range t.Rows {
				if status < 0 || status >= len(row.Cells) {
					strange = true
					return ""
				}
				word, _ := row.Cells[status].(string)
				word, _, _ = strings.Cut(word, ",") // Ready,SchedulingDisabled
				f.All++
				if word == "Ready" {
					f.Ready++
				}
			}
			strange = strange || t.Kind != "Table"
			return t.Metadata.Continue
		}
	})
	switch {
	case err != nil:
		return Fraction{}, fmt.Errorf("nodes cannot be listed: %w", err)
	case strange:
		return Fraction{}, errors.New("nodes cannot be listed: not in the form that was asked for")
	case f.All == 0:
		return Fraction{}, errors.New("no node of that kind")
	}
	return f, nil
}

// slices is a list of discovery.k8s.io/v1 EndpointSlices, as far as it is read.
type slicesList struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Continue string `json:"continue"`
	} `json:"metadata"`
	Items []struct {
		AddressType string `json:"addressType"`
		Endpoints   []struct {
			Addresses  []string `json:"addresses"`
			Conditions struct {
				Ready       *bool `json:"ready"`
				Terminating *bool `json:"terminating"`
			} `json:"conditions"`
		} `json:"endpoints"`
	} `json:"items"`
}

// ready counts the addresses behind a Service, or behind all of a namespace. Those that
// are on their way out are not counted: in a roll-out each old Pod would else stand for
// one that is missing. `ready` left out means ready, by the API's word.
func (c *client) ready(ctx context.Context, namespace, service string) (Fraction, error) {
	query := url.Values{}
	if service != "*" {
		query.Set("labelSelector", "kubernetes.io/service-name="+service)
	}
	type key struct{ kind, address string }
	ready := map[key]bool{}
	found, strange := false, false
	err := c.pages(ctx, "apis/discovery.k8s.io/v1/namespaces/"+url.PathEscape(namespace)+"/endpointslices", query, plainJSON, func() (any, func() string) {
		l := &slicesList{}
		return l, func() string {
			strange = strange || l.Kind != "EndpointSliceList"
			for i := range l.Items {
				found = true
				for _, e := range l.Items[i].Endpoints {
					if len(e.Addresses) == 0 || e.Conditions.Terminating != nil && *e.Conditions.Terminating {
						continue
					}
					// While a slice is split an address may stand in two: it is one.
					k := key{l.Items[i].AddressType, e.Addresses[0]}
					ready[k] = ready[k] || e.Conditions.Ready == nil || *e.Conditions.Ready
				}
			}
			return l.Metadata.Continue
		}
	})
	switch {
	case err != nil:
		return Fraction{}, fmt.Errorf("EndpointSlices cannot be listed: %w", err)
	case strange:
		return Fraction{}, errors.New("EndpointSlices cannot be listed: not in the form that was asked for")
	case !found: // a Service without Pods has an empty one
		return Fraction{}, fmt.Errorf("no EndpointSlice of %s/%s: is there such a Service?", namespace, service)
	}
	f := Fraction{All: len(ready)}
	for _, is := range ready {
		if is {
			f.Ready++
		}
	}
	return f, nil
}

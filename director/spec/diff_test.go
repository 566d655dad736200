package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	service := func(spec string) string {
		return "kind: GlobalService\nmetadata: {name: shop}\nspec: " + spec + "\n"
	}
	change := func(path, old, after string) Change {
		return Change{Kind: KindGlobalService, Name: "shop", Path: path, Old: old, New: after}
	}
	two := `{hosts: [a.example.org], endpoints: [{cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, addresses: [192.0.2.2]}]}`
	tests := []struct {
		name, old, new string
		want           []Change
	}{
		{"equal", service(two), "# another comment\n" + service(two), nil},
		{"a field", service(two), service(`{hosts: [a.example.org], ttl: 5s, endpoints: [{cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, weight: 5, addresses: [192.0.2.3]}]}`), []Change{
			change("spec.endpoints[1].addresses[0]", `"192.0.2.2"`, `"192.0.2.3"`),
			change("spec.endpoints[1].weight", "", "5"),
			change("spec.ttl", "", `"5s"`),
		}},
		{"one in front", service(two), service(`{hosts: [z.example.org, a.example.org], endpoints: [{cluster: ams, addresses: [192.0.2.9]}, {cluster: fra, addresses: [192.0.2.1]}, {cluster: nyc, addresses: [192.0.2.2]}]}`), []Change{
			change("spec.endpoints[0]", "", `{"addresses":["192.0.2.9"],"cluster":"ams"}`),
			change("spec.hosts[0]", "", `"z.example.org"`),
		}},
		{"one away", service(two), service(`{hosts: [a.example.org], endpoints: [{cluster: nyc, addresses: [192.0.2.2]}]}`), []Change{
			change("spec.endpoints[0]", `{"addresses":["192.0.2.1"],"cluster":"fra"}`, ""),
		}},
		{"other order", service(two), service(`{hosts: [a.example.org], endpoints: [{cluster: nyc, addresses: [192.0.2.2]}, {cluster: fra, addresses: [192.0.2.1]}]}`), []Change{
			change("spec.endpoints[0].addresses[0]", `"192.0.2.1"`, `"192.0.2.2"`),
			change("spec.endpoints[0].cluster", `"fra"`, `"nyc"`),
			change("spec.endpoints[1].addresses[0]", `"192.0.2.2"`, `"192.0.2.1"`),
			change("spec.endpoints[1].cluster", `"nyc"`, `"fra"`),
		}},
		{
			"resources come and go", "kind: Cluster\nmetadata: {name: b}\nspec: {}\n", "kind: Zone\nmetadata: {name: example.org}\nspec: {nameservers: [ns1.example.net]}\n---\nkind: Cluster\nmetadata: {name: a}\nspec: {}\n",
			[]Change{
				{Kind: KindCluster, Name: "a", New: `{"kind":"Cluster","metadata":{"name":"a"},"spec":{}}`},
				{Kind: KindCluster, Name: "b", Old: `{"kind":"Cluster","metadata":{"name":"b"},"spec":{}}`},
				{Kind: KindZone, Name: "example.org", New: `{"kind":"Zone","metadata":{"name":"example.org"},"spec":{"nameservers":["ns1.example.net"]}}`},
			},
		},
		{
			"lines of a zone", "kind: Zone\nmetadata: {name: example.org}\nspec: {nameservers: [ns1.example.net], records: \"a A 192.0.2.1\\nb A 192.0.2.2\\n\"}\n",
			"kind: Zone\nmetadata: {name: example.org}\nspec: {nameservers: [ns1.example.net], records: \"b A 192.0.2.2\\na A 192.0.2.3\\n\"}\n",
			[]Change{
				{Kind: KindZone, Name: "example.org", Path: "spec.records", Old: `"a A 192.0.2.1"`},
				{Kind: KindZone, Name: "example.org", Path: "spec.records", New: `"a A 192.0.2.3"`},
			},
		},
		{"a label with dots", "kind: Cluster\nmetadata: {name: a, labels: {example.org/x: \"1\"}}\nspec: {}\n", "kind: Cluster\nmetadata: {name: a}\nspec: {}\n", []Change{
			{Kind: KindCluster, Name: "a", Path: "metadata.labels", Old: `{"example.org/x":"1"}`},
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Diff(parsed(t, tc.old), parsed(t, tc.new))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// However much of a zone differs, what is listed is what a person reads.
func TestDiffOfManyLines(t *testing.T) {
	zone := func(records string) []Raw {
		v := &value{kind: kindMap}
		v.set("records", &value{kind: kindString, text: records})
		root := &value{kind: kindMap}
		root.set("spec", v)
		return []Raw{{Kind: KindZone, Name: "example.org", JSON: root.canonical()}}
	}
	text := func(from, to, step int) string {
		var b strings.Builder
		for i := from; i != to; i += step {
			fmt.Fprintf(&b, "h%d A 192.0.2.1\n", i)
		}
		return b.String()
	}
	const n = 20_000
	tests := []struct {
		name, old, new string
		want           int
		last           Change
	}{
		{"one in the middle", text(0, n, 1), text(0, n/2, 1) + "x A 192.0.2.1\n" + text(n/2, n, 1), 1, Change{New: `"x A 192.0.2.1"`}},
		{"one at the end", text(0, n, 1), text(0, n, 1) + "x A 192.0.2.1", 1, Change{New: `"x A 192.0.2.1"`}},
		{"one gone", text(0, n, 1), text(1, n, 1), 1, Change{Old: `"h0 A 192.0.2.1"`}},
		{"a line's end", text(0, n, 1), strings.Replace(text(0, n, 1), "h7 A 192.0.2.1\n", "h7 A 192.0.2.1\r\n", 1), 1, Change{Old: `"(388892 octets)"`, New: `"(388894 octets)"`}},
		{"all", text(0, n, 1), text(n, 2*n, 1), 2 * (maxLines + 1), Change{New: `"(19000 more lines)"`}},
		{"the order", text(0, n, 1), text(n-1, -1, -1), 1, Change{Old: `"(388892 octets)"`, New: `"(388892 octets)"`}},
	}
	for _, tc := range tests {
		got := Diff(zone(tc.old), zone(tc.new))
		tc.last.Kind, tc.last.Name, tc.last.Path = KindZone, "example.org", "spec.records"
		if len(got) != tc.want || got[len(got)-1] != tc.last {
			t.Errorf("%s: got %d changes, the last %+v, want %d, %+v", tc.name, len(got), got[len(got)-1], tc.want, tc.last)
		}
	}
}

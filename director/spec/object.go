package spec

import (
	"iter"
	"slices"
	"strings"
)

// object is one resource on its way from what was written to a Set.
type object struct {
	document
	labels    map[string]string
	cluster   *Cluster
	zone      *Zone
	service   *GlobalService
	fleet     *Fleet
	interlock *Interlock
	records   *value                    // zone text, nil for none
	text      zoneText                  // its outline
	broken    map[string]bool           // paths of what is wrong already
	holds     map[string]bool           // paths of what holds something wrong
	items     map[string]map[string]int // see itemPath
}

// kindNames are the kinds, in the order in which everything lists them.
func kindNames() []string {
	return []string{KindCluster, KindZone, KindGlobalService, KindInterlock, KindFleet}
}

// decodeObject reads one resource. It returns nil where its kind or name cannot
// be told; without a name all else in it is read, too, for what is wrong there.
func decodeObject(doc document, strict bool) (*object, []Problem) {
	d := &decoder{file: doc.file, strict: strict}
	c := cursor{d: d, v: doc.root}
	if !identify(c, &doc) {
		return nil, d.problems
	}
	identified := len(d.problems)
	d.object = doc.id()
	o := &object{document: doc, broken: map[string]bool{}, holds: map[string]bool{}, items: map[string]map[string]int{}, labels: map[string]string{}}
	read := map[string]func(cursor){
		KindCluster:       o.readCluster,
		KindZone:          o.readZone,
		KindGlobalService: o.readService,
		KindInterlock:     o.readInterlock,
		KindFleet:         o.readFleet,
	}[doc.raw.Kind]
	c.object(fields{
		"apiVersion": func(c cursor) {
			if v := c.text(); v != "" && v != APIVersion {
				c.fail(quote(v)+" is no version that this Divert knows", "write "+APIVersion)
			}
		},
		"kind":     func(cursor) {},
		"metadata": o.readMetadata,
		"spec":     read,
	})
	// What identify said of a name, readMetadata may say in other words.
	d.problems = slices.Concat(d.problems[:identified], slices.DeleteFunc(d.problems[identified:], func(p Problem) bool {
		return slices.ContainsFunc(d.problems[:identified], func(before Problem) bool { return p.Path == join(doc.id(), before.Path) })
	}))
	if o.cluster != nil {
		o.cluster.Labels = o.labels
	}
	if c.v.get("spec") == nil && doc.raw.Kind != KindFleet {
		cursor{d, c.v, "spec"}.fail("is missing", "add it")
	}
	if doc.raw.Name == "" {
		return nil, d.problems
	}
	if doc.raw.Kind == KindFleet && o.fleet == nil {
		o.fleet = defaultFleet()
		o.fleet.Name = doc.raw.Name
	}
	for _, p := range d.problems {
		path := strings.TrimPrefix(p.Path, doc.id()+" ")
		o.broken[path] = true
		for outer := range outers(path) {
			o.holds[outer] = true
		}
	}
	return o, d.problems
}

// identify finds out the kind, or returns false, and the name; that is "" where
// it is wrong.
func identify(c cursor, doc *document) bool {
	if !c.is(kindMap, "a resource with kind, metadata and spec") {
		return false
	}
	kindOf := c.v.get("kind")
	if kindOf == nil {
		c.fail("has no kind", "add one of "+strings.Join(kindNames(), ", "))
		return false
	}
	at := cursor{c.d, kindOf, "kind"}
	if !at.is(kindString, "text") {
		return false
	}
	known := false
	for _, k := range kindNames() {
		known = known || k == kindOf.text
	}
	if !known {
		remedy := "write one of " + strings.Join(kindNames(), ", ")
		if near := nearest(kindOf.text, kindNames()); near != "" {
			remedy = "did you mean " + near + "?"
		}
		at.fail(quote(kindOf.text)+" is no kind of resource", remedy)
		return false
	}
	doc.raw.Kind = kindOf.text
	metadata := c.v.get("metadata")
	if metadata == nil && doc.raw.Kind == KindFleet {
		doc.raw.Name = defaultFleetName
	} else {
		doc.raw.Name = identifyName(c, metadata, doc.raw.Kind)
	}
	return true
}

func identifyName(c cursor, metadata *value, kindOf string) string {
	if metadata == nil {
		cursor{c.d, c.v, "metadata.name"}.fail(kindOf+" has no name", "add metadata: {name: …}")
		return ""
	}
	at := cursor{c.d, metadata, "metadata"}
	if !at.is(kindMap, "a mapping with a name") {
		return ""
	}
	name := metadata.get("name")
	if name == nil {
		cursor{c.d, metadata, "metadata.name"}.fail(kindOf+" has no name", "add metadata: {name: …}")
		return ""
	}
	n := cursor{c.d, name, "metadata.name"}
	var out string
	switch kindOf {
	case KindZone:
		out = n.host()
	case KindCluster:
		out = n.label()
	default:
		out = n.dotted()
	}
	if ns := metadata.get("namespace"); ns != nil && kindOf == KindGlobalService {
		space := cursor{c.d, ns, "metadata.namespace"}.label()
		if space == "" || out == "" {
			return ""
		}
		return space + "/" + out
	}
	return out
}

func (o *object) readMetadata(c cursor) {
	known := fields{
		"name":        func(cursor) {},
		"labels":      func(c cursor) { o.labels = readLabels(c) },
		"annotations": func(c cursor) { readLabels(c) },
	}
	if o.raw.Kind == KindGlobalService {
		known["namespace"] = func(cursor) {}
	}
	c.object(known)
}

// readLabels reads a mapping of text to text.
func readLabels(c cursor) map[string]string {
	if !c.is(kindMap, "a mapping of text to text") {
		return nil
	}
	labels := make(map[string]string, len(c.v.entries))
	for _, e := range c.v.entries {
		at := cursor{c.d, e.value, child(c.path, e.key)}
		switch {
		case e.value.kind == kindBroken:
		case e.key == "" || len(e.key) > 317: // Kubernetes: prefix/name
			at.fail("is no label", "name it with 1 to 317 octets")
		case e.value.kind == kindNull:
			at.fail("has no value", `write "" for an empty one`)
		case at.is(kindString, "text"):
			labels[e.key] = e.value.text
		}
	}
	return labels
}

// isBroken reports whether a path, a part of it or what holds it is wrong
// already, so that nothing is said twice.
func (o *object) isBroken(path string) bool {
	if o.broken[path] || o.holds[path] {
		return true
	}
	for outer := range outers(path) {
		if o.broken[outer] {
			return true
		}
	}
	return false
}

// outers gives the paths of what holds a path, the innermost first.
func outers(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := len(path) - 1; i > 0; i-- {
			if (path[i] == '.' || path[i] == '[') && !yield(path[:i]) {
				return
			}
		}
	}
}

// within reports whether path is outer or below it.
func within(path, outer string) bool {
	rest, found := strings.CutPrefix(path, outer)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

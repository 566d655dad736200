package core

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// SourceFiles is the source that all `spec:` folders and `divert apply` are.
const SourceFiles = "files"

// Raws gives the resources of a document, without its tombstones, ordered by
// kind, then name.
func Raws(doc *plan.SpecDoc) []spec.Raw {
	var out []spec.Raw
	for _, o := range doc.GetObjects() {
		if !o.GetRemoved() {
			out = append(out, spec.Raw{Kind: o.GetKind(), Name: o.GetName(), JSON: o.GetJson()})
		}
	}
	sortRaws(out)
	return out
}

func sortRaws(raws []spec.Raw) {
	slices.SortStableFunc(raws, func(a, b spec.Raw) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}

func sortDoc(doc *plan.SpecDoc) {
	slices.SortFunc(doc.Objects, func(a, b *plan.Object) int {
		return cmp.Or(cmp.Compare(a.GetKind(), b.GetKind()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

func objectOf(doc *plan.SpecDoc, kind, name string) *plan.Object {
	for _, o := range doc.GetObjects() {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

// appliedBy gives the hash that a director's folder last brought for an object.
func appliedBy(o *plan.Object, director string) []byte {
	for _, a := range o.GetApplied() {
		if a.GetDirector() == director {
			return a.GetHash()
		}
	}
	return nil
}

func setApplied(o *plan.Object, director string, hash []byte) {
	for _, a := range o.Applied {
		if a.GetDirector() == director {
			a.Hash = hash
			return
		}
	}
	o.Applied = append(o.Applied, &plan.Applied{Director: director, Hash: hash})
	slices.SortFunc(o.Applied, func(a, b *plan.Applied) int { return cmp.Compare(a.GetDirector(), b.GetDirector()) })
}

// folderWish is what becomes of one resource of a folder.
type folderWish int

const (
	wishNothing folderWish = iota // as it was last applied, or gone on since
	wishRecord                    // equal to what is in force: only noted
	wishApply                     // changed by who keeps the folder
	wishPending                   // waits for a person
)

// wish judges one resource of a director's folder (S19). A folder's change is
// taken when the folder was in step with what was in force before; a folder that
// has missed a change in between, or that this fleet has never seen, may hold
// last month's state, and only shows its difference.
func wish(o *plan.Object, director string, newcomer bool, r spec.Raw) folderWish {
	hash := hashOf(r)
	switch {
	case o == nil && newcomer:
		return wishPending
	case o == nil:
		return wishApply
	}
	last := appliedBy(o, director)
	same := !o.GetRemoved() && bytes.Equal(o.GetJson(), r.JSON)
	switch {
	case same && bytes.Equal(last, hash):
		return wishNothing
	case same:
		return wishRecord
	case bytes.Equal(last, hash):
		return wishNothing
	case last == nil || o.GetRemoved() || o.GetSource() != SourceFiles:
		return wishPending
	case !bytes.Equal(last, hashOf(spec.Raw{JSON: o.GetJson()})):
		return wishPending
	default:
		return wishApply
	}
}

// newcomer tells whether a document has never taken anything from a director's
// folder: then everything that differs in it waits for a person. An empty
// document takes all.
func newcomer(doc *plan.SpecDoc, director string) bool {
	for _, o := range doc.GetObjects() {
		if appliedBy(o, director) != nil {
			return false
		}
	}
	return len(doc.GetObjects()) > 0
}

// Pending divides what a director's folder holds into what it may apply now
// (an Apply command with Folder set and exactly these objects), what is only to
// be noted included, and the differences that wait for a person. Both are empty
// when the folder has nothing new to say.
func Pending(doc *plan.SpecDoc, director string, raws []spec.Raw) (apply []spec.Raw, differs []spec.Change) {
	apply, waits := divide(doc, director, raws)
	apply, dangerous := holdBack(doc, apply)
	waits = append(waits, dangerous...)
	if len(waits) == 0 {
		return apply, nil
	}
	next := merge(doc, waits)
	return apply, spec.Diff(Raws(doc), Raws(next))
}

// divide sorts a folder's resources by what becomes of them. A new director's
// folder is noted as a whole or not at all: were only what it has in common with
// the spec noted, it would be known, and the rest be applied at the next look.
func divide(doc *plan.SpecDoc, director string, raws []spec.Raw) (apply, waits []spec.Raw) {
	fresh := newcomer(doc, director)
	for _, r := range raws {
		switch wish(objectOf(doc, r.Kind, r.Name), director, fresh, r) {
		case wishApply, wishRecord:
			apply = append(apply, r)
		case wishPending:
			waits = append(waits, r)
		}
	}
	if fresh && len(waits) > 0 {
		return nil, waits
	}
	return apply, waits
}

// merge gives a copy of a document with some resources put in.
func merge(doc *plan.SpecDoc, raws []spec.Raw) *plan.SpecDoc {
	out := cloneDoc(doc)
	for _, r := range raws {
		o := objectOf(out, r.Kind, r.Name)
		if o == nil {
			o = &plan.Object{Kind: r.Kind, Name: r.Name, Source: SourceFiles}
			out.Objects = append(out.Objects, o)
		}
		o.Json, o.Removed = r.JSON, false
	}
	sortDoc(out)
	return out
}

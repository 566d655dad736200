package core

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// wish encodes the command, and the objects of an apply: few of them, those that it
// changes, stand in the request (objects), more in a blob that it names.
func (w *work) wish() (wish, objects, blob []byte, err error) {
	c := w.c
	c.Objects, c.Bundle = nil, nil // of a policy the request names the blob
	if wish, err = json.Marshal(c); err != nil {
		return nil, nil, nil, fmt.Errorf("encoding the command: %w", err)
	}
	if c.Objects = w.c.Objects; !w.c.Prune { // all count, where what lacks goes
		c.Objects = slices.DeleteFunc(slices.Clone(c.Objects), func(r spec.Raw) bool { return sameObject(w.s.Doc, r) })
	}
	if len(c.Objects) > 0 {
		if objects, err = json.Marshal(c.Objects); err != nil {
			return nil, nil, nil, fmt.Errorf("encoding what is applied: %w", err)
		}
	}
	if len(wish)+len(objects) <= maxWish {
		return wish, objects, nil, nil
	}
	if len(objects) > 0 {
		if blob, err = w.objects(); err != nil {
			return nil, nil, nil, fmt.Errorf("encoding what is applied: %w", err)
		}
	}
	size, most := len(wish), maxWish
	if size <= most {
		size, most = len(blob), MaxWishes-w.held()
	}
	if size > most {
		return nil, nil, nil, &Refusal{
			Reason: fmt.Sprintf("this takes two persons (%s), and has %d KiB: what waits for the second may have %d KiB now", strings.Join(w.prev.TwoPersons, "; "), (size+1023)>>10, max(0, most)>>10),
			Remedy: "apply what is dangerous by itself, from a file of its own; the rest takes one person",
		}
	}
	return wish, nil, blob, nil
}

// objects encodes all that is applied, in its order: of what the spec has already the name
// alone.
func (w *work) objects() ([]byte, error) {
	all, have := &plan.SpecDoc{}, contents(w.s.Doc)
	for _, r := range w.c.Objects {
		o := &plan.Object{Kind: r.Kind, Name: r.Name}
		if octets := have[objectName{r.Kind, r.Name}]; len(octets) == 0 || !bytes.Equal(octets, r.JSON) {
			o.Json = r.JSON
		}
		all.Objects = append(all.Objects, o)
	}
	return proto.Marshal(all)
}

type objectName struct{ kind, name string }

// contents gives what a document says of each object that it has.
func contents(doc *plan.SpecDoc) map[objectName][]byte {
	out := make(map[objectName][]byte, len(doc.GetObjects()))
	for _, o := range doc.GetObjects() {
		if !o.GetRemoved() {
			out[objectName{o.GetKind(), o.GetName()}] = o.GetJson()
		}
	}
	return out
}

// held counts the octets of the specs in force and of what waits: blobs of a request have
// to find room beside them.
func (w *work) held() int {
	size := uint64(0)
	for _, ref := range w.s.Plan.Plan.Specs() {
		size += ref.GetSize()
	}
	for _, r := range w.s.Plan.Plan.GetRequests() {
		if r.Waits(w.s.Now) {
			size += r.GetBundle().GetSize()
		}
	}
	return int(min(size, MaxWishes))
}

func sameObject(doc *plan.SpecDoc, r spec.Raw) bool {
	return slices.ContainsFunc(doc.GetObjects(), func(o *plan.Object) bool {
		return o.GetKind() == r.Kind && o.GetName() == r.Name && !o.GetRemoved() && bytes.Equal(o.GetJson(), r.JSON)
	})
}

// wished decodes the command of a request.
func wished(r *plan.Request) (Command, error) {
	var c Command
	if err := json.Unmarshal(r.GetCommand(), &c); err != nil {
		return Command{}, fmt.Errorf("reading request %s: %w", r.GetId(), err)
	}
	if len(r.GetObjects()) > 0 {
		if err := json.Unmarshal(r.GetObjects(), &c.Objects); err != nil {
			return Command{}, fmt.Errorf("reading what request %s applies: %w", r.GetId(), err)
		}
	}
	switch c.Verb {
	case Approve, Deny, Acknowledge, Settle, RecoverStore, Restore, Expire, Step, Spill, DirectorJoin, DirectorEnrol, KeyStep, SecretAdvance:
		return Command{}, fmt.Errorf("request %s holds a command that nobody asks a second person for: %q", r.GetId(), c.Verb)
	}
	c.ID, c.Author, c.DryRun, c.BreakGlass, c.Folder = r.GetId(), r.GetAuthor(), false, false, ""
	if c.Verb != Apply && c.Verb != PolicyAdopt && !bytes.Equal(c.Fingerprint(), r.GetFingerprint()) {
		return Command{}, anotherWish(r)
	}
	return c, nil
}

func anotherWish(r *plan.Request) error {
	return fmt.Errorf("request %s holds another command than it was asked for", r.GetId())
}

// bundled gives a wish what the blob of its request holds: the policy that it would adopt,
// or what it applies.
func bundled(s State, r *plan.Request, wish Command) (Command, error) {
	switch {
	case wish.Verb == Apply && r.GetBundle() != nil:
		return applies(s, r, wish)
	case wish.Verb != PolicyAdopt:
		return wish, nil
	case len(s.Bundle) == 0:
		return Command{}, fmt.Errorf("the policy of request %s is not at hand", r.GetId())
	}
	wish.Bundle = s.Bundle
	if sum := plan.Sum(s.Bundle); !bytes.Equal(sum[:], r.GetSpec()) || !bytes.Equal(wish.Fingerprint(), r.GetFingerprint()) {
		return Command{}, anotherWish(r)
	}
	return wish, nil
}

// applies gives an apply its objects back: those that changed nothing from the spec. What
// was asked for is under the signature of who took it, by the command's fingerprint.
func applies(s State, r *plan.Request, wish Command) (Command, error) {
	if len(s.Bundle) == 0 {
		return Command{}, fmt.Errorf("what request %s applies is not at hand", r.GetId())
	}
	all, err := plan.ReadDoc(s.Bundle)
	if err != nil {
		return Command{}, fmt.Errorf("what request %s applies: %w", r.GetId(), err)
	}
	have := contents(s.Doc)
	wish.Objects = make([]spec.Raw, 0, len(all.GetObjects()))
	for _, o := range all.GetObjects() {
		octets := o.GetJson()
		if len(octets) == 0 {
			octets = have[objectName{o.GetKind(), o.GetName()}]
		}
		wish.Objects = append(wish.Objects, spec.Raw{Kind: o.GetKind(), Name: o.GetName(), JSON: octets})
	}
	if !bytes.Equal(wish.Fingerprint(), r.GetFingerprint()) {
		return Command{}, fmt.Errorf("what request %s applies is another than was asked for, or the spec has changed since", r.GetId())
	}
	return wish, nil
}

// brings hashes the document, or the policy, that a change brings; nil where it brings none.
func (w *work) brings() ([]byte, error) {
	if w.bundle != nil {
		sum := plan.Sum(w.bundle)
		return sum[:], nil
	}
	doc := w.doc
	if doc == nil {
		doc = w.trial
	}
	if doc == nil {
		return nil, nil
	}
	octets, err := (proto.MarshalOptions{Deterministic: true}).Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encoding the spec: %w", err)
	}
	sum := sha256.Sum256(octets)
	return sum[:], nil
}

// effect hashes what a change does as its preview tells it: who loses clients and who gets
// them, how many sites are left, what of the spec changes, and which rules it passes.
// Loads, and numbers that differ from minute to minute, take no part.
func (w *work) effect(fingerprint []byte, why []string) ([]byte, error) {
	document, err := w.brings()
	if err != nil {
		return nil, err
	}
	effects := slices.Clone(w.prev.Effects)
	for i := range effects {
		effects[i].Changed = 0
	}
	octets, err := json.Marshal(struct {
		Fingerprint, Document []byte
		Effects               []Effect
		Changes               []spec.Change
		Steps                 []PaceStep
		Why                   []string
		Spite                 string
	}{fingerprint, document, effects, w.prev.Changes, w.prev.Steps, why, w.spite})
	if err != nil {
		return nil, fmt.Errorf("encoding what the change does: %w", err)
	}
	sum := sha256.Sum256(octets)
	return sum[:], nil
}

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

// wish encodes the command: the objects of an apply, those that it changes, apart.
func (w *work) wish() (wish, objects []byte, err error) {
	c := w.c
	c.Objects, c.Bundle = nil, nil // of a bundle the request names the blob
	if wish, err = json.Marshal(c); err != nil {
		return nil, nil, fmt.Errorf("encoding the command: %w", err)
	}
	if c.Objects = w.c.Objects; !w.c.Prune { // all count, where what lacks goes
		c.Objects = slices.DeleteFunc(slices.Clone(c.Objects), func(r spec.Raw) bool { return sameObject(w.s.Doc, r) })
	}
	if len(c.Objects) > 0 {
		if objects, err = json.Marshal(c.Objects); err != nil {
			return nil, nil, fmt.Errorf("encoding what is applied: %w", err)
		}
	}
	if size := len(wish) + len(objects); size > maxWish {
		return nil, nil, &Refusal{
			Reason: fmt.Sprintf("this takes two persons (%s), and has %d KiB: what waits for the second has %d KiB at most", strings.Join(w.prev.TwoPersons, "; "), (size+1023)>>10, maxWish>>10),
			Remedy: "apply what is dangerous by itself, from a file of its own; the rest takes one person",
		}
	}
	return wish, objects, nil
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

// bundled gives a wish the policy that it would adopt, from where the request's blob is.
func bundled(r *plan.Request, wish Command, bundle []byte) (Command, error) {
	if wish.Verb != PolicyAdopt {
		return wish, nil
	}
	if len(bundle) == 0 {
		return Command{}, fmt.Errorf("the policy of request %s is not at hand", r.GetId())
	}
	wish.Bundle = bundle
	if sum := plan.Sum(bundle); !bytes.Equal(sum[:], r.GetSpec()) || !bytes.Equal(wish.Fingerprint(), r.GetFingerprint()) {
		return Command{}, anotherWish(r)
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

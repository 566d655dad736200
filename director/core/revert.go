package core

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// revert makes the spec before this one the next: a new revision with the content of old.
// A rollout under way is taken back instead, which leaves the spec of all others as it is.
func (w *work) revert() error {
	if w.next.Soaking() != nil {
		return w.abort()
	}
	was, now := w.next.GetPrevious(), w.next.GetSpec()
	switch {
	case was == nil:
		return &Refusal{
			Reason: "there is nothing to go back to: no spec before this one is known",
			Remedy: "apply the files that you want, with --prune if they are the whole spec",
		}
	case !bytes.Equal(was.GetReplacedBy(), now.GetHash()):
		return &Refusal{
			Reason: fmt.Sprintf("what was before this spec is not known: an older divert has applied it, and the plan names only what was before revision %d", was.GetRevision()),
			Remedy: "apply the files that you want, with --prune if they are the whole spec",
		}
	case w.s.Previous == nil:
		return &Refusal{
			Reason: fmt.Sprintf("the spec from before revision %d is gone from the store", was.GetRevision()),
			Remedy: "apply the files that you want, with --prune if they are the whole spec",
		}
	}
	doc, removed := goneBack(w.s.Doc, w.s.Previous)
	if err := w.resolve(doc); err != nil {
		return err
	}
	if len(w.prev.Changes) == 0 {
		w.doc, w.set = nil, w.s.Spec
		w.noop, w.done = true, "the spec from before says what is in force already"
		return nil
	}
	// A person has said it, and all of it was in force before: what it removes is told,
	// and holds nothing up.
	w.prev.Warnings = append(w.prev.Warnings, losses(w.s.Spec, w.set)...)
	w.next.Rollout = nil // one that was stopped
	w.renew()
	w.tellApply(removed)
	w.done = fmt.Sprintf("reverted to the spec from before revision %d: %s", was.GetRevision(), w.done)
	w.what = w.done
	w.keepPrevious()
	return nil
}

// goneBack gives a document with the content of an older one. What folders have last
// brought stays noted: a folder that still holds what is taken back is as it was last seen,
// and does not bring it again (S19). What the older one lacks gets a tombstone for that.
func goneBack(doc, previous *plan.SpecDoc) (out *plan.SpecDoc, removed []string) {
	out = cloneDoc(doc)
	for _, o := range out.Objects {
		old := objectOf(previous, o.GetKind(), o.GetName())
		if old == nil || old.GetRemoved() {
			if !o.GetRemoved() {
				removed = append(removed, o.GetKind()+"/"+o.GetName())
			}
			o.Removed, o.Json = true, nil
			continue
		}
		o.Removed, o.Json, o.Source = false, old.GetJson(), old.GetSource()
	}
	for _, old := range previous.GetObjects() {
		if objectOf(out, old.GetKind(), old.GetName()) == nil {
			out.Objects = append(out.Objects, proto.CloneOf(old))
		}
	}
	sortDoc(out)
	return out, removed
}

// keepPrevious notes what the next spec takes the place of, if it says anything else: a
// folder's note that it has the same is nothing to go back from. The writer adds the hash
// of what took its place, which shows later that nobody has changed the spec without this.
func (w *work) keepPrevious() {
	was := w.s.Plan.Plan.GetSpec()
	switch old := w.next.GetPrevious(); {
	case len(w.prev.Changes) > 0:
		w.next.Previous = &plan.SpecRef{Hash: was.GetHash(), Size: was.GetSize(), Chunks: was.GetChunks(), Revision: w.next.GetRevision()}
	case !bytes.Equal(old.GetReplacedBy(), was.GetHash()):
		w.next.Previous = nil
	}
}

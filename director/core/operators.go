package core

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// maxOperators is the most that a plan lists: each may have its words kept.
const maxOperators = 8

// Operator is whom an operator-* command is about.
type Operator struct {
	Name string `json:"name"`
	Key  []byte `json:"key,omitempty"` // the public half
}

// addOperator lists the public half of a key that may drain while the store is away.
func (w *work) addOperator() error {
	o := w.c.Operator
	switch {
	case o == nil || !operatorName(o.Name):
		what := "no operator is named"
		if o != nil && o.Name != "" {
			what = fmt.Sprintf("%q is no name of an operator", o.Name)
		}
		return &Refusal{Reason: what, Remedy: fmt.Sprintf("give a name of 1 to %d letters, digits, dots, dashes and underscores", plan.MaxOperatorName)}
	case w.c.Reason == "":
		return &Refusal{Reason: "listing an operator needs a reason", Remedy: "give --reason, such as --reason \"on call\""}
	case len(o.Key) != ed25519.PublicKeySize:
		return &Refusal{Reason: fmt.Sprintf("the key of %s is not one of Ed25519: %d octets, not %d", o.Name, len(o.Key), ed25519.PublicKeySize), Remedy: "`divert keys operator new FILE` makes one and prints its public half"}
	}
	for _, have := range w.next.GetOperators() {
		same := bytes.Equal(have.GetKey(), o.Key)
		switch {
		case have.GetName() == o.Name && same:
			w.noop, w.done = true, fmt.Sprintf("operator %s is listed with this key since revision %d", o.Name, have.GetRevision())
			return nil
		case have.GetName() == o.Name:
			return &Refusal{Reason: fmt.Sprintf("operator %s is listed with another key", o.Name), Remedy: "divert keys operator remove " + o.Name + " first"}
		case same:
			return &Refusal{Reason: fmt.Sprintf("this key is that of operator %s", have.GetName()), Remedy: "each operator has one of its own, so that what was done can be told apart"}
		}
	}
	if d := w.next.Holder(o.Key); d != nil {
		return &Refusal{Reason: fmt.Sprintf("this key is that of director %s", d.GetName()), Remedy: "an operator's key is held by people and by no director"}
	}
	if len(w.next.GetOperators()) >= maxOperators {
		return &Refusal{Reason: fmt.Sprintf("there are %d operators, which is the most", maxOperators), Remedy: "remove one first"}
	}
	w.next.Operators = append(w.next.Operators, &plan.Operator{
		Name: o.Name, Key: slices.Clone(o.Key), Author: w.c.Who(), Reason: w.c.Reason, Since: timestamppb.New(w.s.Now), Revision: w.next.GetRevision(),
	})
	w.done = fmt.Sprintf("operator %s may drain while the store is away", o.Name)
	w.what = "list operator " + o.Name
	return nil
}

// removeOperator takes an operator out: whatever it has said in an emergency counts no
// more, on each director as it learns of it.
func (w *work) removeOperator() error {
	o := w.c.Operator
	switch {
	case o == nil || o.Name == "":
		return &Refusal{Reason: "no operator is named", Remedy: "`divert keys operator list` shows them"}
	case w.c.Reason == "":
		return &Refusal{Reason: "removing an operator needs a reason", Remedy: "give --reason, such as --reason \"left the team\""}
	}
	if w.next.Operator(o.Name) == nil {
		return &Refusal{Reason: fmt.Sprintf("there is no operator %q", o.Name), Remedy: "`divert keys operator list` shows them"}
	}
	w.next.Operators = slices.DeleteFunc(w.next.Operators, func(have *plan.Operator) bool { return have.GetName() == o.Name })
	w.done = fmt.Sprintf("operator %s is removed: none of its words counts any more", o.Name)
	w.what = "remove operator " + o.Name
	return nil
}

func operatorName(s string) bool {
	if s == "" || len(s) > plan.MaxOperatorName {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

// checkOperators holds a plan's operators against each other: two of one name or key could
// not be told apart.
func checkOperators(p *plan.Plan) error {
	names, keys := map[string]bool{}, map[string]bool{}
	for _, o := range p.GetOperators() {
		if key := string(o.GetKey()); !operatorName(o.GetName()) || len(key) != ed25519.PublicKeySize || names[o.GetName()] || keys[key] {
			return fmt.Errorf("operator %q has no name or key of its own", o.GetName())
		}
		names[o.GetName()], keys[string(o.GetKey())] = true, true
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// emergency holds the flags of what is said while the store is away.
type emergency struct {
	app     *app
	on      bool
	keyFile string // --operator-key, or DIVERT_OPERATOR_KEY
}

func (a *app) emergencyFlags(c *cobra.Command) *emergency {
	e := &emergency{app: a}
	c.Flags().BoolVar(&e.on, "emergency", false, "while etcd is away, signed by an operator's key")
	c.Flags().StringVar(&e.keyFile, "operator-key", a.env("DIVERT_OPERATOR_KEY"), "`FILE` of the operator's key, with --emergency (default: DIVERT_OPERATOR_KEY)")
	c.Flags().Lookup("operator-key").DefValue = ""
	return e
}

// alone refuses an operator's key without --emergency: who gives one means that, and must
// not get what waits for etcd. --key is a certificate's; where none is shown, and where
// the operator's is not named otherwise, it is the operator's, as it was before that had a
// flag of its own.
func (e *emergency) alone(c *cobra.Command) error {
	given := c.Flags().Changed("key") && (e.app.trust.Cert == "" || e.on && e.keyFile == "")
	switch {
	case !e.on && (given || c.Flags().Changed("operator-key")):
		return usage("an operator's key is for --emergency: add that, or leave the key out; a client's key stands beside its --cert")
	case given && c.Flags().Changed("operator-key"):
		return usage("--key without --cert is an operator's key, as --operator-key is: leave one of the two out")
	case given:
		e.keyFile, e.app.trust.Key = e.app.trust.Key, e.app.env("DIVERT_KEY")
	}
	return nil
}

// check reads the key, and refuses what an emergency cannot be.
func (e *emergency) check(c *cobra.Command, w *wish) (ed25519.PrivateKey, error) {
	for _, flag := range []string{"paced", "steps", "wait", "follow", "force", "confirm"} {
		if c.Flags().Changed(flag) {
			return nil, usage("--%s and --emergency: such a drain is whole and at once, and passes no rule", flag)
		}
	}
	switch lasting, err := c.Flags().GetDuration("for"); {
	case err == nil && lasting > plan.MaxEmergency:
		return nil, usage("--for %s: an emergency drain lasts %s at most; it goes on as an ordinary one when etcd is back", short(lasting), short(plan.MaxEmergency))
	case e.keyFile == "":
		return nil, &exit{code: exitUsage, err: errors.New("--emergency is signed by an operator's key, and none is given"), remedy: "add --operator-key FILE, or set DIVERT_OPERATOR_KEY"}
	case len(w.reason) > plan.MaxWordReason:
		return nil, usage("--reason has %d octets; with --emergency the most is %d", len(w.reason), plan.MaxWordReason)
	}
	return readOperatorKey(e.keyFile)
}

// operatorOf finds whose key it is.
func operatorOf(known api.Emergencies, key ed25519.PrivateKey) (api.Operator, error) {
	pub := key.Public().(ed25519.PublicKey)
	for _, o := range known.Operators {
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(o.Key, "ed25519:")); err == nil && bytes.Equal(raw, pub) {
			return o, nil
		}
	}
	return api.Operator{}, &exit{
		code: exitRefused, err: errors.New("the plan lists no operator with this key"),
		remedy: "`divert keys operator list` shows who is; one can be added only while etcd is there",
	}
}

// filling makes a word of its scope, by what the director knows. More: the scope needs
// another one after it.
type filling func(known api.Emergencies, word *plan.Emergency) (intro string, more bool, err error)

// say signs and sends the words of each scope; it gives the worst exit code.
func (e *emergency) say(c *cobra.Command, w *wish, key ed25519.PrivateKey, scopes []string, fill filling) error {
	a := w.app
	client, err := a.changer()
	if err != nil {
		return err
	}
	var worst error
	for _, scope := range scopes {
		for more := true; more && c.Context().Err() == nil; {
			more, err = e.sayOne(c.Context(), client, w, key, scope, fill)
			worst = a.worse(c, worst, err)
		}
	}
	return worst
}

func (e *emergency) sayOne(ctx context.Context, client *api.Client, w *wish, key ed25519.PrivateKey, scope string, fill filling) (more bool, err error) {
	a := w.app
	known, err := client.Emergencies(ctx)
	if err != nil {
		return false, err
	}
	operator, err := operatorOf(known, key)
	if err != nil {
		return false, err
	}
	if i := slices.IndexFunc(known.Drains, func(o api.Override) bool { return o.ID == w.id }); i >= 0 && !w.dryRun {
		return false, (&telling{app: a}).again(known.Drains[i], scope)
	}
	command := w.command("", scope)
	said := &plan.Emergency{
		Id: command.ID, Operator: operator.Name, Enrolled: operator.Revision, Counter: known.Counter + 1, Scope: scope,
		Author: command.Author, Reason: w.reason, Said: timestamppb.New(a.now()), Revision: known.Revision,
	}
	intro, more, err := fill(known, said)
	if err != nil {
		return false, err
	}
	word, err := plan.SignWord(known.Fleet, said, key)
	if err != nil {
		return false, err
	}
	if w.dryRun {
		intro = "dry run: " + intro
	}
	t := &telling{app: a, intro: intro}
	wait := a.patience(fmt.Sprintf("waiting for all directors, for %s in all (--timeout); Ctrl-C ends the wait, and not what is said", short(w.timeout)))
	o, err := client.Say(ctx, said.GetId(), api.OperatorWord{Word: word.Raw, DryRun: w.dryRun}, w.timeout, t.progress)
	wait()
	if err != nil {
		return false, err
	}
	return more, t.said(o, w.dryRun)
}

// again tells what became of a drain that was said before under the same ID: a word cannot
// be said twice, as each has a counter of its own.
func (t *telling) again(o api.Override, scope string) error {
	if o.Scope != scope {
		return &exit{code: exitRefused, err: fmt.Errorf("--id %s is that of the emergency drain of %s", o.ID, o.Scope), remedy: "give another one, or none"}
	}
	if o.Emergency.State != "in force" {
		return &exit{
			code: exitRefused, err: fmt.Errorf("the emergency drain %s of %s was said before, and is %s: %s", o.ID, scope, o.Emergency.State, o.Emergency.Why),
			remedy: "to say another one, give another --id, or none",
		}
	}
	out := api.Outcome{ID: o.ID, Summary: scope + " is drained by it, as was said before", Applied: o.Emergency.Has, Missing: o.Emergency.Missing, Final: true}
	if len(out.Missing) > 0 {
		out.Code, out.Error = exitIncomplete, "said and journalled before, and not complete yet"
		out.Remedy = "it stays in force where it is, and reaches them when they are back; `divert status` shows when"
	}
	return t.said(out, false)
}

// said is final for what no plan holds yet.
func (t *telling) said(o api.Outcome, dryRun bool) error {
	if o.Code != exitDone || dryRun || t.app.json() || len(o.Applied) == 0 {
		return t.final(o, dryRun)
	}
	t.progress(o)
	p := &page{width: t.app.width(), colour: t.app.colour}
	p.wrapped(0, "done: ", plain, fmt.Sprintf("%s; on %s%s", o.Summary, all(len(o.Applied)), in(core.Seconds(o.Took))))
	fmt.Fprint(t.app.out, p.b.String())
	return nil
}

// drain is `divert drain --emergency`.
func (e *emergency) drain(c *cobra.Command, w *wish, scopes []string, lasting time.Duration, lastResort bool) error {
	key, err := e.check(c, w)
	if err != nil {
		return err
	}
	return e.say(c, w, key, scopes, func(_ api.Emergencies, word *plan.Emergency) (string, bool, error) {
		word.Lasts, word.LastResort = durationpb.New(lasting), lastResort
		return fmt.Sprintf("emergency: draining %s for %s, until %s, as operator %s; reason: %s",
			word.GetScope(), short(lasting), w.app.clock(w.app.now().Add(lasting)), word.GetOperator(), clean(w.reason)), false, nil
	})
}

// undrain is `divert undrain --emergency`. A scope may have been drained more than once, by
// several people at once: all of that ends, each by a word of its own.
func (e *emergency) undrain(c *cobra.Command, w *wish, scopes []string) error {
	key, err := e.check(c, w)
	if err != nil {
		return err
	}
	ended := map[string]bool{} // by their IDs; a dry run ends none
	return e.say(c, w, key, scopes, func(known api.Emergencies, word *plan.Emergency) (string, bool, error) {
		drains := slices.DeleteFunc(slices.Clone(known.Drains), func(o api.Override) bool {
			return o.Scope != word.GetScope() || ended[o.ID] || o.Emergency.State != "in force" && o.Emergency.State != "skipped"
		})
		switch {
		case len(drains) == 0:
			return "", false, &exit{
				code: exitRefused, err: fmt.Errorf("%s has no emergency drain", word.GetScope()),
				remedy: "`divert status` lists the drains; what the plan holds is ended by `divert undrain` while etcd is there",
			}
		case len(drains) > 1 && w.id != "":
			return "", false, usage("--id names one word, and %s has %d emergency drains, each ended by its own", word.GetScope(), len(drains))
		}
		word.Ends = drains[0].ID
		ended[word.GetEnds()] = true
		intro := fmt.Sprintf("emergency: undraining %s as operator %s; reason: %s", word.GetScope(), word.GetOperator(), clean(w.reason))
		if more := len(drains) - 1; more > 0 {
			intro += fmt.Sprintf("\n  (the drain of reason %s; %d more after it)", clean(drains[0].Reason), more)
		}
		return intro, len(drains) > 1, nil
	})
}

// emergencyNotes says of a drain that no plan holds what becomes of it.
func emergencyNotes(e *api.EmergencyState) []cell {
	if e == nil {
		return nil
	}
	text, look := fmt.Sprintf("emergency, %s here; in force on %s; in no plan yet", e.State, orNone(e.Has)), warn
	if e.State != "in force" {
		text = fmt.Sprintf("emergency, %s: %s", e.State, e.Why)
	}
	notes := []cell{{clean(text), look}}
	for _, m := range e.Missing {
		if e.State == "in force" {
			notes = append(notes, cell{clean(m.Director + " " + m.Why), bad})
		}
	}
	return notes
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "no director"
	}
	return strings.Join(names, ", ")
}

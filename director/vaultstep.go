package director

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/secret"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/director/store/fsys"
)

// decrypt reads one version, or says why it cannot be.
func (v *coffer) decrypt(fleet string, s *plan.Secret, version *plan.SecretVersion, blob []byte) value {
	out := value{number: version.GetNumber()}
	if v.open == nil {
		out.why = "this director has no key to read secrets with"
		return out
	}
	octets, err := v.open.Open(fleet, s.GetName(), blob)
	switch {
	case err != nil:
		out.why = err.Error()
	case len(octets) < minSecret:
		out.why = fmt.Sprintf("it has %d octets, fewer than %d, and could be guessed", len(octets), minSecret)
	default:
		out.octets = octets
	}
	return out
}

// minSecret is what a key of cookies or of TSIG has at least, in octets.
const minSecret = 16

// apply puts values into force where they are others than before. All is whether they are
// what the plan says: with the first such, what another director before this one put into
// force ends, too, and a secret that was removed between the two is good no more.
func (v *coffer) apply(p *plan.Plan, values map[string][]value, all bool) (trouble []string) {
	next := shared{keys: map[string][][]byte{}}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var octets [][]byte
		for _, one := range values[name] {
			octets = append(octets, one.octets)
		}
		if key, ok := core.TSIGKey(name); ok {
			next.keys[key] = octets
		} else if name == core.CookieSecret {
			next.cookies, next.pending = octets, p.Secret(name).GetUse() == 0
		}
	}
	same := next.pending == v.inUse.pending && slices.EqualFunc(next.cookies, v.inUse.cookies, bytes.Equal) &&
		maps.EqualFunc(next.keys, v.inUse.keys, func(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) })
	if same && (v.whole || !all) {
		return nil
	}
	if err := v.use(next); err != nil {
		return []string{"cannot use them: " + err.Error()}
	}
	v.inUse, v.whole = next, v.whole || all
	if same {
		return nil
	}
	v.log.Info("secrets of the fleet in force", slog.String("what", next.String()), slog.Uint64("revision", p.GetRevision()))
	return nil
}

// store has the vault of the plan on the disk.
func (v *coffer) store(p *plan.Plan) error {
	octets := v.at(p)
	if octets == nil {
		return nil
	}
	v.mu.Lock()
	sum := v.sum
	v.mu.Unlock()
	if v.stored == sum {
		return nil
	}
	if err := fsys.Replace(fsys.OS{}, v.file, func(w io.Writer) error {
		_, err := w.Write(octets)
		return err
	}); err != nil {
		return err
	}
	v.stored = sum
	return nil
}

// own is what this director says of secrets.
func (v *coffer) own(p *plan.Plan) core.SecretWord {
	if v.open == nil {
		return core.SecretWord{}
	}
	recipient := v.open.Recipient()
	v.mu.Lock()
	defer v.mu.Unlock()
	return core.SecretWord{Recipient: recipient, Signature: core.SignRecipient(v.key, p.GetFleet(), v.name, recipient), Vault: v.done, Trouble: v.trouble, Lacks: v.lacks}
}

// message takes in what another registered director says.
func (v *coffer) message(m gossip.Message) {
	w, err := decodeSecretWord(m.Payload)
	f := v.horizon.current()
	if err != nil || f == nil {
		return
	}
	v.mu.Lock()
	before := v.said[m.From].word
	v.mu.Unlock()
	if w.Recipient != before.Recipient && secret.ParseRecipient(w.Recipient) != nil {
		return // with it nothing could be encrypted to anybody
	}
	v.mu.Lock()
	for name := range v.said {
		if f.sealed.Plan.Director(name) == nil {
			delete(v.said, name)
		}
	}
	v.said[m.From] = vaultSaid{word: w, at: v.now()}
	v.mu.Unlock()
	if before.Trouble != w.Trouble || before.Recipient != w.Recipient || !bytes.Equal(before.Vault, w.Vault) {
		v.changed()
	}
}

// words is what the directors that are heard say of secrets, this one included.
func (v *coffer) words(p *plan.Plan) map[string]core.SecretWord {
	now := v.now()
	out := map[string]core.SecretWord{}
	if own := v.own(p); own.Recipient != "" {
		out[v.name] = own
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, s := range v.said {
		if now.Sub(s.at) <= vaultFresh {
			out[name] = s.word
		}
	}
	return out
}

// due is the leader's next write of secrets, with what it could encrypt anew; nil: nothing.
func (v *coffer) due(f *inForce) *core.Command {
	if v == nil {
		return nil
	}
	p := f.sealed.Plan
	need := core.SecretsDue(p, v.words(p), v.now())
	if need == nil {
		return nil
	}
	keys := map[string]string{}
	for _, r := range need.Recipients {
		keys[r.GetName()] = r.GetKey()
	}
	step := &core.SecretStep{}
	for _, n := range need.Seal {
		var to []string
		for _, name := range n.Readers {
			to = append(to, keys[name])
		}
		octets := v.plain(p, n)
		if octets == nil {
			continue // somebody else may lead who can, or a person sets it anew
		}
		blob, err := secret.Seal(p.GetFleet(), n.Name, octets, to)
		if err != nil {
			v.log.Error("a secret is not encrypted anew", slog.String("secret", n.Name), slog.Any("err", err))
			continue
		}
		step.Sealed = append(step.Sealed, core.SealedSecret{SealNeed: n, Blob: blob})
	}
	if len(step.Sealed) == 0 && len(need.Use)+len(need.Drop) == 0 && !need.Renamed {
		return nil
	}
	return &core.Command{ID: core.SecretStepID(f.sealed.Identity), Verb: core.SecretAdvance, Author: "director " + v.name, Reason: "secrets of the fleet", SecretStep: step}
}

// plain gives a version in the clear, of those in force: the one that the plan names, and
// none of the same number from before that secret was removed and set anew.
func (v *coffer) plain(p *plan.Plan, n core.SealNeed) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, version := range p.Secret(n.Name).GetVersions() {
		for _, one := range v.values[n.Name] {
			if version.GetNumber() == n.Number && bytes.Equal(one.sum[:], version.GetSum()) {
				return one.octets
			}
		}
	}
	return nil
}

// compose makes the vault of the next plan of that of the plan before and of what the change
// brings.
func (v *coffer) compose(ctx context.Context, base *plan.Plan, change *core.Change) error {
	if !change.Revault {
		return nil
	}
	next, err := v.atHand(ctx, base)
	if err != nil {
		return err
	}
	for _, blob := range change.Blobs {
		next.Put(blob)
	}
	var order []secret.Sum
	for _, sum := range core.SecretSums(change.Plan) {
		order = append(order, secret.Sum(sum))
	}
	for _, sum := range order {
		if _, held := next[sum]; !held {
			return &core.Refusal{
				Reason: "ciphertexts of secrets that the plan names are not at hand, neither here nor in the store",
				Remedy: "give the command to another director with --server; if none has them, `divert secrets remove NAME --force`, NAME being any of them, takes out all that are lost, to be set anew",
			}
		}
	}
	octets, err := next.Encode(order)
	if err != nil {
		return &core.Refusal{Reason: err.Error()}
	}
	change.Vault = octets
	return nil
}

// atHand gives the ciphertexts of a plan that are here or in the store. It refuses where
// the store does not answer.
func (v *coffer) atHand(ctx context.Context, p *plan.Plan) (secret.Vault, error) {
	if p.GetVault() == nil {
		return secret.Vault{}, nil
	}
	octets := v.at(p)
	if octets == nil {
		chunks, err := v.fetch(ctx, p.GetVault().GetChunks())
		if err != nil && !errors.Is(err, store.ErrUnreadable) {
			return nil, unavailable(err)
		}
		octets = chunks[plan.Hash(p.GetVault().GetHash())]
	}
	held, err := secret.DecodeVault(octets)
	if err != nil {
		return secret.Vault{}, nil // nobody could make anything of it
	}
	return held, nil
}

// inform has a decision know of secrets what it depends on.
func (v *coffer) inform(ctx context.Context, c core.Command, s *core.State) (err error) {
	switch {
	case c.Verb == core.SecretAdvance:
		s.Secrets = v.words(s.Plan.Plan)
	case c.Verb == core.SecretRemove && c.Force:
		s.Lost, err = v.lost(ctx, s.Plan.Plan)
	}
	return err
}

// lost lists the secrets of a plan of which a ciphertext is not to be had, for a person
// who forces one out: none of them could be kept in the next vault. It refuses where
// another director says that it goes by them.
func (v *coffer) lost(ctx context.Context, p *plan.Plan) (names []string, err error) {
	held, err := v.atHand(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, s := range p.GetSecrets() {
		if slices.ContainsFunc(s.GetVersions(), func(version *plan.SecretVersion) bool {
			sum := version.GetSum()
			return len(sum) != len(secret.Sum{}) || held[secret.Sum(sum)] == nil
		}) {
			names = append(names, s.GetName())
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	for name, w := range v.words(p) {
		if name != v.name && bytes.Equal(w.Vault, p.GetVault().GetHash()) {
			return nil, &core.Refusal{
				Reason: "the ciphertexts of secrets are not at hand here, but " + name + " says that it has them",
				Remedy: "wait until this director has them from it; or give the command to " + name + " with --server",
			}
		}
	}
	return names, nil
}

// begin puts what the disk holds into force, before anything is asked or answered.
func (v *coffer) begin() {
	if f := v.horizon.current(); f != nil {
		if trouble, _, _ := v.follow(f.sealed.Plan); len(trouble) > 0 {
			v.log.Warn("secrets of the disk are not used", slog.String("why", cmp.Or(trouble...)))
		}
	}
}

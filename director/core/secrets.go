package core

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// The bounds of secrets. What one comes to encrypted is director/secret's to bound.
const (
	maxSecrets     = 16
	maxSecretBlob  = 24 << 10
	maxRecipients  = 64
	maxSecretName  = 128
	maxSecretGrace = 90 * 24 * time.Hour
	recipientHold  = time.Hour        // between two public keys of a director that has one key of the roster
	minCookieGrace = 70 * time.Minute // a cookie is good for an hour, and a clock may be ahead
)

// CookieSecret is the name of the secret that DNS cookies are made from.
const CookieSecret = "cookie"

// tsigSecrets is what names of TSIG keys begin with.
const tsigSecrets = "tsig/"

// TSIGKey gives the name of the TSIG key that a secret is of.
func TSIGKey(secret string) (key string, ok bool) { return strings.CutPrefix(secret, tsigSecrets) }

// TSIGSecret gives the secret of a TSIG key.
func TSIGSecret(key string) string { return tsigSecrets + key }

// CheckSecretName says what is wrong with the name of a secret.
func CheckSecretName(name string) error {
	key, tsig := TSIGKey(name)
	switch {
	case name == CookieSecret:
		return nil
	case tsig && operatorName(key) && key == strings.ToLower(key) && len(name) <= maxSecretName:
		return nil
	default:
		return &Refusal{Reason: fmt.Sprintf("%.80q is no secret that there is", name), Remedy: "it is cookie, or tsig/NAME, NAME being that of a TSIG key"}
	}
}

// DefaultGrace is for how long a secret's version before is accepted once the next is used.
func DefaultGrace(name string) time.Duration {
	if name == CookieSecret {
		return 2 * time.Hour
	}
	return 24 * time.Hour
}

// SecretWish is what a secret-* command is about. The value is encrypted by who asks, and
// comes to no director but as ciphertext.
type SecretWish struct {
	Name       string            `json:"name"`
	Version    uint32            `json:"version,omitempty"`    // secret-remove: that one alone
	Blob       []byte            `json:"blob,omitempty"`       // secret-set: the ciphertext
	Recipients []SecretRecipient `json:"recipients,omitempty"` // secret-set: to whom it is encrypted
}

// SecretRecipient is the public key that a director says is its own.
type SecretRecipient struct {
	Director  string `json:"director"`
	Key       string `json:"key"`       // "age1..."
	Signature []byte `json:"signature"` // by the director's key of the roster
}

// SecretWord is what a director says of secrets.
type SecretWord struct {
	Recipient string
	Signature []byte // see SecretRecipient
	Vault     []byte // hash of the vault that it has on its disk and goes by; nil: none
	Trouble   string // what it cannot read
	// Lacks names the secrets of which it cannot read a version, where that is all its trouble.
	Lacks []string
}

// SecretStep is what the leader has encrypted anew.
type SecretStep struct{ Sealed []SealedSecret }

// SealedSecret is a version of a secret, encrypted to who may read it now.
type SealedSecret struct {
	SealNeed
	Blob []byte
}

// SealNeed is a version of a secret that is to be encrypted anew.
type SealNeed struct {
	Name    string
	Number  uint32
	Readers []string // directors, ordered
}

// SecretNeed is what is due of secrets.
type SecretNeed struct {
	Recipients []*plan.Recipient // as they are to be
	Seal       []SealNeed
	Use        []string // whose newest version all have, so that it is used
	Drop       []string // whose version before has ended
	Renamed    bool     // Recipients differ from the plan's
}

// SignRecipient is a director's word that a key is its own.
func SignRecipient(key ed25519.PrivateKey, fleet, name, recipient string) []byte {
	return ed25519.Sign(key, recipientText(fleet, name, recipient))
}

func recipientText(fleet, name, recipient string) []byte {
	return fmt.Appendf(nil, "divert secrets recipient v1\x00%s\x00%s\x00%s", fleet, name, recipient)
}

// vouched tells whether a recipient is one that the director of that name signed with the
// key that the roster has of it.
func vouched(p *plan.Plan, name, recipient string, signature []byte) bool {
	d := p.Director(name)
	return d != nil && len(d.GetKey()) == ed25519.PublicKeySize && len(signature) == ed25519.SignatureSize && recipientShape(recipient) &&
		ed25519.Verify(d.GetKey(), recipientText(p.GetFleet(), name, recipient), signature)
}

// recipientShape tells whether a text may be an age recipient (X25519, bech32).
func recipientShape(s string) bool {
	rest, ok := strings.CutPrefix(s, "age1")
	return ok && len(s) == 62 && strings.Trim(rest, "qpzry9x8gf2tvdw0s3jn54khce6mua7l") == ""
}

// registered lists the directors that secrets are for: those with a key.
func registered(p *plan.Plan) []*plan.Director {
	return slices.DeleteFunc(slices.Clone(p.Active()), func(d *plan.Director) bool { return len(d.GetKey()) == 0 })
}

// SecretRecipients lists the directors whose public keys are known, by what they say and by
// what the plan has. One that says another key while the roster's is the same is believed
// once an hour: each time, all is encrypted anew. An honest one never does, since its public
// key follows from that of the roster.
func SecretRecipients(p *plan.Plan, words map[string]SecretWord, now time.Time) []*plan.Recipient {
	var out []*plan.Recipient
	for _, d := range registered(p) {
		name := d.GetName()
		old := recipient(p, name)
		if old != nil && !vouched(p, name, old.GetKey(), old.GetSignature()) {
			old = nil
		}
		w, heard := words[name]
		switch {
		case !heard || !vouched(p, name, w.Recipient, w.Signature) || old.GetKey() == w.Recipient || old.GetSince() != nil && now.Sub(old.GetSince().AsTime()).Abs() < recipientHold:
			if old != nil {
				out = append(out, old)
			}
		case old != nil:
			out = append(out, &plan.Recipient{Name: name, Key: w.Recipient, Signature: w.Signature, Since: timestamppb.New(now)})
		default:
			out = append(out, &plan.Recipient{Name: name, Key: w.Recipient, Signature: w.Signature})
		}
	}
	slices.SortFunc(out, byName[*plan.Recipient])
	return out
}

func byName[T interface{ GetName() string }](a, b T) int {
	return cmp.Compare(a.GetName(), b.GetName())
}

func recipient(p *plan.Plan, name string) *plan.Recipient {
	for _, r := range p.GetRecipients() {
		if r.GetName() == name {
			return r
		}
	}
	return nil
}

// SecretWaits lists who does not go by the plan's secrets yet, each with the reason.
func SecretWaits(p *plan.Plan, words map[string]SecretWord) []TurnWait {
	var out []TurnWait
	if len(p.GetSecrets()) == 0 {
		return nil
	}
	for _, d := range registered(p) {
		w, heard := words[d.GetName()]
		why := ""
		switch {
		case !heard:
			why = "is not heard"
		case w.Trouble != "":
			why = w.Trouble
		case !bytes.Equal(w.Vault, p.GetVault().GetHash()):
			why = "has not got them yet"
		default:
			continue
		}
		out = append(out, TurnWait{Director: d.GetName(), Why: why})
	}
	slices.SortFunc(out, func(a, b TurnWait) int { return cmp.Compare(a.Director, b.Director) })
	return out
}

// secretHad tells whether all go by what the plan has of one secret: what they cannot read
// of another holds up that one alone.
func secretHad(p *plan.Plan, words map[string]SecretWord, name string) bool {
	for _, d := range registered(p) {
		w, heard := words[d.GetName()]
		if !heard || !bytes.Equal(w.Vault, p.GetVault().GetHash()) || slices.Contains(w.Lacks, name) || w.Trouble != "" && len(w.Lacks) == 0 {
			return false
		}
	}
	return true
}

// SecretsDue says what the leader has to do of secrets; nil: nothing. Words nil: it is not
// to be looked at.
func SecretsDue(p *plan.Plan, words map[string]SecretWord, now time.Time) *SecretNeed {
	if len(p.GetSecrets()) == 0 || words == nil {
		return nil
	}
	need := SecretNeed{Recipients: SecretRecipients(p, words, now)}
	need.Renamed = !slices.EqualFunc(need.Recipients, p.GetRecipients(), func(a, b *plan.Recipient) bool {
		return a.GetName() == b.GetName() && a.GetKey() == b.GetKey()
	})
	names, changed := []string{}, map[string]bool{}
	for _, r := range need.Recipients {
		names = append(names, r.GetName())
		changed[r.GetName()] = r.GetKey() != recipient(p, r.GetName()).GetKey()
	}
	for _, s := range p.GetSecrets() {
		seals := len(need.Seal)
		for _, v := range s.GetVersions() {
			if len(names) > 0 && (!slices.Equal(v.GetReaders(), names) || slices.ContainsFunc(names, func(n string) bool { return changed[n] })) {
				need.Seal = append(need.Seal, SealNeed{Name: s.GetName(), Number: v.GetNumber(), Readers: names})
			}
		}
		last := s.GetVersions()[len(s.GetVersions())-1]
		switch {
		case last.GetNumber() != s.GetUse():
			if secretHad(p, words, s.GetName()) && len(need.Seal) == seals { // else it is to be acknowledged as it is then
				need.Use = append(need.Use, s.GetName())
			}
		case len(s.GetVersions()) > 1 && !now.Before(last.GetEnd().AsTime()):
			need.Drop = append(need.Drop, s.GetName())
		}
	}
	if !need.Renamed && len(need.Seal)+len(need.Use)+len(need.Drop) == 0 {
		return nil
	}
	return &need
}

// setSecret takes a secret's next value, or first one, as it was encrypted.
func (w *work) setSecret() error {
	c := w.c.Secret
	if c == nil {
		return &Refusal{Reason: "no secret is named", Remedy: "`divert secrets set` names one"}
	}
	if err := CheckSecretName(c.Name); err != nil {
		return err
	}
	least := time.Duration(0)
	if c.Name == CookieSecret {
		least = minCookieGrace
	}
	switch {
	case len(c.Blob) == 0 || len(c.Blob) > maxSecretBlob:
		return &Refusal{Reason: fmt.Sprintf("the secret comes to %d octets encrypted, it may 1 to %d", len(c.Blob), maxSecretBlob), Remedy: "`divert secrets set` encrypts it"}
	case w.c.Reason == "":
		return &Refusal{Reason: "setting a secret needs a reason", Remedy: "give --reason, such as --reason \"every quarter\""}
	case w.c.For < least || w.c.For > maxSecretGrace:
		return &Refusal{
			Reason: fmt.Sprintf("the version before would be accepted for %s, it may %s to %s", spec.FormatDuration(w.c.For), spec.FormatDuration(least), spec.FormatDuration(maxSecretGrace)),
			Remedy: "give --grace, such as --grace " + spec.FormatDuration(DefaultGrace(c.Name)),
		}
	}
	readers, err := w.addRecipients(c.Recipients)
	if err != nil {
		return err
	}
	s := w.next.Secret(c.Name)
	switch {
	case s == nil && len(w.next.GetSecrets()) >= maxSecrets:
		return &Refusal{Reason: fmt.Sprintf("there are %d secrets, which is the most", maxSecrets), Remedy: "`divert secrets remove` one first"}
	case s == nil:
		s = &plan.Secret{Name: c.Name}
		w.next.Secrets = append(w.next.Secrets, s)
	case len(s.GetVersions()) > 1:
		old, last := s.GetVersions()[0], s.GetVersions()[1]
		if last.GetNumber() != s.GetUse() {
			return &Refusal{
				Reason: fmt.Sprintf("version %d of %s is not used yet: not all directors have it", last.GetNumber(), c.Name),
				Remedy: fmt.Sprintf("`divert secrets list` shows whom it waits for; `divert secrets remove %s --version %d` takes it back", c.Name, last.GetNumber()),
			}
		}
		return &Refusal{
			Reason: fmt.Sprintf("version %d of %s is accepted still, until %s", old.GetNumber(), c.Name, last.GetEnd().AsTime().UTC().Format(time.RFC3339)),
			Remedy: fmt.Sprintf("wait until then, or end it now: `divert secrets remove %s --version %d`", c.Name, old.GetNumber()),
		}
	}
	number := uint32(1)
	if n := len(s.GetVersions()); n > 0 {
		number = s.GetVersions()[n-1].GetNumber() + 1
	}
	sum := sha256.Sum256(c.Blob)
	s.Versions = append(s.Versions, &plan.SecretVersion{
		Number: number, Sum: sum[:], Size: uint32(len(c.Blob)), Readers: readers, Author: w.c.Who(), Reason: w.c.Reason,
		Since: timestamppb.New(w.s.Now), Grace: durationpb.New(w.c.For), Revision: w.next.GetRevision(),
	})
	w.blobs = [][]byte{c.Blob}
	w.what = fmt.Sprintf("set secret %s, version %d", c.Name, number)
	w.done = fmt.Sprintf("version %d of %s is given to the directors; it is used once all have it", number, c.Name)
	if number > 1 {
		w.done += fmt.Sprintf(", and the one before is accepted for %s after that", spec.FormatDuration(w.c.For))
	}
	return nil
}

// addRecipients takes to whom a blob was encrypted, and gives their names.
func (w *work) addRecipients(list []SecretRecipient) (names []string, err error) {
	if len(list) == 0 || len(list) > maxRecipients {
		return nil, &Refusal{Reason: fmt.Sprintf("a secret is encrypted to 1 to %d directors, this one to %d", maxRecipients, len(list)), Remedy: "`divert secrets set` encrypts it to all that are there"}
	}
	for _, r := range list {
		d := w.next.Director(r.Director)
		if d.GetStanding() != plan.Director_ACTIVE || !vouched(w.next, r.Director, r.Key, r.Signature) || slices.Contains(names, r.Director) {
			return nil, &Refusal{Reason: fmt.Sprintf("the secret is encrypted to a key that %.80s has not signed as its own, or that is no longer in the roster", r.Director), Remedy: "repeat it: the keys are asked for anew"}
		}
		names = append(names, r.Director)
		next := &plan.Recipient{Name: r.Director, Key: r.Key, Signature: slices.Clone(r.Signature)}
		if old := recipient(w.next, r.Director); old.GetKey() == r.Key {
			next.Since = old.GetSince()
		} else if old != nil {
			next.Since = timestamppb.New(w.s.Now)
		}
		w.next.Recipients = slices.DeleteFunc(w.next.GetRecipients(), func(old *plan.Recipient) bool { return old.GetName() == r.Director })
		w.next.Recipients = append(w.next.Recipients, next)
	}
	slices.Sort(names)
	return names, nil
}

// removeSecret takes a secret out, or one of its versions.
func (w *work) removeSecret() error {
	c := w.c.Secret
	if c == nil || w.next.Secret(c.Name) == nil {
		name := ""
		if c != nil {
			name = c.Name
		}
		return &Refusal{Reason: fmt.Sprintf("there is no secret %.80q", name), Remedy: "`divert secrets list` shows them"}
	}
	if w.c.Reason == "" {
		return &Refusal{Reason: "removing a secret needs a reason", Remedy: "give --reason, such as --reason INC-1"}
	}
	s := w.next.Secret(c.Name)
	i := slices.IndexFunc(s.GetVersions(), func(v *plan.SecretVersion) bool { return v.GetNumber() == c.Version })
	switch {
	case c.Version == 0 || i == 0 && len(s.GetVersions()) == 1:
		w.what = "remove secret " + c.Name
		w.done = "secret " + c.Name + " is removed"
		if c.Name != CookieSecret {
			w.prev.Warnings = append(w.prev.Warnings, "ends what is signed with it: a director whose settings name it refuses that key's zone transfers")
		}
		w.dropSecrets(c.Name)
		w.dropLost()
	case i < 0:
		return &Refusal{Reason: fmt.Sprintf("there is no version %d of %s", c.Version, c.Name), Remedy: "`divert secrets list` shows them"}
	case c.Version == s.GetUse():
		return &Refusal{Reason: fmt.Sprintf("version %d of %s is the one that is used", c.Version, c.Name), Remedy: "set the next one, and wait until that is used"}
	default:
		s.Versions = slices.Delete(s.GetVersions(), i, i+1)
		if slices.Contains(w.s.Lost, c.Name) {
			return &Refusal{Reason: "the ciphertexts of " + c.Name + " are lost, those of its other version, too", Remedy: "repeat it without --version"}
		}
		w.what = fmt.Sprintf("remove version %d of secret %s", c.Version, c.Name)
		w.done = fmt.Sprintf("version %d of %s is removed: it is accepted no more", c.Version, c.Name)
	}
	w.revault = true
	return nil
}

func (w *work) dropSecrets(names ...string) {
	w.next.Secrets = slices.DeleteFunc(w.next.GetSecrets(), func(s *plan.Secret) bool { return slices.Contains(names, s.GetName()) })
}

// dropLost takes out the other secrets whose ciphertexts nobody has, where a person forces
// it: no vault could be made with them, so that no secret could be changed any more.
func (w *work) dropLost() {
	lost := slices.DeleteFunc(slices.Clone(w.s.Lost), func(name string) bool { return w.next.Secret(name) == nil })
	if !w.c.Force || len(lost) == 0 {
		return
	}
	w.dropSecrets(lost...)
	w.forced = true
	w.what += ", and with it, since nobody has their ciphertexts: " + list(lost)
	w.done += ", and with it, since nobody has their ciphertexts: " + list(lost) + "; set them anew"
	w.prev.Warnings = append(w.prev.Warnings, "takes out, too, since nobody has their ciphertexts: "+list(lost))
}

// SecretKind names what a secret is of.
func SecretKind(name string) string {
	if _, ok := TSIGKey(name); ok {
		return "tsig"
	}
	return name
}

// SecretLeft lists who can read a version, or could, and is no longer in the roster.
func SecretLeft(p *plan.Plan, v *plan.SecretVersion) []string {
	out := slices.Clone(v.GetLeft())
	for _, name := range v.GetReaders() {
		if p.Director(name).GetStanding() != plan.Director_ACTIVE && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

package core

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/divertdns/divert/director/plan"
)

// SecretStepID is the ID of the leader's next write of secrets: it follows from the plan,
// so that two leaders cannot do it twice (S4).
func SecretStepID(of plan.Identity) string {
	return fmt.Sprintf("step-secret-%d.%d", of.Epoch, of.Revision+1)
}

// secretStep writes what is due of secrets. A version that is to be encrypted anew and was
// not, since the leader cannot read it, stays as it is.
func (w *work) secretStep() {
	need := SecretsDue(w.next, w.s.Secrets, w.s.Now)
	if need == nil {
		w.noop, w.done = true, "done already"
		return
	}
	var did []string
	rekeyed := map[string]bool{} // whose key is another now: they read nothing of before
	for _, r := range need.Recipients {
		old := recipient(w.next, r.GetName())
		rekeyed[r.GetName()] = old != nil && old.GetKey() != r.GetKey()
	}
	if need.Renamed {
		w.next.Recipients = need.Recipients
		did = append(did, "the directors' keys are noted")
	}
	for _, n := range need.Seal {
		blob := w.sealed(n)
		v := w.version(n)
		if blob == nil {
			v.Readers = slices.DeleteFunc(v.GetReaders(), func(name string) bool { return rekeyed[name] })
			continue
		}
		for _, name := range v.GetReaders() {
			if d := w.next.Director(name); (d == nil || d.GetStanding() != plan.Director_ACTIVE) && !slices.Contains(v.GetLeft(), name) {
				v.Left = append(v.Left, name)
				slices.Sort(v.Left)
			}
		}
		sum := sha256.Sum256(blob)
		v.Sum, v.Size, v.Readers = sum[:], uint32(len(blob)), n.Readers
		w.blobs = append(w.blobs, blob)
		did = append(did, fmt.Sprintf("version %d of %s is encrypted to %s", n.Number, n.Name, list(n.Readers)))
	}
	for _, name := range need.Use {
		s := w.next.Secret(name)
		v := s.GetVersions()[len(s.GetVersions())-1]
		s.Use, v.End = v.GetNumber(), timestamppb.New(w.s.Now.Add(v.GetGrace().AsDuration()))
		did = append(did, fmt.Sprintf("all have version %d of %s, so all use it", v.GetNumber(), name))
	}
	for _, name := range need.Drop {
		s := w.next.Secret(name)
		did = append(did, fmt.Sprintf("version %d of %s is accepted no more", s.GetVersions()[0].GetNumber(), name))
		s.Versions = s.GetVersions()[1:]
		w.revault = true
	}
	if len(did) == 0 {
		w.noop, w.done = true, "the leader cannot read what is to be encrypted anew"
		return
	}
	w.what = "secrets: " + strings.Join(did, "; ")
	w.done = w.what
}

// version finds a version of a secret in the next plan.
func (w *work) version(n SealNeed) *plan.SecretVersion {
	for _, v := range w.next.Secret(n.Name).GetVersions() {
		if v.GetNumber() == n.Number {
			return v
		}
	}
	return nil
}

// sealed finds what the leader has encrypted for a need; nil: nothing.
func (w *work) sealed(n SealNeed) []byte {
	if w.c.SecretStep == nil {
		return nil
	}
	for _, s := range w.c.SecretStep.Sealed {
		if s.Name == n.Name && s.Number == n.Number && slices.Equal(s.Readers, n.Readers) && len(s.Blob) > 0 && len(s.Blob) <= maxSecretBlob {
			return s.Blob
		}
	}
	return nil
}

// settleSecrets drops what a plan must not say any more: keys of directors that the roster
// has no longer, or with another key; and all of it where there is no secret.
func settleSecrets(p *plan.Plan) {
	if len(p.GetSecrets()) == 0 {
		p.Recipients, p.Vault = nil, nil
		return
	}
	p.Recipients = slices.DeleteFunc(p.GetRecipients(), func(r *plan.Recipient) bool {
		return p.Director(r.GetName()).GetStanding() != plan.Director_ACTIVE || !vouched(p, r.GetName(), r.GetKey(), r.GetSignature())
	})
	slices.SortFunc(p.Recipients, byName[*plan.Recipient])
	slices.SortFunc(p.Secrets, byName[*plan.Secret])
}

// SecretSums lists the ciphertexts of a plan in their order.
func SecretSums(p *plan.Plan) (out [][]byte) {
	for _, s := range p.GetSecrets() {
		for _, v := range s.GetVersions() {
			out = append(out, v.GetSum())
		}
	}
	return out
}

// checkSecrets holds a plan's secrets against each other and against the roster: nobody's
// key is taken that its director has not signed, whoever wrote the plan.
func checkSecrets(p *plan.Plan) error {
	if len(p.GetSecrets()) == 0 && len(p.GetRecipients()) == 0 && p.GetVault() == nil {
		return nil
	}
	ref := p.GetVault()
	if n := len(p.GetSecrets()); n == 0 || n > maxSecrets || len(p.GetRecipients()) > maxRecipients {
		return fmt.Errorf("it has %d secrets for %d directors, the most is %d for %d", n, len(p.GetRecipients()), maxSecrets, maxRecipients)
	}
	if len(ref.GetHash()) != sha256.Size || len(ref.GetChunks()) != 1 || !bytes.Equal(ref.GetChunks()[0], ref.GetHash()) {
		return fmt.Errorf("it names secrets without the one blob that they are in")
	}
	names := map[string]bool{}
	for _, s := range p.GetSecrets() {
		if CheckSecretName(s.GetName()) != nil || names[s.GetName()] || len(s.GetVersions()) < 1 || len(s.GetVersions()) > 2 {
			return fmt.Errorf("secret %.80q has no name of its own, or not one or two versions", s.GetName())
		}
		names[s.GetName()] = true
		last, used := uint32(0), s.GetUse() == 0
		for _, v := range s.GetVersions() {
			if v.GetNumber() <= last || len(v.GetSum()) != sha256.Size || v.GetSize() == 0 || v.GetSize() > maxSecretBlob || len(v.GetReaders()) > maxRecipients {
				return fmt.Errorf("version %d of secret %s is of nobody or nothing, or out of order", v.GetNumber(), s.GetName())
			}
			last = v.GetNumber()
			used = used || s.GetUse() == last
		}
		if !used {
			return fmt.Errorf("secret %s uses version %d, which it has not", s.GetName(), s.GetUse())
		}
	}
	seen := map[string]bool{}
	for _, r := range p.GetRecipients() {
		if seen[r.GetName()] || !vouched(p, r.GetName(), r.GetKey(), r.GetSignature()) {
			return fmt.Errorf("the key that secrets are encrypted to for %.80q is not signed by it", r.GetName())
		}
		seen[r.GetName()] = true
	}
	return nil
}

package director

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/secret"
)

// saved gives the ciphertexts for a backup: with local, what is at hand. A backup of the
// store without them would not be whole.
func (v *coffer) saved(ctx context.Context, of *plan.Plan, local bool) ([]byte, error) {
	if octets := v.at(of); octets != nil || of.GetVault() == nil || local {
		return octets, nil
	}
	chunks, err := v.fetch(ctx, of.GetVault().GetChunks())
	if err != nil {
		return nil, unavailable(err)
	}
	octets := chunks[plan.Hash(of.GetVault().GetHash())]
	if _, err := secret.DecodeVault(octets); err != nil {
		return nil, &core.Refusal{Reason: "the ciphertexts of the fleet's secrets cannot be had: they are gone from the store, and this director has none", Remedy: "`divert backup --local` makes one without them"}
	}
	return octets, nil
}

// Secrets says which secrets the fleet has and who can read them; no value is in it.
func (d *Director) Secrets() api.Secrets {
	f := d.horizon.current()
	if f == nil {
		return api.Secrets{}
	}
	return d.vault.view(f.sealed.Plan)
}

func (v *coffer) view(p *plan.Plan) api.Secrets {
	words := v.words(p)
	out := api.Secrets{Fleet: p.GetFleet(), Waits: core.SecretWaits(p, words)}
	can := map[string]bool{}
	for _, r := range core.SecretRecipients(p, words, v.now()) {
		can[r.GetName()] = true
		out.Recipients = append(out.Recipients, core.SecretRecipient{Director: r.GetName(), Key: r.GetKey(), Signature: r.GetSignature()})
	}
	for _, d := range p.Active() {
		if len(d.GetKey()) > 0 && !can[d.GetName()] {
			out.Silent = append(out.Silent, d.GetName())
		}
	}
	for _, s := range p.GetSecrets() {
		view := api.Secret{Name: s.GetName(), Kind: core.SecretKind(s.GetName()), Use: s.GetUse()}
		versions := s.GetVersions()
		for i, one := range versions {
			w := api.SecretVersion{
				Version: one.GetNumber(), State: "used", Readers: one.GetReaders(), Left: core.SecretLeft(p, one), Author: one.GetAuthor(), Reason: one.GetReason(),
				Since: one.GetSince().AsTime(), Revision: one.GetRevision(), Sum: hex.EncodeToString(one.GetSum()),
			}
			switch {
			case one.GetNumber() == s.GetUse():
			case i == len(versions)-1:
				w.State = "next"
			default:
				w.State = "before"
				if last := versions[len(versions)-1]; last.GetEnd() != nil {
					end := last.GetEnd().AsTime()
					w.Until = &end
				}
			}
			view.Versions = append(view.Versions, w)
		}
		out.Secrets = append(out.Secrets, view)
	}
	return out
}

// describe says what is wrong with secrets.
func (v *coffer) describe(out *api.Status, p *plan.Plan) {
	if v == nil || len(p.GetSecrets()) == 0 {
		return
	}
	v.mu.Lock()
	trouble := v.trouble
	v.mu.Unlock()
	if trouble != "" {
		out.Alerts = append(out.Alerts, "this director "+trouble+"; it goes on with the secrets that it had; `divert secrets set` gives new ones to all")
	}
	words := v.words(p)
	for _, wait := range core.SecretWaits(p, words) {
		if w := words[wait.Director]; w.Trouble != "" && wait.Director != v.name {
			out.Alerts = append(out.Alerts, wait.Director+" "+wait.Why+"; it goes on with the secrets that it had")
		}
	}
	for _, s := range p.GetSecrets() {
		last := s.GetVersions()[len(s.GetVersions())-1]
		if left := core.SecretLeft(p, last); len(left) > 0 {
			out.Alerts = append(out.Alerts, fmt.Sprintf("secret %s could be read by %s, which the roster has no longer: %s", s.GetName(), strings.Join(left, ", "), turnIt(s.GetName())))
		}
		if len(last.GetReaders()) == 0 {
			out.Alerts = append(out.Alerts, fmt.Sprintf("secret %s can be read by no director: set it anew with `divert secrets set %s`", s.GetName(), s.GetName()))
		}
	}
}

// turnIt says how a secret gets its next value.
func turnIt(name string) string {
	if name == core.CookieSecret {
		return "rotate it, with `divert secrets rotate " + name + "`"
	}
	return "set a new value, with `divert secrets set " + name + "`, here and at the secondary"
}

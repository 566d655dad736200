package director

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/secret"
)

// Once the ciphertexts are lost everywhere, the remedy that the refusal names is one.
func TestSecretsLostEverywhere(t *testing.T) {
	d := solo(t)
	for _, name := range []string{core.CookieSecret, "tsig/a", "tsig/b"} {
		gave(t, d, settingOf(t, d, name, valueOne))
		eventuallyUsed(t, d, name, 1)
	}
	removal := func(force bool) core.Command {
		return core.Command{ID: newID(), Verb: core.SecretRemove, Author: "ann", Reason: "lost", Force: force, Secret: &core.SecretWish{Name: "tsig/a"}}
	}
	before := d.vault.at(d.horizon.current().sealed.Plan)
	lose := func() { // as an alien disk would: the store, and what this director holds
		vault{t, d}.remove("blob/" + plan.Hash(d.horizon.current().sealed.Plan.GetVault().GetHash()).String())
		d.vault.mu.Lock()
		defer d.vault.mu.Unlock()
		d.vault.octets, d.vault.sum = nil, plan.Hash{}
	}
	lose()
	_, _, err := d.commander.commit(t.Context(), removal(false), nil)
	var r *core.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Remedy, "secrets remove NAME --force") {
		t.Fatalf("unforced: %v", err)
	}
	// While another says that it has them, nothing is given up.
	v := d.vault
	v.mu.Lock()
	v.said["d9"] = vaultSaid{word: core.SecretWord{Vault: d.horizon.current().sealed.Plan.GetVault().GetHash()}, at: v.now()}
	v.mu.Unlock()
	if _, _, err := d.commander.commit(t.Context(), removal(true), nil); !errors.As(err, &r) || !strings.Contains(r.Reason, "d9 says that it has them") {
		t.Errorf("with a holder: %v", err)
	}
	v.mu.Lock()
	delete(v.said, "d9")
	v.mu.Unlock()
	id := gave(t, d, removal(true))
	eventually(t, "all that are lost are out", func() bool { return len(d.horizon.current().sealed.Plan.GetSecrets()) == 0 })
	records, err := d.Audit(t.Context(), id.Revision, 1)
	if err != nil || len(records) != 1 || !records[0].Forced || !strings.Contains(records[0].What, "remove secret tsig/a, and with it, since nobody has their ciphertexts: cookie, tsig/b") {
		t.Errorf("the record: %+v, %v", records, err)
	}
	gave(t, d, settingOf(t, d, core.CookieSecret, valueTwo))
	eventuallyUsed(t, d, core.CookieSecret, 1)
	if bytes.Equal(d.vault.at(d.horizon.current().sealed.Plan), before) {
		t.Error("the vault is that of before")
	}
	// What is at hand stays, forced or not.
	gave(t, d, settingOf(t, d, "tsig/a", valueOne))
	eventuallyUsed(t, d, "tsig/a", 1)
	gave(t, d, removal(true))
	eventually(t, "the one that was named is out", func() bool { return len(d.horizon.current().sealed.Plan.GetSecrets()) == 1 })
}

// What a director cannot read of one secret holds up no other.
func TestVaultUnreadableAlone(t *testing.T) {
	w := newVaultWorld(t)
	w.plan.Recipients = core.SecretRecipients(w.plan, map[string]core.SecretWord{"d1": w.vaults["d1"].own(w.plan), "d2": w.vaults["d2"].own(w.plan), "d3": w.vaults["d3"].own(w.plan)}, w.now)
	cookie := w.version(1, valueOne, "d1", "d2", "d3")
	blob, err := secret.Seal("f", "tsig/a", valueTwo, []string{w.vaults["d1"].open.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	sum := w.blobs.Put(blob)
	for _, order := range [][]byte{nil, sum[:]} { // the second blob is missing from the vault, and then there
		versions := []*plan.SecretVersion{cookie}
		if order != nil {
			versions = append(versions, &plan.SecretVersion{Number: 2, Sum: order})
		}
		w.put(0, versions...)
		w.plan.Secrets = []*plan.Secret{
			{Name: core.CookieSecret, Versions: []*plan.SecretVersion{cookie}},
			{Name: "tsig/a", Use: 1, Versions: []*plan.SecretVersion{{Number: 1, Sum: sum[:], Size: uint32(len(blob)), Readers: []string{"d1"}}}},
		}
		w.tick(3)
		need := core.SecretsDue(w.plan, w.vaults["d1"].words(w.plan), w.now)
		want := []string(nil)
		if order != nil {
			want = []string{core.CookieSecret}
		}
		if need == nil || !slices.Equal(need.Use, want) {
			t.Errorf("whole %t: got %+v, want %q to be used", order != nil, need, want)
		}
	}
	if waits := w.waits(); len(waits) != 2 { // d2 and d3 are named all the same
		t.Errorf("waits for %v", waits)
	}
}

package director

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
)

// TestTokenOfThePlan: a token is made by a command, acts in its scope under its own name,
// is there while etcd is away, and is refused as soon as the plan without it is in force.
func TestTokenOfThePlan(t *testing.T) {
	d, stopStore := aloneBeside(t, slog.New(slog.NewTextHandler(t.Output(), nil)), soloSpec())
	socket := "unix:" + filepath.Join(d.settings.DataDir, api.SocketName)
	bearer := func(name string, n byte) *api.Client {
		t.Helper()
		text := access.FormatSecret([access.SecretBytes]byte{n})
		sum, _ := access.SumSecret(text)
		gave(t, d, core.Command{
			ID: newID(), Verb: core.TokenCreate, Author: "unix:ann", Reason: "a test", For: time.Hour,
			Token: &core.Token{Name: name, Sum: sum[:], Role: "operator", Scopes: []string{"cluster/nyc"}},
		})
		c, err := api.NewClientWith(socket, api.Credentials{Token: text})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ci, lost := bearer("ci", 1), bearer("lost", 2)
	if _, err := ci.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	wish := func(scope string) core.Command {
		return core.Command{ID: newID(), Verb: core.Drain, Scope: scope, Reason: "INC-1", For: time.Hour, LastResort: true}
	}
	if out, err := ci.Do(t.Context(), wish("cluster/fra"), 10*time.Second, nil); err != nil || out.Code != 1 || !strings.Contains(out.Error, "token:ci is operator of cluster/nyc, and drain takes operator of cluster/fra") {
		t.Errorf("elsewhere: %+v, %v", out, err)
	}
	if out, err := ci.Do(t.Context(), wish("cluster/nyc"), 10*time.Second, nil); err != nil || out.Code != 0 || out.Override.Author != "token:ci" {
		t.Errorf("in its scope: %+v, %v", out, err)
	}
	if records, err := d.Audit(t.Context(), 0, 1); err != nil || len(records) != 1 || records[0].Who != "token:ci" {
		t.Errorf("the audit log has %+v, %v", records, err)
	}
	if _, err := ci.Tokens(t.Context()); err == nil {
		t.Error("an operator of a cluster lists the tokens")
	}
	if list := d.Tokens(); len(list) != 2 || list[0].Name != "ci" || list[0].Expired || list[0].Author != "unix:ann" {
		t.Errorf("listed: %+v", list)
	}
	gave(t, d, core.Command{ID: newID(), Verb: core.TokenRevoke, Author: "unix:ann", Reason: "it was lost", Token: &core.Token{Name: "lost"}})
	if _, err := lost.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "not in force") {
		t.Errorf("a revoked one: %v", err)
	}
	stopStore()
	if s, err := ci.Status(t.Context()); err != nil || s.Director != "d1" {
		t.Errorf("while etcd is away: %+v, %v", s, err)
	}
	if _, err := lost.Status(t.Context()); err == nil {
		t.Error("a revoked one is let in while etcd is away")
	}
}

package director

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/divertdns/divert/director/api"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
)

// turnPatience is how long a phase may take before that alerts.
const turnPatience = time.Minute

// keyless tells whether a director holds none of the keys that the others may send under.
func keyless(p *plan.Plan, ring []string) bool {
	if t := p.GetGossipKey().GetTurn(); t != nil {
		must := t.GetTo()
		if t.GetPhase() == plan.KeyTurn_ADD {
			must = t.GetFrom()
		}
		return !slices.Contains(ring, must)
	}
	current := p.GetGossipKey().GetCurrent()
	return current != "" && !slices.Contains(ring, current)
}

// describeEnrol lists the tokens that are not used yet.
func describeEnrol(out *api.Status, p *plan.Plan) {
	for _, t := range p.GetEnrolTokens() {
		out.Enrol = append(out.Enrol, api.EnrolToken{
			ID: t.GetId(), Name: t.GetName(), Site: t.GetSite(), Author: t.GetAuthor(), Reason: t.GetReason(),
			Since: t.GetSince().AsTime(), Until: t.GetEnd().AsTime(), Over: out.Now.After(t.GetEnd().AsTime()),
		})
	}
}

// describe says under which keys the directors gossip, and for what a turn-over waits.
func (k *keyring) describe(out *api.Status, p *plan.Plan) {
	own := k.own()
	if len(own.Keys) == 0 {
		return
	}
	view := &api.GossipKey{Key: own.Keys[0], Fleet: p.GetGossipKey().GetCurrent()}
	if len(own.Keys) > 1 {
		view.Also = own.Keys[1]
	}
	out.GossipKey = view
	if keyless(p, own.Keys) {
		should := view.Fleet
		if t := p.GetGossipKey().GetTurn(); t != nil {
			should = t.GetTo()
		}
		out.Alerts = append(out.Alerts, fmt.Sprintf(
			"the fleet's gossip key is %s, and this director's key file %s holds %s: it was away while the key was turned over; copy the key file of a director that is there over it (mode 0600); it is read again without a restart",
			short8(should), k.path, join(shorts(k.held())),
		))
	}
	t := p.GetGossipKey().GetTurn()
	if t == nil {
		if own.Trouble != "" {
			out.Alerts = append(out.Alerts, fmt.Sprintf("this director %s: the gossip key cannot be turned over until its user may write to the folder of %s, and put another file in its place", own.Trouble, k.path))
		}
		return
	}
	view.Turn = &api.KeyTurn{
		ID: t.GetId(), From: t.GetFrom(), To: t.GetTo(), Phase: strings.ToLower(t.GetPhase().String()), Doing: core.PhaseText(t), Back: t.GetBack(),
		Author: t.GetAuthor(), Reason: t.GetReason(), Since: t.GetSince().AsTime(), Waits: core.TurnWaits(p, k.rings()),
	}
	if core.TurnLost(p, k.rings()) {
		out.Alerts = append(out.Alerts, fmt.Sprintf("no director that is heard holds the gossip key %s, to which the turn-over under way is to go: bring back one that does, or end it with `divert keys rotate --back --force`", short8(t.GetTo())))
		return
	}
	if len(view.Turn.Waits) > 0 && out.Now.Sub(view.Turn.Since) > turnPatience {
		out.Alerts = append(out.Alerts, fmt.Sprintf("the turn-over of the gossip key waits (%s): %s %s; bring it back, or `divert director remove` it if it is gone for good, or `divert keys rotate --back`",
			view.Turn.Doing, view.Turn.Waits[0].Director, view.Turn.Waits[0].Why))
	}
}

func short8(fingerprint string) string { return fingerprint[:min(8, len(fingerprint))] }

// held gives the keys themselves.
func (k *keyring) held() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

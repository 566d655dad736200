package core

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/steer"
)

// clockSlack is by how much what a writer's clock says of one plan may be off (F15: an hour
// is found out, and until then it must not make a plan invalid).
const clockSlack = 2 * time.Hour

// The highest revision and epoch that a plan may have, and by how much one may lie ahead of
// the plan in force: a rogue director that took the last number there is would leave nobody
// one to undo it with.
const (
	highest = 1 << 62
	ahead   = 1 << 32
)

// Check says what is wrong with a plan that is to follow the one in force, nil: nothing
// (S7). It is asked by whoever writes the plan, before, and by each director before it uses
// it; plan.Trusted has been asked already. It goes by what every version writes, so that
// no plan is refused for a rule that its writer did not know (S12). Cur may be nil.
func Check(cur, next *plan.Sealed) error {
	p := next.Plan
	if size := proto.Size(p); size > MaxManifest {
		return fmt.Errorf("it has %d KiB, the most is %d KiB", size>>10, MaxManifest>>10)
	}
	if !slices.ContainsFunc(p.Active(), func(d *plan.Director) bool { return len(d.GetKey()) > 0 }) {
		return fmt.Errorf("no director of its roster could sign the next one")
	}
	if p.GetRevision() >= highest || p.GetEpoch() >= highest {
		return fmt.Errorf("after its number, %d.%d, there is no room for others", p.GetEpoch(), p.GetRevision())
	}
	names := map[string]bool{}
	for _, d := range p.GetRoster() {
		if names[d.GetName()] {
			return fmt.Errorf("its roster has two directors of the name %q", d.GetName())
		}
		names[d.GetName()] = true
	}
	if err := checkSpecs(p); err != nil {
		return err
	}
	if err := checkOverrides(p); err != nil {
		return err
	}
	if err := checkPaces(p); err != nil {
		return err
	}
	if err := checkRollout(p); err != nil {
		return err
	}
	if err := checkSpill(p); err != nil {
		return err
	}
	if err := checkOperators(p); err != nil {
		return err
	}
	if err := checkEnrolTokens(p); err != nil {
		return err
	}
	if err := checkKey(p); err != nil {
		return err
	}
	if err := checkSecrets(p); err != nil {
		return err
	}
	if err := checkTokens(p); err != nil {
		return err
	}
	if err := checkPolicy(p); err != nil {
		return err
	}
	if err := checkResidency(p); err != nil {
		return err
	}
	if err := checkRequests(p); err != nil {
		return err
	}
	if cur == nil || cur.Identity == next.Identity {
		return nil
	}
	if cur.Identity.Epoch != next.Identity.Epoch {
		return nil // the store was recovered, from what was left
	}
	if now, then := next.Identity.Revision, cur.Identity.Revision; now > then && now-then > ahead { // an older one is Trusted's to refuse
		return fmt.Errorf("it lies %d revisions ahead of the one in force", now-then)
	}
	if err := checkZones(cur.Plan, p); err != nil {
		return err
	}
	if cur.Identity.Revision+1 != next.Identity.Revision {
		return nil // revisions were missed: the steps between are not known
	}
	if !bytes.Equal(p.GetParent(), cur.Identity.Hash[:]) {
		return fmt.Errorf("it follows another plan %d.%d than the one in force", cur.Identity.Epoch, cur.Identity.Revision)
	}
	if err := checkEnds(cur.Plan, p); err != nil {
		return err
	}
	if err := checkSteps(cur.Plan, p); err != nil {
		return err
	}
	if err := checkTurn(cur.Plan, p); err != nil {
		return err
	}
	if err := checkResided(cur.Plan, p); err != nil {
		return err
	}
	return checkSuccession(cur.Plan, p)
}

// checkSpecs holds what names the documents against what a name is: of one that is at hand
// already nobody reads the chunks again.
func checkSpecs(p *plan.Plan) error {
	for _, ref := range p.Kept() {
		if len(ref.GetHash())+len(ref.GetChunks()) == 0 {
			continue // none, which no document is
		}
		for _, h := range append([][]byte{ref.GetHash()}, ref.GetChunks()...) {
			if len(h) != len(plan.Hash{}) {
				return fmt.Errorf("it names a spec by a hash of %d octets", len(h))
			}
		}
	}
	return nil
}

// checkOverrides holds overrides against S18: each has an ID of its own, and a person's an
// end.
func checkOverrides(p *plan.Plan) error {
	ids := map[string]bool{}
	for _, o := range p.GetOverrides() {
		switch {
		case o.GetId() == "" || ids[o.GetId()]:
			return fmt.Errorf("it has two overrides of ID %q, or one without", o.GetId())
		case o.GetAuthor() == SpecAuthor:
		case o.GetEnd() == nil:
			return fmt.Errorf("override %s of %s has no end", o.GetId(), o.GetScope())
		}
		ids[o.GetId()] = true
	}
	return nil
}

// checkEnds holds what a plan brings against S18: nothing ends too far from now. What stood
// before is not asked again: where a clock jumps back, or the next writer's is another, no
// plan could be written until that end, and none with which it is undone.
func checkEnds(cur, next *plan.Plan) error {
	was := map[string]time.Time{}
	for _, o := range cur.GetOverrides() {
		was[o.GetId()] = o.GetEnd().AsTime()
	}
	latest := next.GetWritten().AsTime().Add(defaultMaxDrain + clockSlack)
	for _, o := range next.GetOverrides() {
		end := o.GetEnd().AsTime()
		if old, stood := was[o.GetId()]; o.GetAuthor() == SpecAuthor || stood && old.Equal(end) || !end.After(latest) {
			continue
		}
		return fmt.Errorf("override %s of %s ends later than %s after it was written", o.GetId(), o.GetScope(), spec.FormatDuration(defaultMaxDrain))
	}
	return nil
}

// checkRollout holds a rollout against what it is for: some directors try, and others do
// not.
func checkRollout(p *plan.Plan) error {
	r := p.Soaking()
	if r == nil {
		return nil
	}
	if r.GetEnd() == nil || r.GetStart() == nil || len(r.GetOn()) == 0 {
		return fmt.Errorf("rollout %s has no end, or nobody tries it", r.GetId())
	}
	if !slices.ContainsFunc(p.Active(), func(d *plan.Director) bool { return !p.Canary(d.GetName()) }) {
		return fmt.Errorf("rollout %s is tried by all directors", r.GetId())
	}
	return nil
}

// checkZones holds serials against S13: none goes back.
func checkZones(cur, next *plan.Plan) error {
	was := map[string]*plan.ZoneSerial{}
	for _, z := range cur.GetZones() {
		was[z.GetName()] = z
	}
	for _, z := range next.GetZones() {
		old := was[z.GetName()]
		if old != nil && old.GetSerial() != z.GetSerial() && !grows(old.GetSerial(), z.GetSerial()) {
			return fmt.Errorf("the serial of zone %s goes back from %d to %d", z.GetName(), old.GetSerial(), z.GetSerial())
		}
	}
	return nil
}

// checkSuccession holds a plan against the one that it directly follows: the roster changes
// by one director at most, and forgets none.
func checkSuccession(cur, next *plan.Plan) error {
	changed := 0
	for _, d := range cur.GetRoster() {
		now := next.Director(d.GetName())
		switch {
		case now == nil:
			return fmt.Errorf("director %s has vanished from the roster", d.GetName())
		case now.GetStanding() == d.GetStanding() && d.GetStanding() == plan.Director_ACTIVE && len(d.GetKey()) > 0 && !bytes.Equal(now.GetKey(), d.GetKey()):
			// A person removes it first, and approves it with the other.
			return fmt.Errorf("director %s gets another key", d.GetName())
		case now.GetStanding() != d.GetStanding() || !bytes.Equal(now.GetKey(), d.GetKey()):
			changed++
		}
	}
	for _, d := range next.GetRoster() {
		if cur.Director(d.GetName()) == nil {
			changed++
		}
	}
	if changed > 1 {
		return fmt.Errorf("%d directors of the roster change at once", changed)
	}
	return nil
}

// CheckAnswers decides by a spec and a plan while nothing is known of health, and says what
// would be wrong with the answers, nil: nothing. It asks anew, of every class of clients,
// what the pipeline promises: nobody is sent to a cluster of another environment or to one
// that residency keeps from him (S11), and whoever residency leaves something has an answer
// (S1). That takes as long as a decision about everything.
func CheckAnswers(set *spec.Set, p *plan.Plan, places []steer.Place) error {
	if len(places) == 0 {
		places = []steer.Place{{}}
	}
	clusters := clustersOf(set)
	decision := steer.Decide(steer.Input{Spec: set, Plan: p, Places: places})
	checked := map[*steer.Ruling]bool{} // services that are decided as one
	for i := range decision.Services {
		s := &decision.Services[i]
		svc := set.Service(s.Name)
		if checked[s.Ruling] || svc == nil {
			continue
		}
		checked[s.Ruling] = true
		for f, v := range []*steer.View{&s.V4, &s.V6} {
			if err := checkView(svc, clusters, v, steer.Family(f), places); err != nil {
				return fmt.Errorf("service %s, %s: %w", s.Name, steer.Family(f), err)
			}
		}
	}
	return nil
}

func checkView(svc *spec.GlobalService, clusters map[string]*spec.Cluster, v *steer.View, f steer.Family, places []steer.Place) error {
	if len(v.Sets) == 0 {
		return nil
	}
	seen := map[*uint16]bool{} // most prefixes share their row with others; their rules may differ
	row := func(prefix netip.Prefix, sets []uint16) error {
		if len(svc.Residency) == 0 && len(sets) > 0 {
			if seen[&sets[0]] {
				return nil
			}
			seen[&sets[0]] = true
		}
		for place, n := range sets {
			if err := checkSet(svc, clusters, &v.Sets[n], f, prefix, places[place]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := row(netip.Prefix{}, v.ByPlace); err != nil {
		return err
	}
	for i := range v.ByPrefix {
		if err := row(v.ByPrefix[i].Prefix, v.ByPrefix[i].ByPlace); err != nil {
			return err
		}
	}
	return nil
}

// checkSet holds one answer against the rules that certainly apply to its clients. Rules
// that apply because a place is not known leave less still.
func checkSet(svc *spec.GlobalService, clusters map[string]*spec.Cluster, s *steer.Set, f steer.Family, prefix netip.Prefix, place steer.Place) error {
	allowed := func(name string) bool {
		c := clusters[name]
		if c == nil || c.Environment != svc.Environment {
			return false
		}
		for i := range svc.Residency {
			r := &svc.Residency[i]
			if (r.Clients.Has(place.Country, place.Continent) || prefix.IsValid() && r.Clients.Covers(prefix)) && !r.Allows(c) {
				return false
			}
		}
		return true
	}
	for _, c := range slices.Concat(s.Choices, s.Rest) {
		if c.Cluster != steer.FallbackSite && !allowed(c.Cluster) {
			return fmt.Errorf("clients of %s %s would be sent to %s, where they must not go (S11)", place.Country, prefixText(prefix), c.Cluster)
		}
	}
	if len(s.Choices) > 0 {
		return nil
	}
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		if allowed(e.Cluster) && slices.ContainsFunc(e.Watched(), f.Has) && !unplaced(svc, place) {
			return fmt.Errorf("clients of %s %s would have no answer, though %s may serve them (S1)", place.Country, prefixText(prefix), e.Cluster)
		}
	}
	return nil
}

// unplaced tells whether rules may apply to clients of a place for want of knowing it.
func unplaced(svc *spec.GlobalService, place steer.Place) bool {
	return len(svc.Residency) > 0 && (place.Country == "" || place.Continent == "")
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return "(no prefix)"
	}
	return p.String()
}

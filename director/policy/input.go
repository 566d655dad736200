package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/spec"
)

// Input is what a policy is asked about: one command of a person, as it would change the
// plan in force. Fields are only ever added.
type Input struct {
	Command Command `json:"command"`
	// Author is who gives the command, as he was authenticated (unix:alice, cert:alice,
	// token:ci), with the roles that he was granted somewhere and his groups
	// (group:unix:ops). Label is what he wrote beside it, which anybody can write.
	Author string   `json:"author"`
	Label  string   `json:"label,omitempty"`
	Roles  []string `json:"roles"`
	Groups []string `json:"groups"`
	// RequestedBy is who asked for what the author approves, as a second person.
	RequestedBy string `json:"requestedBy,omitempty"`
	// Now is the time of the decision, in nanoseconds since 1970: the only one there is.
	Now     int64        `json:"now"`
	Sites   []Site       `json:"sites"` // that a drain, or its end, is about
	Plan    PlanSummary  `json:"plan"`  // in force
	Preview core.Preview `json:"preview"`
	Spec    Specs        `json:"spec"`
}

// Command is what is wished.
type Command struct {
	Verb       string   `json:"verb"` // drain, undrain, apply, revert, rollout-go-on
	Scope      string   `json:"scope,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	For        float64  `json:"forSeconds,omitempty"`
	Paced      bool     `json:"paced,omitempty"`
	Now        bool     `json:"now,omitempty"`
	LastResort bool     `json:"lastResort,omitempty"`
	Force      bool     `json:"force,omitempty"`
	DryRun     bool     `json:"dryRun,omitempty"`
	BreakGlass bool     `json:"breakGlass,omitempty"`
	Prune      bool     `json:"prune,omitempty"`
	Canary     []string `json:"canary,omitempty"`
	Folder     string   `json:"folder,omitempty"` // the director whose own folder of spec files this is
}

// Site is one endpoint that a scope covers.
type Site struct {
	Service       string            `json:"service"`
	Cluster       string            `json:"cluster"`
	FaultDomain   string            `json:"faultDomain"`
	Environment   string            `json:"environment"`
	ClusterLabels map[string]string `json:"clusterLabels"`
}

// PlanSummary is the plan in force, without what only directors need.
type PlanSummary struct {
	Fleet     string          `json:"fleet"`
	Epoch     uint64          `json:"epoch"`
	Revision  uint64          `json:"revision"`
	Directors []string        `json:"directors"`
	Overrides []OverrideInput `json:"overrides"`
}

// OverrideInput is a drain, a freeze or a readmission that stands.
type OverrideInput struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"` // drain, observe, readmit
	Scope  string `json:"scope"`
	Author string `json:"author"`
	Reason string `json:"reason"`
	Since  int64  `json:"since"` // nanoseconds since 1970, as now
	End    int64  `json:"end,omitempty"`
}

// Specs are the resources as they were written, by kind and name. After is there only
// where the command changes the spec. The text of zones' records is left out.
type Specs struct {
	Before Resources `json:"before"`
	After  Resources `json:"after,omitempty"`
}

// Resources are a spec's objects: kind, then name, then the object.
type Resources map[string]map[string]json.RawMessage

// NewResources makes them of a spec's resources.
func NewResources(raws []spec.Raw) (Resources, error) {
	out := Resources{}
	for _, r := range raws {
		object := r.JSON
		if r.Kind == spec.KindZone {
			var err error
			if object, err = withoutRecords(object); err != nil {
				return nil, fmt.Errorf("%s/%s: %w", r.Kind, r.Name, err)
			}
		}
		if out[r.Kind] == nil {
			out[r.Kind] = map[string]json.RawMessage{}
		}
		out[r.Kind][r.Name] = object
	}
	return out, nil
}

// withoutRecords leaves a zone's records out, of which there may be tens of millions of
// octets.
func withoutRecords(object json.RawMessage) (json.RawMessage, error) {
	var zone map[string]json.RawMessage
	if err := json.Unmarshal(object, &zone); err != nil {
		return nil, err
	}
	var body map[string]json.RawMessage
	if len(zone["spec"]) == 0 {
		return object, nil
	}
	if err := json.Unmarshal(zone["spec"], &body); err != nil {
		return nil, err
	}
	delete(body, "records")
	var err error
	if zone["spec"], err = json.Marshal(body); err != nil {
		return nil, err
	}
	return json.Marshal(zone)
}

// Summarize tells a policy what it may know of a plan.
func Summarize(p *plan.Sealed) PlanSummary {
	out := PlanSummary{Fleet: p.Identity.Fleet, Epoch: p.Identity.Epoch, Revision: p.Identity.Revision, Directors: []string{}, Overrides: []OverrideInput{}}
	for _, d := range p.Plan.Active() {
		out.Directors = append(out.Directors, d.GetName())
	}
	for _, o := range p.Plan.GetOverrides() {
		v := OverrideInput{
			ID: o.GetId(), Kind: kindsOf()[o.GetKind()], Scope: o.GetScope(), Author: o.GetAuthor(), Reason: o.GetReason(),
			Since: o.GetStart().AsTime().UnixNano(),
		}
		if o.GetEnd() != nil {
			v.End = o.GetEnd().AsTime().UnixNano()
		}
		out.Overrides = append(out.Overrides, v)
	}
	return out
}

func kindsOf() map[plan.Override_Kind]string {
	return map[plan.Override_Kind]string{plan.Override_DRAIN: "drain", plan.Override_OBSERVE: "observe", plan.Override_READMIT: "readmit"}
}

// Of fills in what a command says.
func (c *Command) Of(cmd core.Command) {
	*c = Command{
		Verb: string(cmd.Verb), Scope: cmd.Scope, Reason: cmd.Reason, For: cmd.For.Seconds(), Paced: cmd.Paced, Now: cmd.Now, LastResort: cmd.LastResort,
		Force: cmd.Force, DryRun: cmd.DryRun, BreakGlass: cmd.BreakGlass, Prune: cmd.Prune, Canary: cmd.Canary, Folder: cmd.Folder,
	}
}

// JSON is the input as Judge takes it.
func (in Input) JSON() ([]byte, error) {
	if in.Roles == nil {
		in.Roles = []string{}
	}
	if in.Groups == nil {
		in.Groups = []string{}
	}
	if in.Sites == nil {
		in.Sites = []Site{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(in); err != nil {
		return nil, fmt.Errorf("writing the input of a policy: %w", err)
	}
	return b.Bytes(), nil
}

// At sets the time.
func (in *Input) At(now time.Time) { in.Now = now.UnixNano() }

// PointOf tells at which point a verb is asked about; "" where it is not.
func PointOf(verb core.Verb) Point {
	switch verb {
	case core.Drain, core.Undrain:
		return Drain
	case core.Apply, core.Revert, core.GoOn:
		return Admission
	default:
		return ""
	}
}

// VerbOf reads which verb an input is about.
func VerbOf(input []byte) (string, error) {
	var in struct {
		Command struct {
			Verb string `json:"verb"`
		} `json:"command"`
	}
	if err := json.Unmarshal(input, &in); err != nil {
		return "", fmt.Errorf("the input is no JSON of a command: %w", err)
	}
	return in.Command.Verb, nil
}

package director

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/divertdns/divert/director/plan"
)

// Emergency drains are in no plan, so history keeps them beside it: what was answered
// cannot be told without.

func sameOverride(a, b *plan.Override) bool { return proto.Equal(a, b) }

// overrideOctets gives what history keeps; never nil, since none says that there are none.
func overrideOctets(list []*plan.Override) *[][]byte {
	out := make([][]byte, 0, len(list))
	for _, o := range list {
		if b, err := proto.Marshal(o); err == nil {
			out = append(out, b)
		}
	}
	return &out
}

func overridesOf(list [][]byte) ([]*plan.Override, error) {
	out := make([]*plan.Override, 0, len(list))
	for _, b := range list {
		o := &plan.Override{}
		if err := proto.Unmarshal(b, o); err != nil {
			return nil, fmt.Errorf("an emergency drain: %w", err)
		}
		out = append(out, o)
	}
	return out, nil
}

// withOverrides gives a plan with further ones, or itself where there are none.
func withOverrides(p *plan.Plan, more []*plan.Override) *plan.Plan {
	if len(more) == 0 {
		return p
	}
	with := proto.CloneOf(p)
	with.Overrides = append(with.Overrides, more...)
	return with
}

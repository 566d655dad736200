package core

import (
	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/health"
)

// Voters lists the directors whose votes count by a plan: all that are active, those
// without a key yet among them.
func Voters(p *plan.Plan) []health.Director {
	var out []health.Director
	for _, d := range p.Active() {
		out = append(out, health.Director{Name: d.GetName(), Site: d.GetSite()})
	}
	return out
}

// Others names them without one.
func Others(voters []health.Director, self string) []string {
	var out []string
	for _, d := range voters {
		if d.Name != self {
			out = append(out, d.Name)
		}
	}
	return out
}

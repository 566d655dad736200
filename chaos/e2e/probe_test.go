package e2e

import "github.com/divertdns/divert/director/api"

// seen has the i-th director have all probe a target, and gives the verdict of each
// site as "fra d1- d2+ d3+ disagree": the worst of its probes.
func (r *rig) seen(i int, target string, code int) map[string]string {
	r.t.Helper()
	out, got := r.divert(i, "probe", target, "-o", "json")
	if got != code {
		r.t.Fatalf("divert probe %s: exit %d, want %d\n%s", target, got, code, out)
	}
	p := decode[api.Probing](r.t, out)
	for _, o := range p.Observers {
		if o.State != "answered" {
			r.t.Errorf("%s: %s, %s", o.Name, o.State, o.Why)
		}
	}
	sites := map[string]string{}
	for _, t := range p.Targets {
		line := ""
		for _, result := range t.Results {
			line += result.Director + map[string]string{"ok": "+", "failed": "-", "void": "?"}[result.Outcome] + " "
		}
		for _, e := range t.Endpoints {
			if sites[e] == "" || t.Verdict != "pass" {
				sites[e] = line + t.Verdict
			}
		}
	}
	return sites
}

// matrix checks what the directors see of a service: the verdict of each site.
func (r *rig) matrix(i int, target string, code int, want map[string]string) {
	r.t.Helper()
	got := r.seen(i, target, code)
	for site, line := range want {
		if got[site] != line {
			r.t.Errorf("divert probe %s: %s is %q, want %q", target, site, got[site], line)
		}
	}
	if len(got) != len(want) {
		r.t.Errorf("divert probe %s: got %v, want %v", target, got, want)
	}
}

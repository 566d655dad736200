package spec

import "fmt"

// Problem is one thing wrong, or worth a warning, in what a person wrote.
type Problem struct {
	File    string // "" where there is none
	Line    int    // from 1; 0 where unknown
	Path    string // "GlobalService/shop spec.endpoints[1].cluster"
	Message string // what is wrong
	Remedy  string // what to do
	Warning bool
}

// String is what `divert check` prints, one line.
func (p Problem) String() string {
	kind := "error"
	if p.Warning {
		kind = "warning"
	}
	s := fmt.Sprintf("%s:%d: %s: %s: %s", p.File, p.Line, kind, p.Path, p.Message)
	if p.Remedy != "" {
		s += " (" + p.Remedy + ")"
	}
	return s
}

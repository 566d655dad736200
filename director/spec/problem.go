package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

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
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
		if p.Line > 0 {
			fmt.Fprintf(&b, "%d:", p.Line)
		}
		b.WriteByte(' ')
	}
	if p.Warning {
		b.WriteString("warning: ")
	} else {
		b.WriteString("error: ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Remedy != "" {
		b.WriteString(" (" + p.Remedy + ")")
	}
	return b.String()
}

// Failed reports whether any problem is more than a warning.
func Failed(ps []Problem) bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning })
}

// tidy orders problems by where they stand, drops repetitions and bounds their
// number, errors first to stay.
func tidy(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Remedy, b.Remedy))
	})
	ps = slices.Compact(ps)
	if len(ps) <= maxProblems {
		return ps
	}
	rest := len(ps) - maxProblems
	errorsFirst := slices.Clone(ps)
	slices.SortStableFunc(errorsFirst, func(a, b Problem) int {
		switch {
		case a.Warning == b.Warning:
			return 0
		case b.Warning:
			return -1
		default:
			return 1
		}
	})
	return append(errorsFirst[:maxProblems], Problem{
		Message: fmt.Sprintf("and %d more", rest), Remedy: "mend these first", Warning: errorsFirst[0].Warning,
	})
}

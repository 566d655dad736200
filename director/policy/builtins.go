package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowed lists the builtins that a rule may use. All of them are functions of their
// arguments alone, and end soon on an input of MaxInput octets, or when they are told to:
// what is not listed does not exist for a bundle, so that one that a later OPA brings is
// none until somebody has looked at it.
//
// Left out besides what reaches outside: shifts of bits and templates (a short rule makes
// octets without end), schemas (they may be fetched), certificates and keys, and the
// intersection of globs (exponential).
func allowed() []string {
	return []string{
		"eq", "assign", "equal", "neq", "gt", "gte", "lt", "lte",
		"internal.member_2", "internal.member_3", "internal.template_string",
		"plus", "minus", "mul", "div", "rem", "abs", "ceil", "floor", "round",
		"and", "or", "intersection", "union", "count", "sum", "product", "max", "min", "sort",
		"array.concat", "array.flatten", "array.reverse", "array.slice",
		"object.filter", "object.get", "object.keys", "object.remove", "object.subset", "object.union", "object.union_n",
		"json.filter", "json.is_valid", "json.marshal", "json.patch", "json.remove", "json.unmarshal",
		"concat", "contains", "endswith", "format_int", "indexof", "indexof_n", "lower", "replace", "split", "sprintf",
		"startswith", "strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "strings.replace_n",
		"strings.reverse", "strings.split_n", "substring", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "upper",
		"regex.find_all_string_submatch_n", "regex.find_n", "regex.is_valid", "regex.match", "regex.replace", "regex.split",
		"glob.match", "glob.quote_meta",
		"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name", "to_number",
		"numbers.range", "numbers.range_step", "units.parse", "units.parse_bytes", "semver.compare", "semver.is_valid",
		"graph.reachable", "walk",
		// Of the time: only what reads one that is given. The time of a decision is input.now.
		"time.add_date", "time.clock", "time.date", "time.diff", "time.format",
		"time.parse_duration_ns", "time.parse_ns", "time.parse_rfc3339_ns", "time.weekday",
	}
}

// capabilities are those of a bundle.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	names := allowed()
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool { return !slices.Contains(names, b.Name) })
	c.AllowNet = []string{} // nil would be everything
	return c
}

// forbidden tells whether a name is of a builtin that OPA has and a bundle may not use.
func forbidden(name string) bool {
	if slices.Contains(allowed(), name) {
		return false
	}
	return slices.ContainsFunc(ast.Builtins, func(b *ast.Builtin) bool { return b.Name == name || b.Infix == name && name != "" })
}

// explained turns an error of OPA's about a builtin into one that says why there is none.
func explained(message string) (text, remedy string) {
	name, found := strings.CutPrefix(message, "undefined function ")
	if !found || !forbidden(name) {
		return message, ""
	}
	text = fmt.Sprintf("%s may not be used: a policy has no network, clock, random or host", name)
	switch {
	case name == "time.now_ns":
		return text, "use input.now, the time of the decision in nanoseconds"
	case strings.Contains(name, "print"), name == "trace":
		return fmt.Sprintf("%s may not be used: directors print nothing that a policy says", name), "say it in the msg of a denial, or look at it with `divert policy eval`"
	default:
		return text, "decide from input and from data.json; director/policy/DESIGN.md lists what may be used"
	}
}

package access

import "fmt"

// Role is how much an identity may do, each as much as the one before and more.
type Role int

// The roles.
const (
	Nobody   Role = iota
	Viewer        // sees
	Operator      // moves traffic: drains, freezes, switches, rollouts
	Admin         // says what there is, and who may do what
)

// String is the role's word.
func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Operator:
		return "operator"
	case Admin:
		return "admin"
	default:
		return "nobody"
	}
}

// ParseRole reads what String wrote, but for nobody, which none is given.
func ParseRole(s string) (Role, error) {
	for _, r := range []Role{Viewer, Operator, Admin} {
		if s == r.String() {
			return r, nil
		}
	}
	return Nobody, fmt.Errorf("%.40q is no role: want viewer, operator or admin", s)
}

// MarshalText writes the role's word.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads one.
func (r *Role) UnmarshalText(b []byte) error {
	if string(b) == Nobody.String() {
		*r = Nobody
		return nil
	}
	role, err := ParseRole(string(b))
	*r = role
	return err
}

// Action is something that may be done: a verb of a command, or what a route does.
type Action string

// The actions of routes. Those of commands have the names of their verbs.
const (
	Open    Action = "open"    // says nothing worth keeping: whether this director lives
	Self    Action = "self"    // asks what one may do
	See     Action = "see"     // reads what the fleet is and does
	Probe   Action = "probe"   // has all directors probe what is in the spec
	Command Action = "command" // sends a command, whose verb has an action of its own
	Word    Action = "word"    // sends an operator's signed word, whose scope is asked for beside
	Backup  Action = "backup"  // takes all of intent away
	Check   Action = "check"   // reads the whole store
	Tokens  Action = "tokens"  // lists the tokens, without their secrets, which nobody has
	Secrets Action = "secrets" // lists the secrets by name, and to whom they are encrypted
	Keep    Action = "keep"    // begins, mends, moves and restores the store
)

// need says what an action takes: a role, and whether what it is done to must lie in
// the scope of the grant. Known is false for an action that has no row here: nobody
// may do it.
func (a Action) need() (role Role, scoped, known bool) {
	switch a {
	case Open, Self:
		return Nobody, false, true
	case See, Probe:
		return Viewer, false, true
	case Command, Word:
		return Operator, false, true
	case Backup, Check, Keep, Tokens, Secrets:
		return Admin, true, true
	case "approve", "deny", "acknowledge": // and what is approved or denied besides, see core
		return Operator, false, true
	case "drain", "undrain", "freeze", "thaw", "readmit", "interlock-on", "interlock-off",
		"revert", "rollout-go-on", "rollout-abort":
		return Operator, true, true
	case "apply", "director-approve", "director-remove", "operator-add", "operator-remove", "gossip-rotate", "gossip-back", "secret-set", "secret-remove",
		"enrol-token-create", "enrol-token-revoke",
		"token-create", "token-revoke", "policy-adopt", "policy-drop":
		return Admin, true, true
	}
	return Nobody, false, false
}

// Needs says what an action takes: a role, and whether that must be of the fleet or of
// what the action is done to, rather than of anything.
func (a Action) Needs() (role Role, scoped bool) {
	role, scoped, _ = a.need()
	return role, scoped
}

// Known tells whether an action has a row: what has none, nobody may do.
func (a Action) Known() bool {
	_, _, known := a.need()
	return known
}

// reads tells whether a route only reads, and so is there for whoever asks on loopback.
func (a Action) reads() bool {
	switch a {
	case Open, Self, See, Probe, Backup, Check:
		return true
	}
	return false
}

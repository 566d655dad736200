// Package election holds what a leadership is, as values. Who campaigns, and
// how, is the business of the packages below it; nothing here decides anything.
package election

// Term is one leadership, as a fence: a write of the leader's own compares the
// create-revision of its key (S4).
type Term struct {
	Leader         string // director name
	Key            string // the leader's key in the store
	CreateRevision int64
}

// Status is what a director knows of the leadership now.
type Status struct {
	Leader string // "" when nobody is known to lead
	Mine   bool
	Term   Term // meaningful when Mine
}

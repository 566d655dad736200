// Package director wires the parts into one running director and owns the one
// loop that turns reports, votes and plans into answers. It never decides: what
// is true is health's business, what is wanted director/core's, who serves whom
// director/steer's.
package director

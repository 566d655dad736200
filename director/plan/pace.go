package plan

// Whole is all of a scope's clients, in per mille.
const Whole = 1000

// Keep gives the clients that a drained scope still has, or has again, in per mille: 0 of
// a drain that is whole. What cannot be read is whole, too: a person has said so, and
// what nobody else can serve is answered all the same (S1).
func (o *Override) Keep() uint32 {
	p := o.GetPace()
	if i := int(p.GetStep()); i < len(p.GetSteps()) {
		return min(p.GetSteps()[i], Whole)
	}
	return 0
}

// Ends tells whether the scope gets its clients back because the drain ends.
func (o *Override) Ends() bool { return o.GetPace().GetState() == Pace_RETURNING }

// GivesBack tells whether the scope has its clients back, or is to have them: nobody means
// it to be away any more.
func (o *Override) GivesBack() bool {
	switch o.GetPace().GetState() {
	case Pace_RETURNING, Pace_ROLLING_BACK, Pace_ROLLED_BACK:
		return true
	default:
		return false
	}
}

// Last tells whether the step in force is the last one.
func (p *Pace) Last() bool { return int(p.GetStep())+1 >= len(p.GetSteps()) }

// Paced tells whether some drain of a plan goes, or ends, in steps.
func (p *Plan) Paced() bool {
	for _, o := range p.GetOverrides() {
		if o.GetPace() != nil {
			return true
		}
	}
	return false
}

package health

// Tally counts the votes in force, for metrics.
func (p *Publisher) Tally() (up, down int) {
	for _, c := range p.votes {
		switch c.vote.To {
		case Up:
			up++
		case Down:
			down++
		}
	}
	return up, down
}

package health

// Tally counts the votes in force, for metrics. Those that lean are none for up.
func (p *Publisher) Tally() (up, down, leaning int) {
	for _, c := range p.votes {
		switch {
		case c.vote.Leans():
			leaning++
		case c.vote.To == Up:
			up++
		case c.vote.To == Down:
			down++
		}
	}
	return up, down, leaning
}

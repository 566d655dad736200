package detect

import "time"

// Pattern is a kind of bad weather in which a target that is well is left alone.
type Pattern struct {
	Name  string // with the row of the fault catalogue
	Model Model
	Leap  bool // paths lose packets independently, so Skip may be used
}

// Fleet is what patterns are tried on: five directors, each in a site of its own
// unless said otherwise, votes 40 ms away.
func Fleet(observers int, rhythm Rhythm, w Weather) Model {
	if w.RTT == 0 {
		w.RTT = 20 * time.Millisecond
	}
	return Model{Observers: observers, Rhythm: rhythm, Weather: w, VoteDelay: 40 * time.Millisecond, VoteLoss: w.Loss}
}

// F4 loses a tenth of all packets, each way, votes too.
func F4(observers int) Model { return Fleet(observers, FastSignal(), Weather{Loss: 0.1}) }

// Patterns lists them.
func Patterns() []Pattern {
	const ms = time.Millisecond
	fast, deep := FastSignal(), DeepProbe()
	pathBursts := Bursts{Every: 10 * time.Second, Lasts: 200 * ms}
	common := Bursts{Every: 5 * time.Second, Lasts: 200 * ms, Fixed: true}
	swell := Bursts{Every: 15 * time.Second, Lasts: 5 * time.Second}
	site := Fleet(5, fast, Weather{Loss: 0.02, Blind: []int{0, 2, 4}})
	site.Sites = 2
	return []Pattern{
		{"F4: 10 % loss each way, 5 directors", F4(5), true},
		{"F4: 10 % loss each way, 3 directors", F4(3), true},
		{"F4: 10 % loss each way, 1 director", F4(1), true},
		{"F4: the same, round trips of 150 ms", Fleet(5, fast, Weather{Loss: 0.1, RTT: 150 * ms}), true},
		{"F4: the same, deep probes", Fleet(5, deep, Weather{Loss: 0.1}), true},
		{"F4: the same, one director lies", Fleet(5, fast, Weather{Loss: 0.1, Liar: true}), true},
		{"F5: bursts of 200 ms in the mean on each path", Fleet(5, fast, Weather{Bursts: pathBursts}), false},
		{"F5: the same, deep probes", Fleet(5, deep, Weather{Bursts: pathBursts}), false},
		{"F5: bursts of 200 ms at the target, and 2 % loss", Fleet(5, fast, Weather{Loss: 0.02, Common: common}), false},
		{"F5: the same, 10 % loss", Fleet(5, fast, Weather{Loss: 0.1, Common: common}), false},
		{"F5: the same, deep probes", Fleet(5, deep, Weather{Loss: 0.02, Common: common}), false},
		{"F6: one director reaches nothing, 10 % loss", Fleet(5, fast, Weather{Loss: 0.1, Blind: []int{0}}), false},
		{"F6: one site of two reaches nothing, 3 directors of 5", site, false},
		{"F12: every director runs for 1 s, stands for 0.3 s", Fleet(5, fast, Weather{Loss: 0.1, Starved: Bursts{Every: time.Second, Lasts: 300 * ms}}), false},
		{"F14: 300 ms more and back, and jitter", Fleet(5, fast, Weather{Spread: 40 * ms, SwellCommon: swell, SwellBy: 300 * ms}), false},
		{"F14: the same, on each path by itself, 5 % loss", Fleet(5, fast, Weather{Loss: 0.05, Spread: 40 * ms, Swell: swell, SwellBy: 300 * ms}), false},
		{"F14: the same, deep probes", Fleet(5, deep, Weather{Spread: 40 * ms, SwellCommon: swell, SwellBy: 300 * ms}), false},
	}
}

// Dying lists how targets die.
func Dying() []Pattern {
	fast, deep := FastSignal(), DeepProbe()
	return []Pattern{
		{Name: "F1: silence, 5 directors", Model: Fleet(5, fast, Weather{})},
		{Name: "F1: silence, 5 directors, 10 % loss", Model: F4(5)},
		{Name: "F1: silence, 5 directors, round trips of 150 ms", Model: Fleet(5, fast, Weather{RTT: 150 * time.Millisecond})},
		{Name: "F1: silence, 5 directors, with bursts on each path", Model: Fleet(5, fast, Weather{Bursts: Bursts{Every: 10 * time.Second, Lasts: 200 * time.Millisecond}})},
		{Name: "F1: silence, 3 directors", Model: Fleet(3, fast, Weather{})},
		{Name: "F1: silence, 3 directors, 10 % loss", Model: F4(3)},
		{Name: "F1: silence, 1 director", Model: Fleet(1, fast, Weather{})},
		{Name: "F3: it hangs, 5 directors", Model: Fleet(5, deep, Weather{Jam: true})},
		{Name: "F3: it hangs, 3 directors", Model: Fleet(3, deep, Weather{Jam: true})},
	}
}

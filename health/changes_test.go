package health

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestChangesTellAll: who follows Changes has the states, and a map that States gave
// never changes.
func TestChangesTellAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		b := NewBook("d1", []Director{{Name: "d1"}}, 0)
		var mirror map[Subject]State
		var given, copied []map[Subject]State
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Second)
			s := signal(rapid.IntRange(1, 4).Draw(t, "subject"))
			switch topic := b.topics[s]; rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				var subjects []Subject
				for i := range rapid.IntRange(0, 4).Draw(t, "subjects") {
					subjects = append(subjects, signal(i+1))
				}
				b.SetSubjects(subjects, now)
			case 1, 2:
				if topic != nil {
					b.advance(topic, Certificate{Subject: s, N: topic.chain.N + 1}, now)
				}
			case 3:
				if topic != nil && topic.chain.N > 0 {
					b.takeBack(topic, topic.chain.N-1)
				}
			case 4:
				given = append(given, b.States())
				copied = append(copied, maps.Clone(b.States()))
			}
			if rapid.Bool().Draw(t, "followed") {
				if changed := b.Changes(); changed == nil {
					mirror = maps.Clone(b.Standing())
				} else {
					for _, c := range changed {
						mirror[c.Subject] = c.State
					}
				}
				want := map[Subject]State{}
				for s, topic := range b.topics {
					if topic.known {
						want[s] = topic.chain.State()
					}
				}
				if !maps.Equal(mirror, want) || !maps.Equal(b.Standing(), want) {
					t.Fatalf("followed %v, standing %v, want %v", mirror, b.Standing(), want)
				}
			}
			for i := range given {
				if !maps.Equal(given[i], copied[i]) {
					t.Fatalf("what was given has changed: %v, was %v", given[i], copied[i])
				}
			}
		}
	})
}

package core

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/plan"
)

// MaxWords is how many words of one operator are kept: the highest by counter, then ID,
// whoever heard them in whatever order. What is below the lowest of so many is refused, so
// that nothing that was forgotten comes back.
const MaxWords = 32

// maxClaims is more directors than say how old a word is.
const maxClaims = 64

// EmergencyPenalty is added to the age of each word at a restart: as much may have gone by
// unsaved. So a director that starts again and again does not go on for ever.
const EmergencyPenalty = 10 * time.Second

// EmergencyDay is how long ago a word may have been said, by wall clocks, for a director that
// starts to go on with it: much longer than clocks are off (F15), and short enough that a
// disk which lay in a drawer drains nothing.
const EmergencyDay = 24 * time.Hour

// Emergencies are the words of operators that one director holds: they merge by union, and
// stay, over or ended, until the plan settles them. Ages are by the holder's own monotonic
// clock; of the others' only how much has gone by is heard. It is one owner's; the zero
// value is ready.
type Emergencies struct {
	words map[plan.Hash]*heldWord
}

// heldWord is a word and since when it counts, on the holder's clock.
type heldWord struct {
	word   *plan.Word
	heard  time.Time            // here, or as the disk said
	claims map[string]time.Time // since when it counts, by what other directors say of its age
}

// born is since when a word counts. It is never later than when it was heard here, so that
// it lasts an hour at most. Beyond that the second eldest of what others say is believed:
// one director alone, however wrong, ends nothing; but where only one has spoken, such as
// to one that comes back from a partition, that is all that can be known.
func (h *heldWord) born() time.Time {
	said := slices.SortedFunc(maps.Values(h.claims), time.Time.Compare)
	switch n := len(said); {
	case n == 0:
		return h.heard
	case said[min(n-1, 1)].Before(h.heard):
		return said[min(n-1, 1)]
	default:
		return h.heard
	}
}

func (h *heldWord) left(now time.Time) time.Duration {
	return min(h.word.GetLasts().AsDuration(), plan.MaxEmergency) - now.Sub(h.born())
}

// Add takes a word in. New: it was not held, and is now; of one operator only so many are.
func (e *Emergencies) Add(w *plan.Word, now time.Time) (added bool) {
	if e.words == nil {
		e.words = map[plan.Hash]*heldWord{}
	}
	if e.words[w.Sum] != nil {
		return false
	}
	e.words[w.Sum] = &heldWord{word: w, heard: now}
	of := e.of(w)
	if len(of) > MaxWords {
		delete(e.words, of[0].Sum)
	}
	return e.words[w.Sum] != nil
}

// of lists the words of an operator's key, in their order.
func (e *Emergencies) of(w *plan.Word) []*plan.Word {
	var out []*plan.Word
	for _, h := range e.words {
		if h.word.GetOperator() == w.GetOperator() && string(h.word.Key) == string(w.Key) {
			out = append(out, h.word)
		}
	}
	slices.SortFunc(out, plan.CompareWords)
	return out
}

// Holds tells whether a word that goes out would change what is gone by: a drain that has
// time left, unless it is undrained, or what keeps one undrained.
func (e *Emergencies) Holds(w *plan.Word, now time.Time) bool {
	ended := func(id string) bool {
		for _, h := range e.words {
			if h.word != w && h.word.GetEnds() == id {
				return true
			}
		}
		return false
	}
	for _, h := range e.words {
		id := h.word.GetId()
		if h.word.GetEnds() == "" && h.left(now) > 0 && !ended(id) && (h.word == w || w.GetEnds() == id) {
			return true
		}
	}
	return false
}

// Displaces gives the word that a further one of the same operator would put out; nil when
// there is room.
func (e *Emergencies) Displaces(w *plan.Word) *plan.Word {
	if of := e.of(w); len(of) >= MaxWords {
		return of[0]
	}
	return nil
}

// Claim notes how long another director says that a word counts already.
func (e *Emergencies) Claim(sum plan.Hash, director string, age time.Duration, now time.Time) {
	h := e.words[sum]
	if h == nil {
		return
	}
	if h.claims == nil {
		h.claims = map[string]time.Time{}
	}
	if _, known := h.claims[director]; !known && len(h.claims) >= maxClaims {
		return
	}
	h.claims[director] = now.Add(-min(max(age, 0), plan.MaxEmergency))
}

// Word finds a word; nil when it is not held.
func (e *Emergencies) Word(sum plan.Hash) *plan.Word {
	if h := e.words[sum]; h != nil {
		return h.word
	}
	return nil
}

// Age is how long a word counts already.
func (e *Emergencies) Age(sum plan.Hash, now time.Time) time.Duration {
	if h := e.words[sum]; h != nil {
		return max(0, now.Sub(h.born()))
	}
	return 0
}

// Told lists the words in their order, with what each has left.
func (e *Emergencies) Told(now time.Time) []Told {
	out := make([]Told, 0, len(e.words))
	for _, h := range e.words {
		out = append(out, Told{Word: h.word, Left: h.left(now)})
	}
	slices.SortFunc(out, func(a, b Told) int { return plan.CompareWords(a.Word, b.Word) })
	return out
}

// Len is how many words are held.
func (e *Emergencies) Len() int { return len(e.words) }

// Counted is the highest counter of the words that are held.
func (e *Emergencies) Counted() uint64 {
	n := uint64(0)
	for _, h := range e.words {
		n = max(n, h.word.GetCounter())
	}
	return n
}

// Forget drops what a plan settles, and what it does not heed; it tells whether there was
// any. The caller has that plan on its disk, or a crash would leave neither.
func (e *Emergencies) Forget(p *plan.Plan) (forgot bool) {
	for sum, h := range e.words {
		if p.Heeds(h.word) != nil || p.Settles(h.word) {
			delete(e.words, sum)
			forgot = true
		}
	}
	return forgot
}

// Drop takes one word out, which could not be written to the disk.
func (e *Emergencies) Drop(sum plan.Hash) { delete(e.words, sum) }

// The journal is protobuf's wire encoding: a format, then each word with its age and
// whether it was in force, so that the very first table after a start goes by it.
const (
	journalFormat                  = 1
	fieldFormat   protowire.Number = 1
	fieldWord     protowire.Number = 2
	fieldRaw      protowire.Number = 1
	fieldAge      protowire.Number = 2 // milliseconds
	fieldInForce  protowire.Number = 3
)

var errJournal = errors.New("the journal of emergencies cannot be read")

// Encode gives the journal. Judged says which are in force.
func (e *Emergencies) Encode(judged []Emergency, now time.Time) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, fieldFormat, protowire.VarintType), journalFormat)
	inForce := map[plan.Hash]bool{}
	for _, j := range judged {
		inForce[j.Word.Sum] = j.State == EmergencyInForce
	}
	for _, t := range e.Told(now) {
		one := protowire.AppendBytes(protowire.AppendTag(nil, fieldRaw, protowire.BytesType), t.Word.Raw)
		one = protowire.AppendVarint(protowire.AppendTag(one, fieldAge, protowire.VarintType), uint64(e.Age(t.Word.Sum, now)/time.Millisecond))
		one = protowire.AppendVarint(protowire.AppendTag(one, fieldInForce, protowire.VarintType), protowire.EncodeBool(inForce[t.Word.Sum]))
		b = protowire.AppendBytes(protowire.AppendTag(b, fieldWord, protowire.BytesType), one)
	}
	return b
}

// Decode reads a journal at a start: each word goes on with the age that it had, and a
// little more (EmergencyPenalty). The time off does not count, since no monotonic clock
// tells it; the others' word for it does, once they are heard, and what was said more than
// a day ago (EmergencyDay) is over. It gives the sums of those
// that were in force. On an error what could be read is held.
func (e *Emergencies) Decode(b []byte, now, wall time.Time) (inForce map[plan.Hash]bool, err error) {
	inForce = map[plan.Hash]bool{}
	format := uint64(0)
	err = eachField(b, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case fieldFormat:
			if format = n; format > journalFormat {
				return fmt.Errorf("%w: it has format %d, this director reads %d: upgrade it", errJournal, format, journalFormat)
			}
		case fieldWord:
			return e.decodeWord(data, inForce, now, wall)
		}
		return nil
	})
	if err == nil && format == 0 {
		err = errJournal
	}
	return inForce, err
}

func (e *Emergencies) decodeWord(b []byte, inForce map[plan.Hash]bool, now, wall time.Time) error {
	var word *plan.Word
	var age time.Duration
	var was bool
	err := eachField(b, func(num protowire.Number, n uint64, data []byte) (err error) {
		switch num {
		case fieldRaw:
			word, err = plan.OpenWord(data)
		case fieldAge:
			age = time.Duration(min(n, uint64(plan.MaxEmergency/time.Millisecond))) * time.Millisecond
		case fieldInForce:
			was = n == 1
		}
		return err
	})
	if err != nil {
		return err
	}
	if word == nil {
		return errJournal
	}
	if longSaid(word, wall) {
		age, was = plan.MaxEmergency, false
	}
	if e.Add(word, now.Add(-age-EmergencyPenalty)) && was {
		inForce[word.Sum] = true
	}
	return nil
}

// eachField calls f for each field that is a number or octets.
func eachField(b []byte, f func(num protowire.Number, n uint64, data []byte) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errJournal
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, kind, b)
		}
		if n < 0 {
			return errJournal
		}
		b = b[n:]
		if kind != protowire.VarintType && kind != protowire.BytesType {
			continue
		}
		if err := f(num, v, data); err != nil {
			return err
		}
	}
	return nil
}

package director

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/health"
)

// Questions and answers of a panel are protobuf on the wire, as health's messages are:
// fields that are not known are passed over, a later format is refused whole.
const (
	panelFormat = 1
	maxAsked    = 2 * time.Minute // that a question may have its answerer work for
	maxWhy      = 240             // octets of a reason; with maxAimed results an answer stays below a mebibyte
	maxPlanName = 48
	maxSubject  = 96
)

// question asks a director to probe now what its own spec has at a target. Number
// grows with each question of one boot of its author.
type question struct {
	number uint64
	target string
	wait   time.Duration // how long the author can use an answer
}

// answerState says how far a director is with a question.
type answerState uint8

const (
	answerUnknown answerState = iota
	answerTaken               // it is at work
	answerDone
	answerRefused
)

// panelAnswer is what a director says to a question.
type panelAnswer struct {
	number uint64
	state  answerState
	why    string // of a refusal
	plan   string // epoch.revision of the spec that was probed by
	seen   []seen // done: one for each subject
}

// outcome is what one probe came to.
type outcome uint8

const (
	outcomeUnknown outcome = iota
	outcomeOK
	outcomeFailed
	outcomeVoid // says nothing of the target
)

func (o outcome) String() string {
	switch o {
	case outcomeOK:
		return "ok"
	case outcomeFailed:
		return "failed"
	case outcomeVoid:
		return "void"
	default:
		return "unknown"
	}
}

// seen is one probe of one director.
type seen struct {
	subject health.Subject
	outcome outcome
	took    time.Duration
	why     string // of a failure; else what is to be said of it, if anything
}

var errPanel = errors.New("malformed question or answer")

func (q question) encode() []byte {
	b := putVarint(nil, 1, panelFormat)
	b = putVarint(b, 2, q.number)
	b = putText(b, 3, q.target)
	return putVarint(b, 4, uint64(q.wait/time.Millisecond))
}

func decodeQuestion(payload []byte) (question, error) {
	var q question
	format := uint64(0)
	err := eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			q.number = n
		case 3:
			if len(data) > maxAim {
				return errPanel
			}
			q.target = string(data) // aim refuses what is no target
		case 4:
			q.wait = time.Duration(min(n, uint64(maxAsked/time.Millisecond))) * time.Millisecond
		}
		return nil
	})
	if err == nil && (format != panelFormat || q.number == 0) {
		err = errPanel
	}
	return q, err
}

func (a panelAnswer) encode() []byte {
	b := putVarint(nil, 1, panelFormat)
	b = putVarint(b, 2, a.number)
	b = putVarint(b, 3, uint64(a.state))
	b = putText(b, 4, legible(a.why))
	b = putText(b, 5, a.plan)
	var one []byte
	for _, s := range a.seen {
		one = putText(one[:0], 1, s.subject.String())
		one = putVarint(one, 2, uint64(s.outcome))
		one = putVarint(one, 3, uint64(max(s.took, 0)/time.Microsecond))
		one = putText(one, 4, legible(s.why))
		b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), one)
	}
	return b
}

func decodeAnswer(payload []byte) (panelAnswer, error) {
	var a panelAnswer
	format := uint64(0)
	err := eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) (err error) {
		switch num {
		case 1:
			format = n
		case 2:
			a.number = n
		case 3:
			if n == 0 || n > uint64(answerRefused) {
				return errPanel
			}
			a.state = answerState(n)
		case 4:
			a.why = legible(string(data))
		case 5:
			if len(data) > maxPlanName {
				return errPanel
			}
			a.plan = legible(string(data))
		case 6:
			if len(a.seen) == maxAimed {
				return errPanel
			}
			var s seen
			if s, err = decodeSeen(data); err == nil {
				a.seen = append(a.seen, s)
			}
		}
		return err
	})
	if err == nil && (format != panelFormat || a.number == 0 || a.state == answerUnknown) {
		err = errPanel
	}
	return a, err
}

func decodeSeen(b []byte) (seen, error) {
	var s seen
	err := eachPanelField(b, func(num protowire.Number, n uint64, data []byte) (err error) {
		switch num {
		case 1:
			if len(data) > maxSubject {
				return errPanel
			}
			s.subject, err = health.ParseSubject(string(data))
		case 2:
			if n == 0 || n > uint64(outcomeVoid) {
				return errPanel
			}
			s.outcome = outcome(n)
		case 3:
			s.took = time.Duration(min(n, uint64(maxAsked/time.Microsecond))) * time.Microsecond
		case 4:
			s.why = legible(string(data))
		}
		return err
	})
	if err == nil && (!s.subject.Valid() || s.outcome == outcomeUnknown) {
		err = errPanel
	}
	return s, err
}

// eachPanelField calls f for each field that is a number or octets. Data aliases the
// payload.
func eachPanelField(b []byte, f func(num protowire.Number, n uint64, data []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errPanel
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errPanel
		}
		b = b[n:]
		if typ != protowire.VarintType && typ != protowire.BytesType {
			continue
		}
		if err := f(num, v, data); err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
	return nil
}

func putVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func putText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// legible bounds what people are shown of another director's words.
func legible(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= maxWhy {
		return s
	}
	return strings.ToValidUTF8(s[:maxWhy], "")
}

package director

import (
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/plan"
)

// What directors say of emergencies is protobuf on the wire, as a panel's questions are: an
// operator's word with how long it counts already, one a datagram; and which words a
// director holds, so that the others know what it lacks.
const (
	urgentFormat = 1
	urgentSum    = len(core.WordID{}) // octets of a word's sum that name it
	urgentItem   = urgentSum + 16
	maxUrgent    = 1024 // items of a summary that are looked at
)

var errUrgent = errors.New("malformed word or summary of emergencies")

func encodeWord(raw []byte, age time.Duration) []byte {
	b := putVarint(nil, 1, urgentFormat)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), raw)
	return putVarint(b, 3, uint64(max(age, 0)/time.Millisecond))
}

func decodeWord(payload []byte) (raw []byte, age time.Duration, err error) {
	format := uint64(0)
	err = eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			raw = data
		case 3:
			age = milliseconds(n)
		}
		return nil
	})
	if err == nil && (format != urgentFormat || len(raw) == 0 || len(raw) > plan.MaxWord) {
		err = errUrgent
	}
	return raw, age, err
}

func milliseconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(plan.MaxEmergency/time.Millisecond))) * time.Millisecond
}

// encodeHoldings gives as many datagrams as a summary takes; one even where nothing is
// held, which is what the others want to know.
func encodeHoldings(list []core.Holding, name string) [][]byte {
	room := gossip.MaxDatagram - gossip.Overhead(name)
	var out [][]byte
	b := putVarint(nil, 1, urgentFormat)
	for _, h := range list {
		one := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), h.ID[:])
		one = putVarint(one, 2, uint64(max(h.Age, 0)/time.Millisecond))
		one = putVarint(one, 3, uint64(h.State))
		one = putVarint(one, 4, protowire.EncodeBool(h.Answered))
		if len(b)+len(one)+urgentItem > room {
			out = append(out, b)
			b = putVarint(nil, 1, urgentFormat)
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), one)
	}
	return append(out, b)
}

func decodeHoldings(payload []byte) ([]core.Holding, error) {
	var out []core.Holding
	format := uint64(0)
	err := eachPanelField(payload, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			format = n
		case 2:
			if len(out) == maxUrgent {
				return errUrgent
			}
			h, err := decodeHolding(data)
			out = append(out, h)
			return err
		}
		return nil
	})
	if err == nil && format != urgentFormat {
		err = errUrgent
	}
	return out, err
}

func decodeHolding(b []byte) (h core.Holding, err error) {
	named := false
	err = eachPanelField(b, func(num protowire.Number, n uint64, data []byte) error {
		switch num {
		case 1:
			if len(data) != urgentSum {
				return errUrgent
			}
			h.ID, named = core.WordID(data), true
		case 2:
			h.Age = milliseconds(n)
		case 3:
			if n <= uint64(core.EmergencyEnds) { // a later version's is none that is known
				h.State = core.EmergencyState(n)
			}
		case 4:
			h.Answered = n == 1
		}
		return nil
	})
	if err == nil && !named {
		err = errUrgent
	}
	return h, err
}

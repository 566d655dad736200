package director

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/steer"
)

// Samples of load are protobuf on the wire, as questions of a panel are: fields that are
// not known are passed over, a later format is refused whole.
const (
	loadFormat  = 1
	maxLoads    = 4096 // entries
	maxLoadName = 400  // octets of a scope
	maxLoadSaid = 1 << 52

	loadAnswers = 1 // a second, of a pool
	loadNumber  = 2 // of a Prometheus, of an endpoint
	loadTrip    = 3 // milliseconds to a cluster and back
)

var errLoad = errors.New("malformed sample of load")

func encodeLoad(s core.Sample) []byte {
	b := putVarint(nil, 1, loadFormat)
	trips := make(map[steer.Scope]float64, len(s.Trips))
	for cluster, ms := range s.Trips {
		trips[steer.Scope{Kind: steer.ScopeCluster, Cluster: cluster}] = ms
	}
	n := 0
	for _, kind := range []struct {
		number uint64
		of     map[steer.Scope]float64
	}{{loadAnswers, s.Answers}, {loadNumber, s.Numbers}, {loadTrip, trips}} {
		for scope, value := range kind.of {
			if n++; n > maxLoads {
				break
			}
			one := putText(nil, 1, scope.String())
			one = putVarint(one, 2, kind.number)
			one = putVarint(one, 3, uint64(math.Round(min(max(value*1000, 0), maxLoadSaid))))
			b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), one)
		}
	}
	return b
}

func decodeLoad(payload []byte) (core.Sample, error) {
	s := core.Sample{Answers: map[steer.Scope]float64{}, Numbers: map[steer.Scope]float64{}, Trips: map[string]float64{}}
	format, n := uint64(0), 0
	err := eachPanelField(payload, func(num protowire.Number, v uint64, data []byte) error {
		switch num {
		case 1:
			format = v
		case 2:
			if n++; n > maxLoads {
				return errLoad
			}
			return decodeLoadEntry(data, &s)
		}
		return nil
	})
	if err == nil && format != loadFormat {
		err = errLoad
	}
	return s, err
}

func decodeLoadEntry(b []byte, s *core.Sample) error {
	var scope steer.Scope
	var kind, value uint64
	err := eachPanelField(b, func(num protowire.Number, v uint64, data []byte) (err error) {
		switch num {
		case 1:
			if len(data) > maxLoadName {
				return errLoad
			}
			scope, err = steer.ParseScope(string(data))
		case 2:
			kind = v
		case 3:
			value = min(v, maxLoadSaid)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case scope.Kind != steer.ScopeCluster && scope.Kind != steer.ScopeEndpoint:
		return errLoad
	case kind == loadAnswers:
		s.Answers[scope] = float64(value) / 1000
	case kind == loadNumber:
		s.Numbers[scope] = float64(value) / 1000
	case kind == loadTrip && scope.Kind == steer.ScopeCluster:
		s.Trips[scope.Cluster] = float64(value) / 1000
	}
	return nil // of a kind that is not known here
}

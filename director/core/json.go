package core

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"time"
)

// Seconds gives a number of seconds as JSON has all times that pass: of nanoseconds nobody
// can tell what they are, and other languages round them.
func Seconds(n float64) time.Duration { return time.Duration(math.Round(n * float64(time.Second))) }

// wire is a Command as JSON has it, without its methods.
type wire Command

// timed is what of a command is a time that passes, beside the rest of it.
type timed struct {
	wire
	For  float64 `json:"forSeconds,omitempty"`
	Wait float64 `json:"waitSeconds,omitempty"`
	Soak float64 `json:"soakSeconds,omitempty"`
}

// WireType is a Command as JSON has it, for who describes that.
func WireType() reflect.Type { return reflect.TypeFor[timed]() }

// MarshalJSON writes a command with its times in seconds.
func (c Command) MarshalJSON() ([]byte, error) {
	return json.Marshal(timed{wire: wire(c), For: c.For.Seconds(), Wait: c.Wait.Seconds(), Soak: c.Soak.Seconds()})
}

// UnmarshalJSON reads one, and refuses what it does not know: a wish that is half understood
// must not be carried out.
func (c *Command) UnmarshalJSON(data []byte) error {
	var t timed
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return err
	}
	*c = Command(t.wire)
	for _, f := range []struct {
		name string
		n    float64
		into *time.Duration
	}{{"forSeconds", t.For, &c.For}, {"waitSeconds", t.Wait, &c.Wait}, {"soakSeconds", t.Soak, &c.Soak}} {
		if math.Abs(f.n) > mostSeconds {
			return fmt.Errorf("%s: %g is more than can be meant", f.name, f.n)
		}
		*f.into = Seconds(f.n)
	}
	return nil
}

// mostSeconds is far from what does not fit a time.Duration, and of which a float64 has each
// nanosecond: a hundred days.
const mostSeconds = 100 * 24 * 60 * 60

package director

import (
	"errors"
	"log/slog"
)

// unsaidLimit is after how many heartbeats in a row that were not sent people are
// told: a second of them. One alone means nothing.
const unsaidLimit = 4

// unsaid follows heartbeats that could not be sent, so that the others do not hear
// this director. The loop owns it.
type unsaid struct {
	failed int // in a row
	why    error
}

// note takes what became of a heartbeat, and tells whether the alert has changed.
func (u *unsaid) note(err error, log *slog.Logger) (changed bool) {
	before := u.alert()
	if err != nil && !errors.Is(err, errMute) { // who is mute says so, and why
		u.failed++
		u.why = err
	} else {
		*u = unsaid{}
	}
	switch after := u.alert(); {
	case before == "" && after != "":
		log.Warn("heartbeats cannot be sent: the others do not hear this director", slog.Any("err", err))
	case before != "" && after == "":
		log.Info("heartbeats are sent again")
	default:
		return before != after
	}
	return true
}

// alert is what people are told; "" = nothing.
func (u *unsaid) alert() string {
	if u.failed < unsaidLimit {
		return ""
	}
	return "heartbeats cannot be sent, so the others do not hear this director: " + u.why.Error()
}

package api

import (
	"fmt"
	"strings"
	"time"

	"github.com/divertdns/divert/director/spec"
)

// badTime says what is no instant.
type badTime struct{ text string }

func (b *badTime) Error() string {
	return fmt.Sprintf("%.80q is no time: write one like 2026-03-14T11:58:00Z (RFC 3339), or how long ago, like -2h, -90m or -1d12h", b.text)
}

// ParseTime reads an instant: RFC 3339, or how long before now, with a minus sign.
// The director that is asked does it, so that what is relative goes by its clock.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if ago, ok := strings.CutPrefix(s, "-"); ok {
		d, err := spec.ParseDuration(ago)
		if err != nil || d < 0 {
			return time.Time{}, &badTime{s}
		}
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, &badTime{s}
}

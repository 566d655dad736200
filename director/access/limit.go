package access

import (
	"sync"
	"time"
)

// Limiter lets each of many go on at a rate of its own. It keeps no more than so many: of
// who was forgotten it knows nothing, and lets him begin anew.
type Limiter struct {
	perSecond, burst float64
	most             int

	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// NewLimiter lets each have burst at once, then perSecond, and keeps most of them.
func NewLimiter(perSecond, burst float64, most int) *Limiter {
	return &Limiter{perSecond: perSecond, burst: burst, most: most, buckets: map[string]bucket{}}
}

// Take tells whether one more of somebody's may go on now. A nil Limiter lets all go on.
func (l *Limiter) Take(who string, now time.Time) bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[who]
	if !known {
		if len(l.buckets) >= l.most {
			l.forget()
		}
		b = bucket{left: l.burst, at: now}
	}
	if passed := now.Sub(b.at); passed > 0 { // a clock that goes back gives nothing
		b.left = min(l.burst, b.left+passed.Seconds()*l.perSecond)
	}
	b.at = now
	ok := b.left >= 1
	if ok {
		b.left--
	}
	l.buckets[who] = b
	return ok
}

// forget makes room: who was not seen for longest goes.
func (l *Limiter) forget() {
	oldest := ""
	for who, b := range l.buckets {
		if oldest == "" || b.at.Before(l.buckets[oldest].at) {
			oldest = who
		}
	}
	delete(l.buckets, oldest)
}

package relay

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Fault says how a link misbehaves. Loss, duplication and reordering befall
// datagrams only; a delay befalls each chunk of a TCP connection too, in order.
type Fault struct {
	Delay     time.Duration
	Jitter    time.Duration // up to this much more delay, evenly
	Loss      float64       // 0 to 1
	Duplicate float64       // 0 to 1
	Reorder   float64       // 0 to 1: this share waits for one more Delay + Jitter
}

// fault finds what befalls a link now. r.mu is held.
func (r *Relay) fault(from, to string) Fault {
	for _, rule := range []Rule{{from, to}, {from, Any}, {Any, to}, {Any, Any}} {
		if f, ok := r.faults[rule]; ok {
			return f
		}
	}
	return Fault{}
}

// delay draws the delay of one chunk.
func (r *Relay) delay(from, to string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draw(r.fault(from, to))
}

func (r *Relay) draw(f Fault) time.Duration {
	if f.Jitter <= 0 {
		return f.Delay
	}
	return f.Delay + time.Duration(r.random.Int64N(int64(f.Jitter)))
}

// plan draws when the copies of one datagram leave, none if it is lost.
func (r *Relay) plan(from, to string) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.fault(from, to)
	if f == (Fault{}) {
		return []time.Duration{0}
	}
	copies := 1
	if r.random.Float64() < f.Loss {
		copies--
	}
	if copies == 1 && r.random.Float64() < f.Duplicate {
		copies++
	}
	out := make([]time.Duration, copies)
	for i := range out {
		out[i] = r.draw(f)
		if r.random.Float64() < f.Reorder {
			out[i] += max(r.draw(f), time.Millisecond)
		}
	}
	return out
}

// pass sends a datagram on, as the link's fault has it.
func (r *Relay) pass(from, to string, b []byte, send func([]byte)) {
	for _, d := range r.plan(from, to) {
		if d <= 0 {
			send(b)
			continue
		}
		// What is under way when a link is cut does not arrive.
		r.post.take(time.Now().Add(d), func() {
			if !r.blocked(from, to) {
				send(b)
			}
		})
	}
}

// postman delivers what is delayed. Its run is the one that delivers.
type postman struct {
	wake chan struct{} // capacity 1

	mu   sync.Mutex
	late letters
}

type letter struct {
	at   time.Time
	send func()
}

// letters is a heap, the next due first.
type letters []letter

func (l letters) Len() int           { return len(l) }
func (l letters) Less(i, j int) bool { return l[i].at.Before(l[j].at) }
func (l letters) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }

// Push implements heap.Interface.
func (l *letters) Push(x any) { *l = append(*l, x.(letter)) }

// Pop implements heap.Interface.
func (l *letters) Pop() any {
	old := *l
	last := old[len(old)-1]
	old[len(old)-1] = letter{}
	*l = old[:len(old)-1]
	return last
}

func newPostman() *postman { return &postman{wake: make(chan struct{}, 1)} }

func (p *postman) take(at time.Time, send func()) {
	p.mu.Lock()
	if p.late.Len() < maxLate {
		heap.Push(&p.late, letter{at: at, send: send})
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// due takes out what is due, and says when the next is.
func (p *postman) due(now time.Time) ([]letter, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []letter
	for p.late.Len() > 0 && !p.late[0].at.After(now) {
		out = append(out, heap.Pop(&p.late).(letter))
	}
	if p.late.Len() == 0 {
		return out, time.Hour
	}
	return out, p.late[0].at.Sub(now)
}

func (p *postman) run(ctx context.Context) {
	for {
		letters, next := p.due(time.Now())
		for _, l := range letters {
			l.send()
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

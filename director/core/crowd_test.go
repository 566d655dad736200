package core

import (
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/divertdns/divert/director/steer"
)

// crowd is clients behind caches: each keeps what it was told for a TTL, some for ten.
type crowd struct {
	w       *world
	clients []cached
	now     time.Duration
	asked   []map[string]int // in each of the last ticks
	window  int
}

type cached struct {
	at    string
	until time.Duration
	ttl   time.Duration
}

const crowdTick = 10 * time.Second

func newCrowd(w *world, n int, ttl time.Duration) *crowd {
	c := &crowd{w: w, clients: make([]cached, n), window: int(max(time.Minute, ttl) / crowdTick)}
	for i := range c.clients {
		c.clients[i] = cached{until: time.Duration(i) * ttl / time.Duration(n), ttl: ttl}
		if i%10 == 0 {
			c.clients[i].ttl *= 10
		}
	}
	return c
}

func chance(client int, what string) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, client, what)
	x := h.Sum64() // mixed: its upper bits are hardly any hash
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64(x>>11) / (1 << 53)
}

// told is where a client is sent to, as package answer spreads them.
func told(s *steer.Set, client int) string {
	admitted := func(c steer.Choice) bool {
		return c.Share == 0 || chance(client, c.Cluster+" share")*100 < float64(c.Share)
	}
	best, least, level := "", math.Inf(1), uint8(0)
	for _, c := range s.Choices {
		if !admitted(c) || best != "" && c.Level > level {
			continue
		}
		level = c.Level
		if !s.Weighted {
			return c.Cluster
		}
		if cost := -math.Log(chance(client, c.Cluster)) / float64(c.Weight); cost < least {
			best, least = c.Cluster, cost
		}
	}
	return best
}

// tick lets those ask whose caches have run out.
func (c *crowd) tick() {
	d := steer.Decide(steer.Input{Spec: c.w.s.Spec, Plan: c.w.s.Plan.Plan, States: c.w.s.States, Places: merged(c.w.s.Spec)})
	var shop *steer.Service
	for i := range d.Services {
		if d.Services[i].Name == "shop" {
			shop = &d.Services[i]
		}
	}
	set := shop.V4.For(netip.Prefix{}, 0)
	asked := map[string]int{}
	for i := range c.clients {
		one := &c.clients[i]
		for one.until <= c.now {
			one.at = told(set, i)
			one.until += one.ttl
			asked[one.at]++
		}
	}
	c.now += crowdTick
	c.asked = append(c.asked, asked)
	if len(c.asked) > c.window {
		c.asked = c.asked[1:]
	}
}

// answers is the load by what was answered in the last minute, connected that by who is
// where; both come to so much in all.
func (c *crowd) answers(total float64) map[string]float64 {
	sum, all := map[string]float64{}, 0.0
	for _, asked := range c.asked {
		for at, n := range asked {
			sum[at] += float64(n)
			all += float64(n)
		}
	}
	return scaled(sum, total/all)
}

func (c *crowd) connected(total float64) map[string]float64 {
	sum := map[string]float64{}
	for _, one := range c.clients {
		sum[one.at]++
	}
	return scaled(sum, total/float64(len(c.clients)))
}

func scaled(m map[string]float64, by float64) map[string]float64 {
	for k := range m {
		m[k] *= by
	}
	return m
}

// TestClosedLoop: clients behind caches, measured by answers or by who is there, come to
// rest with every site near or below its target, without swinging: shares fall, and rest.
func TestClosedLoop(t *testing.T) {
	for _, tc := range []struct {
		name      string
		connected bool
		ttl       time.Duration
		total     float64
	}{
		{"by answers", false, 20 * time.Second, 140},
		{"by answers, long TTL", false, 5 * time.Minute, 140},
		{"by connections", true, 20 * time.Second, 140},
		{"by connections, long TTL", true, 2 * time.Minute, 140},
		{"three sites full", true, 20 * time.Second, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := sizedWorldOf(t, tc.ttl)
			c := newCrowd(w, 3000, tc.ttl)
			changes, turns, last, falling := 0, 0, uint32(100), true
			var loads map[string]float64
			const epochs = 400
			for i := range epochs {
				for range 6 {
					c.tick()
				}
				if loads = c.answers(tc.total); tc.connected {
					loads = c.connected(tc.total)
				}
				w.loads(loads["fra"], loads["nyc"], loads["sin"])
				if w.epoch() && i > epochs*3/4 {
					changes++
				}
				if share := share(w.said("fra")); share != last {
					if (share < last) != falling {
						turns, falling = turns+1, share < last
					}
					last = share
				}
			}
			for at, load := range loads {
				if load > 75+3 {
					t.Errorf("%s rests at %.1f, above its target of 75", at, load)
				}
			}
			if turns > 2 {
				t.Errorf("fra's share turned %d times: it swings", turns)
			}
			if changes > 3 {
				t.Errorf("%d of the last %d epochs changed the plan: it does not rest", changes, epochs/4)
			}
			t.Logf("rests at %v, fra keeps %d %%", loads, last)
		})
	}
}

// TestLossDoesNotCrashTheNext (linkerd2 #2876): two sites hold a load that the failure of
// the first would put on the second alone, above its capacity; it is spread at once, with
// no leader to say so, and while the leader goes on it stays so.
func TestLossDoesNotCrashTheNext(t *testing.T) {
	w := sizedWorld(t)
	const total = 145
	c := newCrowd(w, 3000, 20*time.Second)
	measure := func() map[string]float64 {
		for range 6 {
			c.tick()
		}
		loads := c.answers(total)
		w.loads(loads["fra"], loads["nyc"], loads["sin"])
		w.epoch()
		return loads
	}
	var loads map[string]float64
	for range 100 {
		loads = measure()
	}
	if loads["fra"] < 70 {
		t.Fatalf("fra rests at %v", loads)
	}
	w.fail("shop", "fra")
	w.fail("pay", "fra")
	for i := range 30 {
		w.s.Loads = nil // no leader at first
		if i < 5 {
			for range 6 {
				c.tick()
			}
			loads = c.answers(total)
		} else {
			loads = measure()
		}
		if i >= 1 && (loads["nyc"] > 82 || loads["sin"] > 82) {
			t.Fatalf("minute %d after the loss: %v", i, loads)
		}
	}
}

package spec

import (
	"bytes"
	"time"
)

const (
	defaultFleetName = "default"
	maxDrain         = 72 * time.Hour // S18
	maxDirectors     = 1000
)

func defaultFleet() *Fleet {
	return &Fleet{
		Name: defaultFleetName, DegradedEjected: 50, TargetUtilised: 75,
		MaxDrain: maxDrain, Automation: AutomationAct,
	}
}

func (o *object) readFleet(c cursor) {
	f := defaultFleet()
	f.Name = o.raw.Name
	o.fleet = f
	c.object(fields{
		"directors": func(c cursor) {
			c.each(func(c cursor) {
				if e, ok := readDirector(c, f.Directors); ok {
					f.Directors = append(f.Directors, e)
				}
			})
			if len(c.v.list) > maxDirectors {
				c.fail("lists more than 1000 directors", "a fleet needs 3 to 9")
			}
		},
		"quorum": func(c cursor) {
			c.object(fields{"observers": func(c cursor) { f.QuorumObservers = int(c.integer(0, maxDirectors)) }})
		},
		"safety": func(c cursor) {
			c.object(fields{
				"maxDegradedEjected": func(c cursor) { f.DegradedEjected = c.percent(0) },
				"targetUtilisation":  func(c cursor) { f.TargetUtilised = c.percent(1) },
				"maxDrain":           func(c cursor) { f.MaxDrain = c.duration(time.Minute, maxDrain) },
				"twoPersons":         func(c cursor) { f.TwoPersons = c.bool() },
			})
		},
		"automation": func(c cursor) { f.Automation = oneOf(c, nil, AutomationAct, AutomationObserve) },
	})
}

func readDirector(c cursor, before []RosterEntry) (RosterEntry, bool) {
	var e RosterEntry
	ok := c.object(fields{
		"name": func(c cursor) {
			e.Name = c.dotted()
			for _, other := range before {
				if e.Name != "" && other.Name == e.Name {
					c.fail(quote(e.Name)+" stands in the roster twice", "give each director its own name")
				}
			}
		},
		"site": func(c cursor) { e.Site = c.word() },
		"key": func(c cursor) {
			e.Key = c.key()
			for _, other := range before {
				if e.Key != nil && bytes.Equal(other.Key, e.Key) {
					c.fail("is the key of "+other.Name+" too", "give each director its own: a key is made at its first start")
				}
			}
		},
	}, "name")
	if e.Site == "" {
		e.Site = e.Name
	}
	for _, other := range before {
		ok = ok && other.Name != e.Name
	}
	return e, ok && e.Name != ""
}

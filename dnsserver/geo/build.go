package geo

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// MaxPlaces bounds the places of a table: two octets name one. A database that
// tells more apart is rounded more coarsely.
const MaxPlaces = 1 << 16

// The widths of the cells that are tried, in tenths of a degree: from half a
// degree, where nobody is more than 40 km from the middle of his cell, to all of
// the world.
const (
	finestStep   = 5
	coarsestStep = 3600
)

// maxFound bounds what a Builder keeps of places before they are rounded; the
// largest databases have half a million.
const maxFound = 4 << 20

// Builder makes a table of networks that come in the order of their addresses,
// IPv4 first, none inside another. The zero Builder is not ready: NewBuilder.
type Builder struct {
	countries map[string]Place
	found     []spot // the first is the unknown place
	numbers   map[spot]uint32
	v4        runs[uint32]
	v6        runs[uint64]
	seam      seam
}

// spot is a place as it was found, with coordinates in tenths of a degree: no
// database is truer than that, and each would else have hundreds of thousands.
type spot struct {
	country, continent string
	subdivisions       [2]string
	exact              bool // the coordinates are known
	lat, lon           int16
}

// runs are ranges in the making; one ends where the next begins. They grow by
// pieces: one slice of millions would be copied again and again, and for as long as
// the garbage is not collected a director would be twice as large.
type runs[T uint32 | uint64] struct {
	pieces []piece[T]
	end    uint64 // the first that is in none yet
	full   bool   // there is none
}

type piece[T uint32 | uint64] struct {
	starts []T
	places []uint32
}

const pieceLen = 1 << 14

// NewBuilder makes an empty one.
func NewBuilder() *Builder {
	b := &Builder{countries: map[string]Place{}, numbers: map[spot]uint32{{}: 0}, found: []spot{{}}}
	for _, p := range Countries() {
		b.countries[p.Country] = p
	}
	return b
}

// Place notes a place and numbers it for Add. What is not known of it may be
// missing; of a country the continent is our own table's to say, so that the
// checks of a spec, which go by that, hold.
func (b *Builder) Place(p Place) (uint32, error) {
	s := spot{country: p.Country, continent: p.Continent, subdivisions: p.Subdivisions}
	if own, ok := b.countries[p.Country]; ok {
		s.continent = own.Continent
	} else {
		// AP, EU, A1: some databases have codes that are no country's.
		s.country, s.subdivisions = "", [2]string{}
	}
	if !slices.Contains(Continents(), s.continent) {
		s.continent = ""
	}
	if s == (spot{}) {
		return 0, nil // a point somewhere is no place that a rule could name
	}
	if s.country != "" && (p.Lat != 0 || p.Lon != 0) && math.Abs(p.Lat) <= 90 && math.Abs(p.Lon) <= 180 {
		s.exact, s.lat, s.lon = true, int16(math.Round(p.Lat*10)), int16(math.Round(p.Lon*10))
	}
	n, ok := b.numbers[s]
	if !ok {
		if len(b.found) >= maxFound {
			return 0, fmt.Errorf("there are more than %d places", maxFound)
		}
		n = uint32(len(b.found))
		b.numbers[s] = n
		b.found = append(b.found, s)
	}
	return n, nil
}

// Add says that all addresses of a network are at a place.
func (b *Builder) Add(network netip.Prefix, place uint32) error {
	first := network.Masked().Addr()
	if first.Is4() {
		octets := first.As4()
		start := uint64(binary.BigEndian.Uint32(octets[:]))
		return b.v4.add(start, start+(1<<(32-network.Bits())-1), place, math.MaxUint32)
	}
	octets := first.As16()
	hi := binary.BigEndian.Uint64(octets[:8])
	if network.Bits() > 64 {
		return b.stitch(hi, network.Bits(), place)
	}
	if err := b.sew(); err != nil {
		return err
	}
	return b.v6.add(hi, hi|(math.MaxUint64>>network.Bits()), place, math.MaxUint64)
}

// add appends a range and, before it, the gap since the last, which is the
// unknown place.
func (r *runs[T]) add(first, last uint64, place uint32, top uint64) error {
	if r.full || first < r.end {
		return fmt.Errorf("networks overlap or are out of order")
	}
	if first > r.end {
		r.begin(r.end, 0)
	}
	r.begin(first, place)
	r.end, r.full = last+1, last == top
	return nil
}

func (r *runs[T]) begin(first uint64, place uint32) {
	var p *piece[T]
	if n := len(r.pieces); n > 0 {
		p = &r.pieces[n-1]
		if p.places[len(p.places)-1] == place {
			return
		}
	}
	if p == nil || len(p.places) == pieceLen {
		r.pieces = append(r.pieces, piece[T]{starts: make([]T, 0, pieceLen), places: make([]uint32, 0, pieceLen)})
		p = &r.pieces[len(r.pieces)-1]
	}
	p.starts, p.places = append(p.starts, T(first)), append(p.places, place)
}

// seam is one /64 that comes in pieces. No resolver sends more than 64 bits, so
// it becomes one range: what all of it has in common.
type seam struct {
	open    bool
	hi      uint64
	covered uint64 // addresses; 0 = all 2^64, or none yet
	place   uint32
}

func (b *Builder) stitch(hi uint64, bits int, place uint32) error {
	if b.seam.open && b.seam.hi != hi {
		if err := b.sew(); err != nil {
			return err
		}
	}
	if !b.seam.open {
		b.seam = seam{open: true, hi: hi, place: place}
	}
	b.seam.covered += 1 << (128 - bits)
	b.seam.place = b.common(b.seam.place, place)
	return nil
}

// sew closes the seam.
func (b *Builder) sew() error {
	if !b.seam.open {
		return nil
	}
	s := b.seam
	b.seam = seam{}
	if s.covered != 0 {
		s.place = 0 // of the rest nothing is known
	}
	return b.v6.add(s.hi, s.hi, s.place, math.MaxUint64)
}

// common is what two places have in common: the country, or nothing.
func (b *Builder) common(x, y uint32) uint32 {
	if x == y {
		return x
	}
	if b.found[x].country == "" || b.found[x].country != b.found[y].country {
		return 0
	}
	n, err := b.Place(Place{Country: b.found[x].country})
	if err != nil {
		return 0
	}
	return n
}

// Table makes the table. The Builder is of no use after.
func (b *Builder) Table(origin Origin) (*Table, error) {
	if err := b.sew(); err != nil {
		return nil, err
	}
	t := &Table{origin: origin}
	var index []uint16
	for step := finestStep; t.places == nil; step *= 2 {
		if step > coarsestStep {
			return nil, fmt.Errorf("there are more than %d places, however coarsely they are rounded", MaxPlaces)
		}
		t.places, index = b.round(step)
		t.origin.Step = float64(step) / 10
	}
	t.origin.Found = len(b.found) - 1
	t.v4, t.v4place = finish(&b.v4, index, math.MaxUint32)
	t.v6, t.v6place = finish(&b.v6, index, math.MaxUint64)
	t.index()
	return t, nil
}

// round puts what was found into cells; nil where there would be too many. The
// places are the unknown one, all countries, then the cells in an order of their
// own, so that the order in which a database has them never shows.
func (b *Builder) round(step int) ([]Place, []uint16) {
	places := append([]Place{{}}, Countries()...)
	whole := make(map[spot]int, len(places))
	for i, p := range places {
		whole[spot{country: p.Country, continent: p.Continent}] = i
	}
	cells := make([]spot, len(b.found))
	distinct := make(map[spot]struct{}, 1024)
	for i, s := range b.found {
		if s.exact {
			s.lat, s.lon = cell(s.lat, step), cell(s.lon, step)
		}
		cells[i] = s
		if _, ok := whole[s]; !ok {
			distinct[s] = struct{}{}
		}
	}
	if len(places)+len(distinct) > MaxPlaces {
		return nil, nil
	}
	more := make([]spot, 0, len(distinct))
	for s := range distinct {
		more = append(more, s)
	}
	slices.SortFunc(more, func(x, y spot) int {
		return cmp.Or(cmp.Compare(x.country, y.country), cmp.Compare(x.continent, y.continent),
			slices.Compare(x.subdivisions[:], y.subdivisions[:]), cmp.Compare(x.lat, y.lat), cmp.Compare(x.lon, y.lon))
	})
	for _, s := range more {
		p := Place{Country: s.country, Continent: s.continent, Subdivisions: s.subdivisions}
		if s.exact {
			p.Lat, p.Lon = middle(s.lat, step, 90), middle(s.lon, step, 180)
		} else if own, ok := b.countries[s.country]; ok {
			p.Lat, p.Lon = own.Lat, own.Lon
		}
		whole[s] = len(places)
		places = append(places, p)
	}
	index := make([]uint16, len(cells))
	for i, s := range cells {
		index[i] = uint16(whole[s])
	}
	return places, index
}

// cell numbers the cell that a coordinate, in tenths of a degree, lies in.
func cell(at int16, step int) int16 { return int16(math.Floor(float64(at) / float64(step))) }

// middle is that of a cell, in degrees; the cells at the edges may reach over it.
func middle(cell int16, step int, limit float64) float64 {
	at := (float64(cell) + 0.5) * float64(step) / 10
	return max(-limit, min(limit, at))
}

// finish numbers the places of all ranges anew and joins those that are now
// alike.
func finish[T uint32 | uint64](r *runs[T], index []uint16, top uint64) ([]T, []uint16) {
	if !r.full && r.end <= top {
		r.begin(r.end, 0)
	}
	n, last := 0, -1
	for _, p := range r.pieces {
		n, last = count(p.places, index, n, last)
	}
	starts, places := make([]T, 0, n), make([]uint16, 0, n)
	for i, p := range r.pieces {
		starts, places = merge(starts, places, p.starts, p.places, index)
		r.pieces[i] = piece[T]{} // the garbage collector may have it
	}
	return starts, places
}

// Merge makes a table that tells fewer places apart: of[i] is the index in places
// of what this table has as place i. Neighbours that become alike are joined, so
// that leaves reach as far as the distinction between those places needs, and no
// further: the scopes that follow are as short as they can be.
func (t *Table) Merge(of []uint16, places []Place) (*Table, error) {
	if len(of) != len(t.places) || len(places) == 0 {
		return nil, fmt.Errorf("%d places are to be merged, of %d", len(of), len(t.places))
	}
	for i, p := range of {
		if int(p) >= len(places) {
			return nil, fmt.Errorf("place %d would become %d of %d", i, p, len(places))
		}
	}
	out := &Table{origin: t.origin, places: places}
	out.v4, out.v4place = mergeAll(t.v4, t.v4place, of)
	out.v6, out.v6place = mergeAll(t.v6, t.v6place, of)
	out.index()
	return out, nil
}

func mergeAll[T uint32 | uint64](starts []T, places, of []uint16) ([]T, []uint16) {
	n, _ := count(places, of, 0, -1)
	return merge(make([]T, 0, n), make([]uint16, 0, n), starts, places, of)
}

// count goes on counting the ranges that do not continue the one before, whose place
// was last.
func count[P uint16 | uint32](places []P, of []uint16, n, last int) (total, place int) {
	for _, p := range places {
		if int(of[p]) != last {
			n, last = n+1, int(of[p])
		}
	}
	return n, last
}

// merge appends the ranges that do not continue the one before.
func merge[T uint32 | uint64, P uint16 | uint32](outStarts []T, outPlaces []uint16, starts []T, places []P, of []uint16) ([]T, []uint16) {
	for i, p := range places {
		if n := len(outPlaces); n == 0 || outPlaces[n-1] != of[p] {
			outStarts, outPlaces = append(outStarts, starts[i]), append(outPlaces, of[p])
		}
	}
	return outStarts, outPlaces
}

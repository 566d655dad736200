package director

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/divertdns/divert/director/audit"
)

// repair is a tile of this disk that is put right from another director's: one that
// cannot be read, or the first that is not what this director has signed, which is
// looked for by halving.
type repair struct {
	asking    inquiry
	from      int64 // the place that was asked for
	tile      int64 // the one that cannot be read; else the search is on
	searching bool
	low, high int64 // tiles: the log is whole before low, and not after high
}

// mendFromOthers asks for what this disk does not have as it was sealed.
func (s *sealer) mendFromOthers(now time.Time) {
	r := &s.repair
	switch {
	case s.lost != "" && s.head != nil && s.tiles.Size() >= s.headOf.Size:
		if !r.searching {
			*r = repair{searching: true, high: (s.headOf.Size - 1) / audit.TileWidth}
		}
		r.ask(s, now, (r.low+r.high+1)/2)
	case len(s.damaged) > 0:
		if tile := s.damaged[0].tile; r.searching || r.tile != tile || r.asking.without == nil {
			*r = repair{tile: tile}
		}
		r.ask(s, now, r.tile)
	default:
		*r = repair{}
	}
}

func (r *repair) ask(s *sealer, now time.Time, tile int64) {
	from := tile * audit.TileWidth
	if r.asking.asked == "" {
		r.from = from
	}
	if !r.asking.next(s, now, r.from) && r.asking.asked == "" && now.Sub(r.asking.at) >= sealGrace {
		clear(r.asking.without)
	}
}

// repaired takes what was asked for. It is written only where it is what this director
// has itself signed.
func (s *sealer) repaired(ctx context.Context, who string, g audit.Given) error {
	r := &s.repair
	if !r.searching {
		if s.tiles.Mend(r.tile, g.Records) != nil {
			r.asking.without[who] = true // not those that were sealed
			return nil
		}
		s.mended(r.tile, "could not be read", who)
		return s.recheck(ctx)
	}
	tree := s.tiles.Tree()
	root, err := tree.RootAt(g.From, s.tiles.Leaves)
	if err != nil {
		return nil
	}
	place := -1
	for i, u := range g.Under {
		if len(u.Head) == 0 {
			place = i
		}
	}
	whole := place >= 0 && g.Under[place].Extends(s.headOf, g.From, root)
	tile := g.From / audit.TileWidth
	switch {
	case r.low < r.high && whole:
		r.low = tile
		return nil
	case r.low < r.high:
		r.high = tile - 1 // a lie is found out at the end
		return nil
	}
	before := &audit.Tree{}
	for n := range tile {
		if err := before.AddTile(tree.TileRoot(n)); err != nil {
			return nil
		}
	}
	n := min(audit.TileWidth, s.headOf.Size-g.From)
	mine, err := s.tiles.Records(tile)
	if whole && int64(len(g.Records)) >= n && (err != nil || !sameRecords(mine, g.Records[:n])) {
		proven := g.Proven(before, func(u audit.Under) (audit.Head, bool) { return s.headOf, len(u.Head) == 0 })
		if proven[place] >= n {
			if err := s.tiles.Rewrite(tile, g.Records[:n]); err != nil {
				return err
			}
			s.mended(tile, "was not what this director had signed", who)
			s.tiles = nil // all is read anew
			return nil
		}
	}
	without := r.asking.without
	without[who] = true
	*r = repair{searching: true, high: (s.headOf.Size - 1) / audit.TileWidth, asking: inquiry{without: without}}
	return nil
}

func sameRecords(mine, given [][]byte) bool {
	if len(mine) < len(given) {
		return false
	}
	for i, raw := range given {
		if !bytes.Equal(mine[i], raw) {
			return false
		}
	}
	return true
}

func (s *sealer) mended(tile int64, why, from string) {
	s.shown.mended.Inc()
	s.repair = repair{}
	s.log.Error("a sealed tile of the audit log was altered or damaged on this disk, and was written anew", slog.Int64("tile", tile), slog.String("why", why), slog.String("from", from))
}

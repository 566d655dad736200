package resolve

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of a saved name, each in a field 1 of the whole. Numbers are never used
// again for something else; what a later version adds is skipped.
const (
	fieldName  protowire.Number = 1
	fieldAddr  protowire.Number = 2 // 4 or 16 octets, once each
	fieldKnown protowire.Number = 3 // bits: 1 IPv4, 2 IPv6
	fieldTTL   protowire.Number = 4 // seconds
	fieldAt    protowire.Number = 5 // Unix seconds of the last confirmation
)

var errDamaged = errors.New("what hostnames resolved to cannot be read")

// Saved is the last good answer of a name as it is saved.
type Saved struct {
	Records *Records
	At      time.Time // last confirmed; zero = not known
}

// Save gives the last good of each name in octets, for the disk (S12).
func (r *Resolver) Save() []byte {
	saved := map[string]Saved{}
	r.mu.Lock()
	for name, e := range r.entries {
		if records := e.records.Load(); records != nil {
			saved[name] = Saved{records, e.at}
		}
	}
	r.mu.Unlock()
	return Write(saved)
}

// Write puts last good answers into octets; equal ones into equal octets.
func Write(saved map[string]Saved) []byte {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(saved)) {
		records, at := saved[name].Records, saved[name].At
		one := protowire.AppendTag(nil, fieldName, protowire.BytesType)
		one = protowire.AppendString(one, name)
		for _, a := range records.All() {
			one = protowire.AppendTag(one, fieldAddr, protowire.BytesType)
			one = protowire.AppendBytes(one, a.AsSlice())
		}
		number := func(n protowire.Number, v uint64) {
			one = protowire.AppendTag(one, n, protowire.VarintType)
			one = protowire.AppendVarint(one, v)
		}
		known := uint64(0)
		for f, is := range records.Known {
			if is {
				known |= 1 << f
			}
		}
		number(fieldKnown, known)
		number(fieldTTL, uint64(records.TTL/time.Second))
		if !at.IsZero() && at.Unix() > 0 {
			number(fieldAt, uint64(at.Unix()))
		}
		out = protowire.AppendTag(out, 1, protowire.BytesType)
		out = protowire.AppendBytes(out, one)
	}
	return out
}

// Restore takes what Save wrote into a new resolver, but for addresses that may not be
// used any more (C12). The names are wanted only once Set names them; what cannot be
// read leaves it as it is.
func (r *Resolver) Restore(data []byte) error {
	saved, err := Read(data)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for name, s := range saved {
		for f, list := range s.Records.Addrs {
			if s.Records.Addrs[f], _ = usable(list, r.opts.Permit); len(list) > len(s.Records.Addrs[f]) {
				s.Records.Known[f] = len(s.Records.Addrs[f]) > 0
			}
		}
		if s.Records.Known == [2]bool{} {
			continue
		}
		e := &entry{name: name, index: -1, until: now.Add(kept), since: now, at: s.At, tried: make(chan struct{})}
		e.records.Store(s.Records)
		r.entries[name] = e
	}
	r.publish()
	return nil
}

// Read reads what Save wrote, by name.
func Read(data []byte) (map[string]Saved, error) {
	out := map[string]Saved{}
	err := fields(data, func(num protowire.Number, octets []byte, _ uint64) error {
		if num != 1 || octets == nil {
			return nil
		}
		if len(out) >= 2*MaxNames {
			return fmt.Errorf("%w: more than %d names", errDamaged, 2*MaxNames)
		}
		name, s, err := readName(octets)
		if err == nil && name != "" {
			out[name] = s
		}
		return err
	})
	return out, err
}

func readName(data []byte) (name string, s Saved, err error) {
	records := &Records{TTL: minRefresh}
	err = fields(data, func(num protowire.Number, octets []byte, number uint64) error {
		switch num {
		case fieldName:
			name = string(octets)
		case fieldAddr:
			a, ok := netip.AddrFromSlice(octets)
			if !ok || a.Is4In6() {
				return fmt.Errorf("%w: an address of %d octets", errDamaged, len(octets))
			}
			f := 0
			if a.Is6() {
				f = 1
			}
			if len(records.Addrs[f]) < MaxAddrs {
				records.Addrs[f] = append(records.Addrs[f], a)
			}
		case fieldKnown:
			records.Known = [2]bool{number&1 != 0, number&2 != 0}
		case fieldTTL:
			records.TTL = step(time.Duration(min(number, uint64(maxRefresh/time.Second))) * time.Second)
		case fieldAt:
			s.At = time.Unix(int64(min(number, 1<<40)), 0)
		}
		return nil
	})
	for f := range records.Addrs {
		slices.SortFunc(records.Addrs[f], netip.Addr.Compare)
		records.Addrs[f] = slices.Compact(records.Addrs[f])
		records.Known[f] = records.Known[f] || len(records.Addrs[f]) > 0
	}
	s.Records = records
	return name, s, err
}

// fields gives each field of a message: octets, or a number.
func fields(data []byte, yield func(num protowire.Number, octets []byte, number uint64) error) error {
	for len(data) > 0 {
		num, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, kind, data[n:])
		if size < 0 {
			return fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(size))
		}
		var octets []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			octets, _ = protowire.ConsumeBytes(data[n:])
			if octets == nil {
				octets = []byte{}
			}
		case protowire.VarintType:
			number, _ = protowire.ConsumeVarint(data[n:])
		}
		if err := yield(num, octets, number); err != nil {
			return err
		}
		data = data[n+size:]
	}
	return nil
}

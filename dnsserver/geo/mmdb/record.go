package mmdb

import (
	"errors"
	"math"
	"strconv"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"

	"github.com/divertdns/divert/dnsserver/geo"
)

// maxKeys bounds the keys of one map of a record; GeoIP2 has a dozen.
const maxKeys = 256

// record is what is read of one record: of the nested schema of GeoIP2 and DB-IP
// (country.iso_code, location.latitude), of the flat ones of ip-location-db and
// IPinfo (country_code or country, latitude or lat, as numbers or as texts).
// Names of subdivisions without a code are of no use, since ISO 3166-2 is what
// rules are written in.
type record struct {
	country, continent string
	subdivisions       []string // codes without the country, "" where there is none
	lat, lon           float64
	hasLat, hasLon     bool
}

func placeAt(b *geo.Builder, result *maxminddb.Result) (uint32, error) {
	var r record
	if err := result.Decode(&r); err != nil {
		return 0, err
	}
	p := geo.Place{Country: r.country, Continent: r.continent}
	for i, code := range r.subdivisions {
		if i < len(p.Subdivisions) && code != "" {
			p.Subdivisions[i] = r.country + "-" + code
		}
	}
	if r.hasLat && r.hasLon {
		p.Lat, p.Lon = r.lat, r.lon
	}
	return b.Place(p)
}

// UnmarshalMaxMindDB reads the record without making a Go map of it.
func (r *record) UnmarshalMaxMindDB(d *mmdbdata.Decoder) error {
	kind, err := d.PeekKind()
	if err != nil {
		return err
	}
	if kind != mmdbdata.KindMap {
		return d.SkipValue() // a database of numbers or names: no place
	}
	return each(d, func(key string) error { return r.field(d, key) })
}

func (r *record) field(d *mmdbdata.Decoder, key string) error {
	switch key {
	case "country", "country_code":
		return code(d, "iso_code", 2, &r.country)
	case "continent", "continent_code":
		return code(d, "code", 2, &r.continent)
	case "subdivisions":
		return r.divisions(d)
	case "region_code", "subdivision_code":
		var s string
		if err := code(d, "", 3, &s); err != nil || s == "" {
			return err
		}
		r.subdivisions = append(r.subdivisions, s)
		return nil
	case "latitude", "lat":
		return number(d, &r.lat, &r.hasLat)
	case "longitude", "lon", "lng":
		return number(d, &r.lon, &r.hasLon)
	case "location":
		kind, err := d.PeekKind()
		if err != nil {
			return err
		}
		if kind != mmdbdata.KindMap {
			return d.SkipValue()
		}
		return each(d, func(key string) error {
			switch key {
			case "latitude":
				return number(d, &r.lat, &r.hasLat)
			case "longitude":
				return number(d, &r.lon, &r.hasLon)
			default:
				return d.SkipValue()
			}
		})
	default:
		return d.SkipValue()
	}
}

// each visits the keys of a map; do must read or skip the value.
func each(d *mmdbdata.Decoder, do func(key string) error) error {
	keys, size, err := d.ReadMap()
	if err != nil {
		return err
	}
	if size > maxKeys {
		return errors.New("a map of a record has too many keys")
	}
	for key, err := range keys {
		if err != nil {
			return err
		}
		if err := do(string(key)); err != nil {
			return err
		}
	}
	return nil
}

// code reads a code of 1 to most capitals or digits, or that under a key of a
// map; what is none, such as a country's name, is left out. A code that was found
// already stays: "country" may be a name beside "country_code".
func code(d *mmdbdata.Decoder, key string, most int, into *string) error {
	kind, err := d.PeekKind()
	if err != nil {
		return err
	}
	switch {
	case kind == mmdbdata.KindMap && key != "":
		return each(d, func(k string) error {
			if k == key {
				return code(d, "", most, into)
			}
			return d.SkipValue()
		})
	case kind != mmdbdata.KindString:
		return d.SkipValue()
	}
	s, err := d.ReadString()
	if err != nil || *into != "" || s == "" || len(s) > most {
		return err
	}
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return nil
		}
	}
	*into = s
	return nil
}

// divisions reads GeoIP2's list, the largest first.
func (r *record) divisions(d *mmdbdata.Decoder) error {
	kind, err := d.PeekKind()
	if err != nil {
		return err
	}
	if kind != mmdbdata.KindSlice {
		return d.SkipValue()
	}
	items, size, err := d.ReadSlice()
	if err != nil {
		return err
	}
	if size > maxKeys {
		return errors.New("a record has too many subdivisions")
	}
	for err := range items {
		if err != nil {
			return err
		}
		var s string
		if err := code(d, "iso_code", 3, &s); err != nil {
			return err
		}
		r.subdivisions = append(r.subdivisions, s)
	}
	return nil
}

// number reads a number, or a text that is one.
func number(d *mmdbdata.Decoder, into *float64, has *bool) error {
	kind, err := d.PeekKind()
	if err != nil {
		return err
	}
	v := math.NaN()
	switch kind {
	case mmdbdata.KindFloat64:
		v, err = d.ReadFloat64()
	case mmdbdata.KindFloat32:
		var f float32
		f, err = d.ReadFloat32()
		v = float64(f)
	case mmdbdata.KindString:
		var s string
		if s, err = d.ReadString(); err == nil {
			if f, bad := strconv.ParseFloat(s, 64); bad == nil {
				v = f
			}
		}
	default:
		return d.SkipValue()
	}
	if err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
		*into, *has = v, true
	}
	return err
}

package plan

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The fields that ReadDoc knows by number; plan.proto has them.
const (
	fieldObjects protowire.Number = 1 // of SpecDoc
	fieldJSON    protowire.Number = 4 // of Object
)

// ReadDoc is proto.Unmarshal of a document, whose resources' JSON lies in octets, which
// must not be written to: that of a zone may have tens of millions, and is not to be
// held twice.
func ReadDoc(octets []byte) (*SpecDoc, error) {
	var objects []*Object
	rest, err := without(octets, fieldObjects, func(body []byte) error {
		o := &Object{}
		var json []byte
		small, err := without(body, fieldJSON, func(value []byte) error {
			json = value
			return nil
		})
		if err == nil {
			err = proto.Unmarshal(small, o)
		}
		o.Json = json
		objects = append(objects, o)
		return err
	})
	doc := &SpecDoc{}
	if err == nil {
		err = proto.Unmarshal(rest, doc)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a spec document: %w", err)
	}
	doc.Objects = objects
	return doc, nil
}

// without gives a message's octets less one of its fields, each value of which is
// taken.
func without(message []byte, field protowire.Number, take func(value []byte) error) (rest []byte, err error) {
	for len(message) > 0 {
		num, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(num, kind, message[n:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		if num == field && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message[n:])
			if err := take(slices.Clip(value)); err != nil {
				return nil, err
			}
		} else {
			rest = append(rest, message[:n+size]...)
		}
		message = message[n+size:]
	}
	return rest, nil
}

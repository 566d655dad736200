package plan

import (
	"bytes"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func documents(t testing.TB) [][]byte {
	t.Helper()
	doc := &SpecDoc{Objects: []*Object{
		{Kind: "Zone", Name: "example.org", Source: "files", Json: []byte(`{"a":1}`), Applied: []*Applied{{Director: "d1", Hash: []byte("h")}}},
		{Kind: "Zone", Name: "gone", Removed: true},
		{},
	}}
	whole, err := proto.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	doc.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	doc.Objects[0].ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 98, protowire.BytesType), "later"))
	later, err := proto.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{nil, whole, later, append(bytes.Clone(whole), later...), whole[:len(whole)/2]}
}

// What ReadDoc gives is what the library reads, fields of later versions included.
func FuzzReadDoc(f *testing.F) {
	for _, octets := range documents(f) {
		f.Add(octets)
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		before := bytes.Clone(octets)
		got, err := ReadDoc(octets)
		want := &SpecDoc{}
		if wantErr := proto.Unmarshal(octets, want); (err == nil) != (wantErr == nil) {
			t.Fatalf("%x: got %v, want %v", octets, err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("%x: got %v, want %v", octets, got, want)
		}
		if !bytes.Equal(octets, before) {
			t.Fatal("written to")
		}
	})
}

func TestReadDocCopiesNoResource(t *testing.T) {
	octets := documents(t)[1]
	doc, err := ReadDoc(octets)
	if err != nil {
		t.Fatal(err)
	}
	json := doc.GetObjects()[0].GetJson()
	at := uintptr(unsafe.Pointer(&json[0])) - uintptr(unsafe.Pointer(&octets[0]))
	if at >= uintptr(len(octets)) || cap(json) != len(json) {
		t.Error("a resource is copied, or can grow into what follows it")
	}
}

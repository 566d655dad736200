package gossip

import (
	"crypto/ed25519"
	"encoding/base64"
	"io/fs"
	"testing"
	"time"
)

// memory is a folder in memory.
type memory map[string][]byte

func (m memory) Path(name string) string { return name }

func (m memory) Read(name string) ([]byte, error) {
	if raw, ok := m[name]; ok {
		return raw, nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) Replace(name string, content []byte) error { m[name] = content; return nil }
func (m memory) Remove(name string) error                  { delete(m, name); return nil }

// FuzzIdentity: whatever stands in a director's files (F17), it has the very key that
// stands there, or none; it never makes another in its place, and never takes boot 0.
func FuzzIdentity(f *testing.F) {
	good := memory{}
	if _, err := loadIdentity(good, "d1", time.Unix(1e9, 0)); err != nil {
		f.Fatal(err)
	}
	f.Add(good[identityFile], good[bootFile])
	f.Add([]byte(`{"version":1,"name":"d1","seed":"","sum":""}`), []byte(`{"version":1,"boot":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, key, boot []byte) {
		in := memory{identityFile: key, bootFile: boot}
		id, err := loadIdentity(in, "d1", time.Unix(1e9, 0))
		if string(in[identityFile]) != string(key) {
			t.Error("the key was written over")
		}
		if err != nil {
			return
		}
		if len(id.Key) != ed25519.PrivateKeySize || id.Boot == 0 {
			t.Errorf("got %+v", id)
		}
		// What was taken is what was written by us, as nothing else has its sum.
		again, err := loadIdentity(in, "d1", time.Unix(1e9, 0))
		if err != nil || base64.StdEncoding.EncodeToString(again.Key) != base64.StdEncoding.EncodeToString(id.Key) {
			t.Errorf("at the next start: %v, %v", again, err)
		}
	})
}

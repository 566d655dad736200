package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/divertdns/divert/director/store/fsys"
)

// Emergencies is one small file of a director's own, replaced as a whole and read at a
// start: what operators have said while the store is away. It is beside the generations
// and not in them, since it is written before anything is said or done, which must not
// wait for a large spec; and one that is damaged takes no plan with it.
type Emergencies struct {
	fsys fsys.FS
	path string
}

const (
	emergenciesMagic = "divert\x00e"
	// maxEmergencies is more than all the words that operators may have said.
	maxEmergencies = 1 << 20
)

// NewEmergencies names the file of a folder, which OpenDisk has made. It reads nothing.
func NewEmergencies(dir string) *Emergencies { return emergenciesOn(fsys.OS{}, dir) }

func emergenciesOn(on fsys.FS, dir string) *Emergencies {
	return &Emergencies{fsys: on, path: filepath.Join(dir, "emergencies")}
}

// Load gives what was saved last; nil when nothing was.
func (e *Emergencies) Load() ([]byte, error) {
	raw, err := fsys.ReadFile(e.fsys, e.path, maxEmergencies+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the file of emergencies: %w", err)
	}
	const head = len(emergenciesMagic) + sha256.Size
	if len(raw) < head || len(raw) > maxEmergencies || string(raw[:len(emergenciesMagic)]) != emergenciesMagic {
		return nil, fmt.Errorf("%s is damaged: it is no file of emergencies", e.path)
	}
	if sum := sha256.Sum256(raw[head:]); !bytes.Equal(sum[:], raw[len(emergenciesMagic):head]) {
		return nil, fmt.Errorf("%s is damaged: its checksum differs", e.path)
	}
	return raw[head:], nil
}

// Save replaces it, and returns when that is on the disk; on an error the old one is
// there, or the new one.
func (e *Emergencies) Save(body []byte) error {
	sum := sha256.Sum256(body)
	raw := append(append([]byte(emergenciesMagic), sum[:]...), body...)
	if len(raw) > maxEmergencies {
		return fmt.Errorf("file of emergencies of %d octets, at most %d: %w", len(raw), maxEmergencies, ErrTooLarge)
	}
	err := fsys.Replace(e.fsys, e.path, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		return fmt.Errorf("saving the file of emergencies: %w", err)
	}
	return nil
}

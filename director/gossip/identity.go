package gossip

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Identity is who a director is to the others: its name and key last as long
// as its disk, its boot grows with each process.
type Identity struct {
	Name string
	Key  ed25519.PrivateKey
	Boot uint64
}

// Public gives the public half of the key.
func (i Identity) Public() ed25519.PublicKey {
	return ed25519.PublicKey(i.Key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

const (
	identityFile = "identity.json" // written once
	bootFile     = "boot.json"     // written at each start
)

// Folder is a director's data folder. What is replaced there is the old file or the new
// one after a crash at any instant, and the new one once Replace has returned nil.
type Folder interface {
	Path(name string) string // for people
	Read(name string) ([]byte, error)
	Replace(name string, content []byte) error
	Remove(name string) error
}

type identityRecord struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Seed    string `json:"seed"` // base64, 32 octets
	Sum     string `json:"sum"`
}

type bootRecord struct {
	Version int    `json:"version"`
	Boot    uint64 `json:"boot"`
	Sum     string `json:"sum"`
}

// LoadIdentity reads a director's identity from its data folder, makes it at
// the first start, and takes the next boot. Both are on disk, synced, before it
// returns, so that nothing is ever sent under a boot that could be given out
// again.
//
// The boot is one more than the last, or the seconds since 1970 if that is
// more: a disk restored from an old copy would otherwise go on with boots that
// its peers have seen, and be stale to them for as many restarts as it missed.
// A clock that runs backwards cannot lower it.
func LoadIdentity(in Folder, name string) (Identity, error) {
	return loadIdentity(in, name, time.Now())
}

func loadIdentity(in Folder, name string, now time.Time) (Identity, error) {
	if !validName(name) {
		return Identity{}, fmt.Errorf("director name %q: use 1 to %d letters, digits, dots, dashes and underscores", name, MaxName)
	}
	key, err := loadKey(in, name)
	if err != nil {
		return Identity{}, err
	}
	boot, err := nextBoot(in, now)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Name: name, Key: key, Boot: boot}, nil
}

func loadKey(in Folder, name string) (ed25519.PrivateKey, error) {
	raw, err := in.Read(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(in, name)
	} else if err != nil {
		return nil, fmt.Errorf("reading the director's identity: %w", err)
	}
	var rec identityRecord
	if err = json.Unmarshal(raw, &rec); err != nil {
		return nil, damaged(in.Path(identityFile))
	}
	seed, err := base64.StdEncoding.DecodeString(rec.Seed)
	if err != nil || len(seed) != ed25519.SeedSize || rec.Version != 1 || rec.Sum != sum("identity", rec.Name, rec.Seed) {
		return nil, damaged(in.Path(identityFile))
	}
	if rec.Name != name {
		return nil, fmt.Errorf("%s belongs to director %q, not to %q: give this director its own dataDir, or its old name back", in.Path(identityFile), rec.Name, name)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PeekKey reads a director's key from its data folder, and changes nothing there.
func PeekKey(in Folder, name string) (ed25519.PrivateKey, error) {
	if _, err := in.Read(identityFile); err != nil {
		return nil, fmt.Errorf("reading the director's identity: %w", err)
	}
	return loadKey(in, name)
}

// MakeIdentity makes the key of a director that is to run elsewhere, in what will be its
// data folder, and gives the public half. A key that is there already stays.
func MakeIdentity(in Folder, name string) (ed25519.PublicKey, error) {
	if !validName(name) {
		return nil, fmt.Errorf("director name %q: use 1 to %d letters, digits, dots, dashes and underscores", name, MaxName)
	}
	key, err := loadKey(in, name)
	if err != nil {
		return nil, err
	}
	return Identity{Key: key}.Public(), nil
}

func makeKey(in Folder, name string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the director's key: %w", err)
	}
	rec := identityRecord{Version: 1, Name: name, Seed: base64.StdEncoding.EncodeToString(key.Seed())}
	rec.Sum = sum("identity", rec.Name, rec.Seed)
	if err := writeRecord(in, identityFile, rec); err != nil {
		// Where it is not known whether its name lasts, no later try may take it for
		// one that does: others would get to know a key that is gone after a crash.
		_ = in.Remove(identityFile)
		return nil, fmt.Errorf("writing the director's identity: %w", err)
	}
	return key, nil
}

// A damaged identity is refused, never replaced: a new key under a registered
// name would be ignored by every peer, and the old one may be in a backup.
func damaged(path string) error {
	return fmt.Errorf("%s is damaged: restore it from a backup; or remove it, and have the new key approved with `divert director approve`", path)
}

func nextBoot(in Folder, now time.Time) (uint64, error) {
	var last uint64
	raw, err := in.Read(bootFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("reading the boot counter: %w", err)
	default:
		// A damaged counter counts as none: the clock still carries it past
		// every boot of the past.
		var rec bootRecord
		if json.Unmarshal(raw, &rec) == nil && rec.Version == 1 && rec.Sum == sum("boot", fmt.Sprint(rec.Boot)) {
			last = rec.Boot
		}
	}
	boot := max(last+1, uint64(max(now.Unix(), 1)))
	if err := writeRecord(in, bootFile, bootRecord{Version: 1, Boot: boot, Sum: sum("boot", fmt.Sprint(boot))}); err != nil {
		return 0, fmt.Errorf("writing the boot counter: %w", err)
	}
	return boot, nil
}

func sum(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writeRecord(in Folder, name string, rec any) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return in.Replace(name, append(raw, '\n'))
}

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/divertdns/divert/director/plan"
	"github.com/divertdns/divert/director/store/fsys"
)

func openDisk(t *testing.T, dir string) *Disk {
	t.Helper()
	d, err := OpenDisk(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func generation(n int) Generation {
	return Generation{
		Plan: fmt.Appendf(nil, "plan %d", n), Doc: fmt.Appendf(nil, "doc %d", n), Health: fmt.Appendf(nil, "health %d", n),
		Resolved: fmt.Appendf(nil, "resolved %d", n),
		Policy:   fmt.Appendf(nil, "policy %d", n),
		Highest:  plan.Identity{Fleet: "f1", Epoch: 1, Revision: uint64(n), Hash: plan.Sum([]byte{byte(n)})},
		Saved:    time.Unix(int64(n), 5),
	}
}

func save(t *testing.T, d *Disk, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := d.Save(generation(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// load opens the folder as a new process would.
func load(t *testing.T, dir string) (Generation, string) {
	t.Helper()
	g, note, err := openDisk(t, dir).Load()
	if err != nil {
		t.Fatal(err)
	}
	return g, note
}

func wantGeneration(t *testing.T, got Generation, n int) {
	t.Helper()
	if want := generation(n); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %q of %v, want %q", got.Plan, got.Highest, want.Plan)
	}
}

// S12: what was saved is there after a restart, the newest of at least Keep.
func TestDiskKeepsTheNewest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	d := openDisk(t, dir)
	if g, note, err := d.Load(); err != nil || note != "" || g.Plan != nil {
		t.Fatalf("a new disk: %v %q %v, want nothing", g, note, err)
	}
	for n := 1; n <= 8; n++ {
		save(t, d, n)
		got, note := load(t, dir)
		wantGeneration(t, got, n)
		if note != "" {
			t.Errorf("note %q", note)
		}
		if on, _ := d.list(); len(on) != min(n, Keep) {
			t.Errorf("%d generations after %d, want %d", len(on), n, min(n, Keep))
		}
	}
	// A new process deletes none before it knows as many good ones.
	d = openDisk(t, dir)
	save(t, d, 9)
	if on, _ := d.list(); len(on) != Keep+1 {
		t.Errorf("%d generations, want %d", len(on), Keep+1)
	}
	save(t, d, 10, 11)
	if on, _ := d.list(); len(on) != Keep {
		t.Errorf("%d generations, want %d", len(on), Keep)
	}
	got, _ := load(t, dir)
	wantGeneration(t, got, 11)
}

// F17, F24: the newest file cut at every length, and with every octet flipped:
// the one before, said to be behind.
func TestDiskDamage(t *testing.T) {
	dir := t.TempDir()
	save(t, openDisk(t, dir), 1, 2)
	newest := openDisk(t, dir).path(2)
	whole, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(newest, content, 0o600); err != nil {
			t.Fatal(err)
		}
		d, _ := OpenDisk(dir, nil)
		got, note, err := d.Load()
		if err != nil || !strings.Contains(note, "behind") || !strings.Contains(note, "generation 2 ") {
			t.Fatalf("%s: %v, note %q, want generation 1 and that it is behind", what, err, note)
		}
		wantGeneration(t, got, 1)
	}
	for n := range len(whole) {
		check(fmt.Sprintf("cut at %d", n), whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1 << (n % 8)
		check(fmt.Sprintf("flipped at %d", n), flipped)
	}
	check("longer", append(bytes.Clone(whole), 0))
	// What was damaged stays, is not counted as good, and its number not used again.
	d := openDisk(t, dir)
	if _, _, err := d.Load(); err != nil {
		t.Fatal(err)
	}
	save(t, d, 3)
	got, note := load(t, dir)
	wantGeneration(t, got, 3)
	if note != "" {
		t.Errorf("note %q after a new generation", note)
	}
	if err := os.Remove(d.path(3)); err != nil {
		t.Fatal(err)
	}
	got, _ = load(t, dir)
	wantGeneration(t, got, 1)
}

// F24: a process killed at any point of Save leaves a part of a temporary
// file: the old newest is used, without a note, and the litter goes.
func TestDiskInterruptedSave(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	save(t, d, 1)
	next, err := generation(2).encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(next) + 1 {
		if err := os.WriteFile(d.path(2)+fsys.Temporary, next[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		got, note := load(t, dir)
		wantGeneration(t, got, 1)
		if note != "" {
			t.Fatalf("cut at %d: note %q", n, note)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+fsys.Temporary)); len(left) > 0 {
		t.Errorf("litter left: %v", left)
	}
}

// F17: nothing readable is not the same as nothing there.
func TestDiskAllDamaged(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	save(t, d, 1, 2)
	for _, n := range []uint64{1, 2} {
		if err := os.WriteFile(d.path(n), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, note, err := openDisk(t, dir).Load(); !errors.Is(err, ErrDamaged) || !strings.Contains(note, "torn") {
		t.Errorf("got %v, note %q, want ErrDamaged", err, note)
	}
}

// A newer divert's file is refused by its format, not taken for damage.
func TestDiskNewerFormat(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	save(t, d, 1, 2)
	raw, err := os.ReadFile(d.path(2))
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(raw[len(generationMagic):], generationFormat+1)
	copy(raw[headerLength:], checksum(raw))
	if err := os.WriteFile(d.path(2), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, note := load(t, dir)
	wantGeneration(t, got, 1)
	if !strings.Contains(note, "upgrade this one") {
		t.Errorf("note %q, want what to do", note)
	}
}

// TestGenerationFields (F22): a field that is new here is skipped by a divert that does
// not know it, and a file without it reads well; without hostnames there is none.
func TestGenerationFields(t *testing.T) {
	with, without := generation(1), generation(1)
	without.Resolved = nil
	old, err := without.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decode(old); err != nil || !reflect.DeepEqual(got, without) {
		t.Errorf("an older divert's file: got %+v, %v", got, err)
	}
	file, err := with.encode()
	if err != nil {
		t.Fatal(err)
	}
	// The old reader is this one, for which the number means nothing.
	tag := protowire.AppendTag(nil, fieldResolved, protowire.BytesType)
	at := bytes.Index(file[bodyOffset:], append(tag, protowire.AppendString(nil, "resolved 1")...))
	if at < 0 {
		t.Fatal("the field is not in the file")
	}
	copy(file[bodyOffset+at:], protowire.AppendTag(nil, 15, protowire.BytesType))
	copy(file[headerLength:], checksum(file))
	if got, err := decode(file); err != nil || !reflect.DeepEqual(got, without) {
		t.Errorf("an older divert reads %+v, %v, want all but the field", got, err)
	}
}

// F16: a full or unwritable disk is said, and takes nothing that was there.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	save(t, d, 1, 2, 3)
	obstacles := map[string]func(tmp string) error{
		"unwritable": func(tmp string) error { return os.Mkdir(tmp, 0o700) },
	}
	if runtime.GOOS == "linux" {
		obstacles["full"] = func(tmp string) error { return os.Symlink("/dev/full", tmp) }
	}
	for name, put := range obstacles {
		tmp := d.path(4) + fsys.Temporary
		if err := put(tmp); err != nil {
			t.Fatal(err)
		}
		if err := d.Save(generation(4)); err == nil || !strings.Contains(err.Error(), "saving generation 4") {
			t.Errorf("%s: saved, err %v", name, err)
		}
		_ = os.Remove(tmp)
		got, note := load(t, dir)
		wantGeneration(t, got, 3)
		if on, _ := d.list(); len(on) != 3 || note != "" {
			t.Errorf("%s: %v, note %q, want all three as they were", name, on, note)
		}
	}
	save(t, d, 4)
	got, _ := load(t, dir)
	wantGeneration(t, got, 4)
}

func TestDiskTooLarge(t *testing.T) {
	if err := openDisk(t, t.TempDir()).Save(Generation{Doc: make([]byte, maxGeneration)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	release, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second lock: %v, want a refusal that names the process", err)
	}
	release()
	release, err = LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func FuzzDecode(f *testing.F) {
	for _, n := range []int{0, 1, 300} {
		raw, err := generation(n).encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) >= bodyOffset {
			// Past the checksum, or the body is never reached.
			copy(raw, generationMagic)
			binary.BigEndian.PutUint32(raw[len(generationMagic):], generationFormat)
			binary.BigEndian.PutUint64(raw[len(generationMagic)+4:], uint64(len(raw)-bodyOffset))
			copy(raw[headerLength:], checksum(raw))
		}
		g, err := decode(raw)
		if err != nil {
			return
		}
		again, err := g.encode()
		if err != nil {
			t.Fatal(err)
		}
		if h, err := decode(again); err != nil || !bytes.Equal(h.Plan, g.Plan) || h.Highest != g.Highest {
			t.Fatalf("once more: %v %v, want %v", h, err, g)
		}
	})
}

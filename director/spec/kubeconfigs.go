package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// outsideKubeconfigs says what to do about a path that Kubeconfigs refuses.
const outsideKubeconfigs = "put it into the folder that probe.kubeconfigs of the director's settings names, or into a folder of its spec"

// Kubeconfigs is where the kubeconfigs that a spec names may lie on a director, and the
// files that these name: below a folder that its own settings give, or a folder of its
// spec. A director may read more than who writes a spec, and sends what it reads to a
// server that such a file names.
type Kubeconfigs struct {
	base    string   // relative paths begin here
	folders []string // as a person named them, files of the spec too: beside these
}

// Kubeconfigs gives those of a director.
func (s *Settings) Kubeconfigs() Kubeconfigs {
	k := Kubeconfigs{base: filepath.Dir(s.File), folders: s.Spec}
	if folder := s.Probe.Kubeconfigs; folder != "" {
		k.base, k.folders = folder, append([]string{folder}, s.Spec...)
	}
	return k
}

// Path gives the path of one that a spec names.
func (k Kubeconfigs) Path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(k.base, name)
}

// Open opens a file that lies in one of the folders, links followed first; others it does
// not even look at. It does not wait for what is no file.
func (k Kubeconfigs) Open(path string) (*os.File, error) {
	folder, inside, ok := k.find(path)
	if !ok {
		return nil, fmt.Errorf("%s is not read: it lies outside the folders of kubeconfigs (%s)", path, outsideKubeconfigs)
	}
	root, err := os.OpenRoot(folder) // out of which no link leads that is put there meanwhile
	if err != nil {
		return nil, fmt.Errorf("opening the folder of %s: %w", path, bare(err))
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(inside, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, bare(err))
	}
	return file, nil
}

// find gives the folder that a path leads into, and the way within it.
func (k Kubeconfigs) find(path string) (folder, inside string, ok bool) {
	path = unlinked(path)
	for _, p := range k.folders {
		in := []string{unlinked(p)}
		if info, err := os.Stat(p); err == nil && !info.IsDir() { // a file of the spec
			in = []string{unlinked(filepath.Dir(p)), filepath.Dir(in[0])}
		}
		for _, folder := range in {
			if inside, ok = below(folder, path); ok {
				return folder, inside, true
			}
		}
	}
	return "", "", false
}

// below gives the way from a folder to what lies in it, or below; both without links.
func below(folder, path string) (inside string, ok bool) {
	inside, err := filepath.Rel(folder, path)
	return inside, err == nil && filepath.IsLocal(inside)
}

// bare leaves of an error of a path what went wrong.
func bare(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

package resolve

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestServersFileComesAndGoes: a file that is removed and written anew is looked at
// between the two as well.
func TestServersFileComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			_ = os.WriteFile(path, []byte("nameserver 192.0.2.53\n"), 0o600)
			_ = os.Remove(path)
		}
	})
	for range 5000 {
		s := servers{path: path}
		if list, err := s.all(); err == nil && len(list) != 1 {
			t.Fatalf("got %v", list)
		}
	}
}

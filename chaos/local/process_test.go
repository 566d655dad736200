package local

import (
	"os"
	"path/filepath"
	"testing"
)

// TestProcessEnded tells a process that ended by itself from one that was ended.
func TestProcessEnded(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := func(args ...string) *Process {
		p := &Process{name: "p", args: args, log: filepath.Join(t.TempDir(), "p.log")}
		if p.ended() {
			t.Error("one that never started has ended")
		}
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	fails := process(self, "-test.nonsense") // a flag that there is not
	<-fails.done
	if !fails.ended() {
		t.Error("one that ended by itself has not ended")
	}
	for name, end := range map[string]func(*Process){
		"kill": func(p *Process) { _ = p.kill() }, "end": (*Process).end,
	} {
		p := process("sleep", "60")
		if p.ended() {
			t.Errorf("%s: a running one has ended", name)
		}
		if end(p); p.ended() {
			t.Errorf("%s: it counts as ended by itself", name)
		}
	}
}

package main

import (
	"os"
	"testing"
)

// TestMutants: there are at least forty deliberate bugs, each is written against lines
// that are there once, and each says what it is, which row it breaks, and in which scenario.
func TestMutants(t *testing.T) {
	t.Chdir("../../../..")
	list, err := all()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 40 {
		t.Errorf("%d mutants, want 40 at least", len(list))
	}
	for _, m := range list {
		source, err := os.ReadFile(m.file)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		text, err := m.put(string(source))
		if err != nil {
			t.Error(err)
		}
		if text == string(source) || m.why == "" || m.row == "" || m.scenario == "" {
			t.Errorf("%s: changes nothing, or does not say what, which row or how it shows", m.name)
		}
	}
}

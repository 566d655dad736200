package main

import "testing"

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
		if _, err := m.put(); err != nil {
			t.Error(err)
		}
		if m.why == "" || m.row == "" || m.scenario == "" {
			t.Errorf("%s: does not say what it is, which row it breaks or how it shows", m.name)
		}
	}
}

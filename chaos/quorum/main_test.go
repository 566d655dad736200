package quorum

import (
	"fmt"
	"os"
	"testing"
)

// role is what this binary is when it runs as a process of a test.
const role = "DIVERT_QUORUM_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "member":
		err = playMember()
	case "director":
		err = playDirector()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// long tells whether this is the suite that takes minutes: DIVERT_STORE is short (the
// default), long or off.
func long(t *testing.T) bool {
	t.Helper()
	if os.Getenv("DIVERT_STORE") == "off" {
		t.Skip("DIVERT_STORE=off")
	}
	return os.Getenv("DIVERT_STORE") == "long"
}

//go:build !linux

package e2e

import "testing"

// TestFlood needs what Linux has.
func TestFlood(t *testing.T) { t.Skip("network namespaces are Linux's") }

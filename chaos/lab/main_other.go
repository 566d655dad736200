//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "lab: only Linux has the network namespaces that it needs")
	os.Exit(2)
}

// Command divert is the one binary: a director, its store, and the tool that
// an operator drives a fleet with. It decides nothing: a director does, and
// says why.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is stamped by the linker: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends a command that does not listen to the first
	code := newApp().run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Words that make this binary another program.
const (
	backendWord = "backend" // a server of services
	insideWord  = "inside"  // the lab, in its namespace
)

// backend serves "/healthz" at all addresses until it is killed.
func backend(listen []string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	ended := make(chan error, len(listen))
	for _, address := range listen {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
		go func() { ended <- s.Serve(l) }() // ends with the process
	}
	if len(listen) == 0 {
		return errors.New("no address to listen at")
	}
	fmt.Fprintln(os.Stderr, "serving", listen)
	return <-ended
}

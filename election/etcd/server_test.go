package etcd

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTry(t *testing.T) {
	for range 2 {
		sock := "unix://" + filepath.Join(t.TempDir(), "a b", "s")
		_ = sock
	}
	dir := t.TempDir()
	sock := "unix://" + filepath.Join(dir, "s.sock")
	for range 2 {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		ready := make(chan string, 1)
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, ServerOptions{Data: filepath.Join(dir, "data"), Listen: sock, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Ready: func(s string) { ready <- s }})
		}()
		select {
		case e := <-ready:
			t.Log("ready", e, time.Since(start))
		case err := <-done:
			t.Fatal(err)
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{sock}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Put(ctx, "a", "b")
		t.Log(r, err)
		w := c.Watch(ctx, "a", clientv3.WithCreatedNotify())
		<-w
		stop := time.Now()
		cancel()
		t.Log(<-done, time.Since(stop))
		c.Close()
	}
}

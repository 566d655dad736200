//go:build linux

package director

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/divertdns/divert/director/spec"
	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/dnsserver/geo"
)

// TestAnswersFromReadOnlyDisk: a director whose disk takes no writes still
// answers its last good plan after a cold start, and says nothing to others
// (S12, F16).
func TestAnswersFromReadOnlyDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a read-only folder needs root; CI has it")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("no mount can be made here (%v); CI's machine can", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })

	m := &mesh{t: t, ctx: t.Context(), geo: geo.Default()}
	for i := range 3 {
		seed := sha256.Sum256([]byte{byte(i)})
		m.nodes = append(m.nodes, m.node("d"+string(rune('1'+i)), ed25519.NewKeyFromSeed(seed[:])))
	}
	f := m.plan(nil, 7, m.nodes[0])
	disk, err := store.OpenDisk(filepath.Join(dir, "state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.Save(store.Generation{Plan: f.sealed.Raw, Doc: f.bytes, Highest: f.sealed.Identity, Saved: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}

	settings := spec.DefaultSettings()
	settings.Name, settings.Site, settings.DataDir = "d1", "s1", dir
	settings.DNS.Listen, settings.API.Listen = []string{"127.0.0.1:0"}, ""
	d, err := New(Options{Settings: settings, Etcd: []string{"false"}})
	if err != nil {
		t.Fatal(err)
	}
	if d.child != nil {
		t.Error("an etcd is to run that could write nothing, and a folder for its socket was wanted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", d.dns.Addrs()[0].String())
	}}
	got, err := resolver.LookupHost(t.Context(), "pay.example.org")
	if err != nil || len(got) != 1 || got[0] != "192.0.2.1" {
		t.Errorf("got %v, %v, want the last good answer", got, err)
	}
	if s := d.Status(); len(s.Alerts) == 0 || s.Store == "ok" {
		t.Errorf("status says nothing of it: %+v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

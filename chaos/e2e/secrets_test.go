package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/divertdns/divert/chaos/local"
	"github.com/divertdns/divert/director/api"
)

const transferKey = "secondary.example.net."

// secrets is what a director says of the fleet's secrets.
func (r *rig) secrets(i int) (s api.Secrets, err error) {
	out, code := r.divert(i, "secrets", "list", "-o", "json")
	if code != 0 {
		return s, fmt.Errorf("secrets list: exit %d: %s", code, out)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// inUse waits until a version of a secret is used, and all directors go by it.
func (r *rig) inUse(name string, version uint32) {
	r.t.Helper()
	r.until(60*time.Second, fmt.Sprintf("version %d of %s is used", version, name), func() error {
		for i := 1; i <= r.Directors(); i++ {
			s, err := r.secrets(i)
			if err != nil {
				return err
			}
			if len(s.Waits) > 0 {
				return fmt.Errorf("%s: waits for %v", local.Name(i), s.Waits)
			}
			found := false
			for _, one := range s.Secrets {
				found = found || one.Name == name && one.Use == version
			}
			if !found {
				return fmt.Errorf("%s: %+v", local.Name(i), s.Secrets)
			}
		}
		return nil
	})
}

// drawn makes a value, in its file.
func drawn(t *testing.T, file string) []byte {
	t.Helper()
	value := make([]byte, 32)
	_, err := rand.Read(value)
	must(t, err)
	must(t, os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(value)+"\n"), 0o600))
	return value
}

// cookieClient keeps one cookie, and shows it to all directors in turn, as a client of one
// anycast address does.
type cookieClient struct {
	cookie        string
	asked, turned int
}

// ask asks a director, and says what is wrong with the answer. A cookie that the server
// took comes back as it was, or made anew; one that it refused comes with BADCOOKIE.
func (c *cookieClient) ask(server string) error {
	m := new(dns.Msg)
	m.SetQuestion("pay.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: c.cookie})
	client := &dns.Client{Timeout: 2 * time.Second}
	reply, _, err := client.Exchange(m, server)
	c.asked++
	if err != nil {
		return err
	}
	if reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0 {
		return fmt.Errorf("rcode %s, %d answers", dns.RcodeToString[reply.Rcode], len(reply.Answer))
	}
	for _, o := range reply.IsEdns0().Option {
		if got, ok := o.(*dns.EDNS0_COOKIE); ok {
			if got.Cookie != c.cookie {
				c.turned++
			}
			c.cookie = got.Cookie
			return nil
		}
	}
	return errors.New("no cookie came back")
}

// transferred has a zone handed out, signed with a secret.
func transferred(server string, secret []byte) error {
	m := new(dns.Msg)
	m.SetAxfr("example.org.")
	m.SetTsig(transferKey, dns.HmacSHA256, 300, time.Now().Unix())
	conn, err := net.DialTimeout("tcp", server, 2*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	tr := &dns.Transfer{Conn: &dns.Conn{Conn: conn}, TsigSecret: map[string]string{transferKey: base64.StdEncoding.EncodeToString(secret)}}
	envelopes, err := tr.In(m, server)
	if err != nil {
		return err
	}
	records := 0
	for e := range envelopes {
		if e.Error != nil {
			return e.Error
		}
		records += len(e.RR)
	}
	if records < 2 {
		return fmt.Errorf("%d records", records)
	}
	return nil
}

// TestSecretsRotate sets and turns over a fleet's secrets on real directors under load: no
// query fails, no cookie is refused, no transfer is refused to a secondary that has either
// the old secret or the new one within the grace; a director that starts while etcd is away
// has them from its disk, and one that is removed is named until the secret is another.
func TestSecretsRotate(t *testing.T) {
	r := start(t, local.Options{Clusters: local.DefaultSites()[:2], AlsoDNS: "transfers: {keys: [{name: secondary.example.net, fleetSecret: true}]}"})
	r.settle()
	dir := t.TempDir()
	if err := transferred(r.DNS(1), make([]byte, 32)); err == nil {
		t.Fatal("a key without a secret hands out a zone")
	}
	r.until(30*time.Second, "all say what to encrypt to", func() error {
		s, err := r.secrets(1)
		if err == nil && len(s.Recipients) != r.Directors() {
			err = fmt.Errorf("%d recipients, silent: %v", len(s.Recipients), s.Silent)
		}
		return err
	})

	file := filepath.Join(dir, "one.key")
	first := drawn(t, file)
	r.must(1, "secrets", "set", "tsig/secondary.example.net", "--file", file, "--reason", "first")
	r.inUse("tsig/secondary.example.net", 1)

	_, stop := r.query(200, "pay.example.org")
	var secret atomic.Pointer[[]byte]
	secret.Store(&first)
	done := make(chan struct{})
	var group sync.WaitGroup
	var transfers atomic.Int64
	clients := make([]cookieClient, 4)
	for n := range clients {
		clients[n].cookie = fmt.Sprintf("%016x", n+1)
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(20 * time.Millisecond):
				}
				director := i%r.Directors() + 1
				if err := clients[n].ask(r.DNS(director)); err != nil {
					t.Errorf("client %d, query %d, to %s: %v", n, i, local.Name(director), err)
					return
				}
			}
		})
	}
	for i := 1; i <= r.Directors(); i++ {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(50 * time.Millisecond):
				}
				if err := transferred(r.DNS(i), *secret.Load()); err != nil {
					t.Errorf("transfer %d from %s: %v", transfers.Load(), local.Name(i), err)
					return
				}
				transfers.Add(1)
			}
		})
	}
	// The first key of the fleet's cookies takes over from the gossip key's, then a second.
	r.must(2, "secrets", "rotate", "cookie", "--reason", "first")
	r.inUse("cookie", 1)
	r.must(3, "secrets", "rotate", "cookie", "--reason", "every quarter")
	r.inUse("cookie", 2)
	// The next secret of transfers: the secondary changes while both are good.
	file = filepath.Join(dir, "two.key")
	second := drawn(t, file)
	r.must(1, "secrets", "set", "tsig/secondary.example.net", "--file", file, "--reason", "every quarter")
	r.inUse("tsig/secondary.example.net", 2)
	secret.Store(&second)
	before := transfers.Load()
	r.until(20*time.Second, "the secondary uses the next secret for a while", func() error {
		if n := transfers.Load() - before; n < 20 && !t.Failed() {
			return fmt.Errorf("%d transfers", n)
		}
		return nil
	})
	r.must(1, "secrets", "remove", "tsig/secondary.example.net", "--version", "1", "--reason", "the secondary has the next")
	r.inUse("tsig/secondary.example.net", 2)
	close(done)
	group.Wait()
	stop()
	asked := 0
	for n := range clients {
		asked += clients[n].asked
		if clients[n].turned < 3 { // its first, and one of each of the fleet's keys
			t.Errorf("client %d had %d cookies: the keys were not turned over", n, clients[n].turned)
		}
	}
	t.Logf("%d queries with a cookie and %d transfers, none refused", asked, transfers.Load())
	for i := 1; i <= r.Directors(); i++ {
		if bad := r.metrics(i)[`divert_dns_cookies_total{state="bad"}`]; bad != 0 {
			t.Errorf("%s did not know %v cookies", local.Name(i), bad)
		}
		if err := transferred(r.DNS(i), first); err == nil {
			t.Errorf("%s hands zones out by the secret that was removed", local.Name(i))
		}
	}

	// Without etcd a director has its secrets from its disk.
	must(t, r.Kill("etcd"))
	must(t, r.Kill("d2"))
	must(t, r.Start(t.Context(), "d2"))
	r.until(20*time.Second, "d2 hands zones out without etcd", func() error { return transferred(r.DNS(2), second) })
	must(t, r.Start(t.Context(), "etcd"))
	r.settle()

	// One that is removed could read them, and is named until they are others.
	must(t, r.Kill("d3"))
	r.must(1, "director", "remove", "d3", "--reason", "INC-1")
	named := func() error {
		out := r.must(1, "secrets", "list")
		if s := r.must(1, "status"); !strings.Contains(out, "could be read by d3") || !strings.Contains(s, "could be read by d3") {
			return fmt.Errorf("d3 is not named:\n%s", out)
		}
		s, err := r.secrets(1)
		if err != nil {
			return err
		}
		for _, one := range s.Secrets {
			for _, v := range one.Versions {
				if strings.Contains(strings.Join(v.Readers, " "), "d3") {
					return fmt.Errorf("%s is encrypted to d3 still", one.Name)
				}
			}
		}
		return nil
	}
	r.until(30*time.Second, "they are encrypted anew to those that are left", named)
	r.must(1, "secrets", "remove", "cookie", "--version", "1", "--reason", "INC-1")
	r.must(1, "secrets", "rotate", "cookie", "--reason", "d3 was removed")
	r.until(30*time.Second, "cookie is d3's no more", func() error {
		if s := r.must(1, "status"); strings.Contains(s, "secret cookie could be read") {
			return errors.New("it is")
		}
		return nil
	})
	for i := 1; i <= 2; i++ {
		log, err := r.Log(local.Name(i))
		must(t, err)
		disk, err := os.ReadFile(filepath.Join(r.DataDir(i), "secrets.vault"))
		must(t, err)
		for _, value := range [][]byte{first, second} {
			if bytes.Contains(disk, value[:12]) || bytes.Contains(log, []byte(base64.StdEncoding.EncodeToString(value))) {
				t.Errorf("%s keeps or tells a value", local.Name(i))
			}
		}
	}
}

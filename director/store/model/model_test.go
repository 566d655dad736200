package model

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/divertdns/divert/director/store"
	"github.com/divertdns/divert/election/etcd"
)

// TestTwin: the model does what etcd does, transaction by transaction: the same compares
// hold, and the same keys are there afterwards, with the same values and the same order
// of revisions.
func TestTwin(t *testing.T) {
	etcd := serve(t)
	twin := New(nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	keys := []string{"k/a", "k/b", "k/c"}
	// What each store once said of a key; a compare asks for that.
	type known struct{ create, mod int64 }
	said := map[string][2]known{}
	for i := range 400 {
		var cmps [2][]clientv3.Cmp
		for range rnd.IntN(3) {
			key, what, zero := keys[rnd.IntN(len(keys))], rnd.IntN(4), rnd.IntN(3) == 0
			for n := range cmps {
				want := said[key][n]
				if zero {
					want = known{}
				}
				var c clientv3.Cmp
				switch what {
				case 0:
					c = clientv3.Compare(clientv3.ModRevision(key), "=", want.mod)
				case 1:
					c = clientv3.Compare(clientv3.CreateRevision(key), "=", want.create)
				case 2:
					c = clientv3.Compare(clientv3.CreateRevision(key), ">", int64(0))
				default:
					c = clientv3.Compare(clientv3.ModRevision("k/"), "<", want.mod+1).WithPrefix()
				}
				cmps[n] = append(cmps[n], c)
			}
		}
		var then []clientv3.Op
		for _, key := range keys[:1+rnd.IntN(len(keys))] {
			switch rnd.IntN(3) {
			case 0:
				then = append(then, clientv3.OpDelete(key))
			default:
				then = append(then, clientv3.OpPut(key, fmt.Sprint(i)))
			}
		}
		otherwise := []clientv3.Op{clientv3.OpGet(keys[rnd.IntN(len(keys))])}
		got := twin.Txn(cmps[0], then, otherwise)
		want, err := etcd.Txn(t.Context()).If(cmps[1]...).Then(then...).Else(otherwise...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if got.Succeeded != want.Succeeded {
			t.Fatalf("transaction %d: the model says %v, etcd %v", i, got.Succeeded, want.Succeeded)
		}
		if !got.Succeeded {
			a, b := got.Responses[0].GetResponseRange().GetKvs(), want.Responses[0].GetResponseRange().GetKvs()
			if len(a) != len(b) || len(a) > 0 && string(a[0].Value) != string(b[0].Value) {
				t.Fatalf("transaction %d: asked else, the model says %v, etcd %v", i, a, b)
			}
		}
		for _, key := range keys {
			resp, err := etcd.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			mine := twin.Get(key)
			if (mine.Create > 0) != (len(resp.Kvs) > 0) || len(resp.Kvs) > 0 && mine.Value != string(resp.Kvs[0].Value) {
				t.Fatalf("transaction %d: %s is %+v in the model, %v in etcd", i, key, mine, resp.Kvs)
			}
			now := [2]known{{mine.Create, mine.Mod}}
			if len(resp.Kvs) > 0 {
				now[1] = known{resp.Kvs[0].CreateRevision, resp.Kvs[0].ModRevision}
			}
			old := said[key]
			if (now[0].mod != old[0].mod) != (now[1].mod != old[1].mod) || (now[0].create != old[0].create) != (now[1].create != old[1].create) {
				t.Fatalf("transaction %d: %s went from %v to %v", i, key, old, now)
			}
			if rnd.IntN(4) > 0 { // else what was said is old news
				said[key] = now
			} else {
				said[key] = [2]known{{1, 1}, {1, 1}}
			}
		}
	}
}

// TestLeases: what is held by a lease ends with it, and no sooner.
func TestLeases(t *testing.T) {
	e := New(nil)
	one, two := e.Grant(0, 5*time.Second), e.Grant(0, 5*time.Second)
	e.Put("q/b", "d2", two)
	e.Put("q/a", "d1", one)
	if key, v := e.First("q/"); key != "q/b" || v.Value != "d2" {
		t.Errorf("first is %s %v, want the oldest", key, v)
	}
	if !e.Renew(one, 4*time.Second, 5*time.Second) {
		t.Error("a lease that lives cannot be renewed")
	}
	e.Expire(5 * time.Second)
	if key, _ := e.First("q/"); key != "q/a" || e.Renew(two, 5*time.Second, time.Second) || e.Put("q/c", "", two) {
		t.Errorf("first is %s; the other lease goes on", key)
	}
	e.Restore(e.Snapshot())
	if len(e.Below("")) > 0 {
		t.Error("keys of leases are in a backup")
	}
}

func serve(t *testing.T) *clientv3.Client {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- etcd.Serve(ctx, etcd.ServerOptions{
			Data: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "s"), Ready: func(e string) { ready <- e },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("etcd: %v", err)
		}
	})
	select {
	case at := <-ready:
		s, err := store.New(store.Options{Endpoints: []string{at}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s.Client()
	case err := <-done:
		done <- nil
		t.Fatal(err)
		return nil
	}
}

package spec

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every file of a secret is the owner's alone: all that are not are named at once, with
// the line of the settings and the command that closes each.
func TestCheckSecretFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := filepath.Join(dir, "director.yaml")
	write(t, path, `
name: d1
dataDir: data
gossip: {keyFile: gossip.key, join: ["192.0.2.1"]}
etcd: {endpoints: ["https://192.0.2.1:2379"], tls: {ca: ca.pem, cert: cert.pem, key: etcd.key}}
dns:
  tls: {listen: ["127.0.0.1:853"], cert: cert.pem, key: dot.key}
  transfers: {keys: [{name: a.example.org, secretFile: a.key}, {name: b.example.org, secretFile: b.key}]}
probe: {secrets: secrets}
`)
	s, problems := LoadSettings(path)
	if Failed(problems) {
		t.Fatal(problems)
	}
	file("gossip.key", 0o644)
	file("etcd.key", 0o660)
	file("dot.key", 0o400)
	file("a.key", 0o600)
	file("b.key", 0o620)
	file("ca.pem", 0o644)
	file("data/identity.json", 0o604)
	file("secrets/token", 0o644)
	file("secrets/..data/token", 0o644) // as Kubernetes mounts them
	if err := os.Chmod(filepath.Join(dir, "secrets"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"director.yaml:3: error: dataDir: data/identity.json is open to others than its owner (mode 0604), and holds a secret (chmod 600 data/identity.json; ",
		"director.yaml:4: error: gossip.keyFile: gossip.key is open to others than its owner (mode 0644), and holds a secret (chmod 600 gossip.key; ",
		"director.yaml:5: error: etcd.tls.key: etcd.key is open to others than its owner (mode 0660), and holds a secret (chmod 600 etcd.key; ",
		"director.yaml:8: error: dns.transfers.keys[1].secretFile: b.key is open to others than its owner (mode 0620), and holds a secret (chmod 600 b.key; ",
		"director.yaml:9: error: probe.secrets: secrets/token is open to others than its owner (mode 0644), and holds a secret (chmod 600 secrets/token; ",
	}
	got := CheckSecretFiles(s, false)
	if !slices.EqualFunc(got, want, func(p Problem, want string) bool {
		return strings.HasPrefix(strings.ReplaceAll(p.String(), dir+"/", ""), want)
	}) {
		t.Errorf("got %v, want %v", got, want)
	}
	if warned := CheckSecretFiles(s, true); Failed(warned) || len(warned) != len(want) {
		t.Errorf("as warnings: %v", warned)
	}
	for _, name := range []string{"gossip.key", "etcd.key", "b.key", "data/identity.json"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "secrets"), 0o700); err != nil { // which keeps what is in it
		t.Fatal(err)
	}
	if got := CheckSecretFiles(s, false); len(got) != 0 {
		t.Errorf("closed: got %v", got)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(filepath.Join(dir, "a.key"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if got := CheckSecretFiles(s, false); len(got) != 1 || !strings.Contains(got[0].String(), "another user (uid 65534)") {
		t.Errorf("another user's file: got %v", got)
	}
	// As `divert fleet init` leaves them, and `sudo divert serve` finds them.
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if got := CheckSecretFiles(s, false); len(got) != 0 {
		t.Errorf("files of the settings' owner: got %v", got)
	}
	if err := os.Chown(filepath.Join(dir, "b.key"), 65533, 65533); err != nil {
		t.Fatal(err)
	}
	if got := CheckSecretFiles(s, false); len(got) != 1 || !strings.Contains(got[0].String(), "another user (uid 65533)") {
		t.Errorf("a third user's file: got %v", got)
	}
}

// What root hands to a process is its alone, as Kubernetes (fsGroup) and systemd
// (LoadCredential=) do it; a group that is not this process', or may write, is others.
func TestHandedSecretFiles(t *testing.T) {
	acl := func(entries ...[3]uint32) []byte {
		out := binary.LittleEndian.AppendUint32(nil, aclVersion)
		for _, e := range entries {
			out = binary.LittleEndian.AppendUint32(out, e[0]|e[1]<<16)
			out = binary.LittleEndian.AppendUint32(out, e[2])
		}
		return out
	}
	none := ^uint32(0)
	owner, mask, others := [3]uint32{1, 4, none}, [3]uint32{0x10, 4, none}, [3]uint32{0x20, 0, none}
	group := func(grants uint32) [3]uint32 { return [3]uint32{aclGroupObj, grants, none} }
	h := holder{uid: 1000, groups: []int{1000, 2000}}
	for _, c := range []struct {
		name string
		perm os.FileMode
		gid  int
		acl  []byte
		want bool
	}{
		{"fsGroup", 0o440, 2000, nil, true},
		{"fsGroup, writable by root", 0o640, 2000, nil, true},
		{"a folder of it", 0o750, 2000, nil, true},
		{"another group", 0o640, 3000, nil, false},
		{"root's group", 0o640, 0, nil, false},
		{"writable by the group", 0o660, 2000, nil, false},
		{"others too", 0o644, 2000, nil, false},
		{"LoadCredential", 0o440, 0, acl(owner, [3]uint32{aclUser, 4, 1000}, group(0), mask, others), true},
		{"another user by ACL", 0o440, 2000, acl(owner, [3]uint32{aclUser, 4, 1001}, group(4), mask, others), false},
		{"another group by ACL", 0o440, 2000, acl(owner, group(4), [3]uint32{aclGroup, 4, 3000}, mask, others), false},
		{"root's group beside the user", 0o440, 0, acl(owner, [3]uint32{aclUser, 4, 1000}, group(4), mask, others), false},
		{"an ACL that cannot be read", 0o440, 2000, []byte{1, 0, 0, 0}, false},
	} {
		if got := handedTo(h, c.perm, c.gid, c.acl); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	path := filepath.Join(t.TempDir(), "gossip.key")
	write(t, path, "secret")
	for _, c := range []struct {
		uid, gid int
		open     bool
	}{{0, os.Getegid(), false}, {0, 64999, true}, {os.Geteuid() + 7, os.Getegid(), true}} {
		if err := errors.Join(os.Chown(path, c.uid, c.gid), os.Chmod(path, 0o440)); err != nil {
			t.Fatal(err)
		}
		if message, _ := Exposed(path); (message != "") != c.open {
			t.Errorf("uid %d, gid %d: got %q", c.uid, c.gid, message)
		}
	}
}

// TestSecretFilesLaw: a setting that names a file of a secret is one that is looked at.
func TestSecretFilesLaw(t *testing.T) {
	// These name no file.
	none := []string{"DNS.Transfers.Notify.Key", "Etcd.Member.Token"}
	name := regexp.MustCompile(`(?i)(key|secret|token|password)(s|file|path)?$`)
	var s Settings
	var want []string
	var fill func(v reflect.Value, path string)
	fill = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Struct:
			if !v.CanSet() {
				return
			}
			for i := range v.NumField() {
				fill(v.Field(i), strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."))
			}
		case reflect.Slice:
			if v.CanSet() && v.Type().Elem().Kind() == reflect.Struct {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
				fill(v.Index(0), path)
			}
		case reflect.String:
			if v.CanSet() && name.MatchString(path) && !slices.Contains(none, path) {
				v.SetString("file of " + path)
				want = append(want, v.String())
			}
		}
	}
	fill(reflect.ValueOf(&s).Elem(), "")
	s.API.Kubernetes[0].Kubeconfig = "file of API.Kubernetes.Kubeconfig"
	// A folder counts by what is in it.
	want = slices.DeleteFunc(want, func(file string) bool { return file == "file of Probe.Secrets" })
	if len(want) < 4 {
		t.Fatalf("found %q only", want)
	}
	want = append(want, s.API.Kubernetes[0].Kubeconfig) // which holds a token, or a key
	for _, file := range want {
		if !slices.ContainsFunc(s.SecretFiles(), func(f SecretFile) bool { return f.Name == file }) {
			t.Errorf("SecretFiles does not list the %s: whoever could read it would not be noticed", file)
		}
	}
}

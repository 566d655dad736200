package spec

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// SecretFile is a file whose holder could speak, sign or answer in the director's name.
type SecretFile struct{ Path, Name string } // where the settings name it, and the file

// SecretFiles lists those that the settings name, and the director's own key. What they
// do not name is not listed.
func (s Settings) SecretFiles() []SecretFile {
	var out []SecretFile
	add := func(path, name string) {
		if name != "" {
			out = append(out, SecretFile{path, name})
		}
	}
	add("gossip.keyFile", s.Gossip.KeyFile)
	add("enrol.tokenFile", s.Enrol.TokenFile)
	add("api.tls.key", s.API.TLS.Key)
	for i, k := range s.API.Kubernetes {
		add(child(item("api.kubernetes", i), "kubeconfig"), k.Kubeconfig)
	}
	add("dns.tls.key", s.DNS.TLS.Key)
	for i, k := range s.DNS.Transfers.Keys {
		add(child(item("dns.transfers.keys", i), "secretFile"), k.SecretFile)
	}
	add("etcd.tls.key", s.Etcd.TLS.Key)
	add("etcd.member.tls.key", s.Etcd.Member.TLS.Key)
	if s.DataDir != "" {
		add("dataDir", filepath.Join(s.DataDir, "identity.json"))
		add("dataDir", filepath.Join(s.DataDir, "gossip.next")) // while the gossip key is turned over
	}
	if s.Probe.Secrets == "" {
		return out
	}
	// A folder that is closed keeps what is in it.
	if message, _ := Exposed(s.Probe.Secrets, ownersOf(s.File)...); message == "" {
		return out
	}
	entries, _ := os.ReadDir(s.Probe.Secrets) // that it cannot be read is for CheckFiles to say
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue // Kubernetes': the folders that the names beside them link into
		}
		add("probe.secrets", filepath.Join(s.Probe.Secrets, e.Name()))
	}
	return out
}

// CheckSecretFiles reports each secret file that others than this process' user could
// read or change, all at once, with the command that closes it. What is not there, or is
// no file, is not its matter. With warning it only warns: `divert check` is often run by
// another user. Files may belong to who owns the settings, too: who can change these
// names other files, as one who starts a director by sudo in a folder of his.
func CheckSecretFiles(s Settings, warning bool) []Problem {
	t := settingsOf(s, nil)
	for _, e := range s.Exposures() {
		t.report(e.Path, e.Message, e.Remedy, warning)
	}
	return tidy(t.problems)
}

// Exposure is a secret file that is open to others, in words, and how to close it.
type Exposure struct {
	SecretFile
	Message, Remedy string
}

// Exposures lists the secret files that are open to others now.
func (s Settings) Exposures() (out []Exposure) {
	owners := ownersOf(s.File)
	for _, f := range s.SecretFiles() {
		if message, remedy := Exposed(f.Name, owners...); message != "" {
			out = append(out, Exposure{f, message, remedy})
		}
	}
	return out
}

// Exposed says how a file, or a folder, is open to others than its owner, and how to
// close it; "" where it is closed, is not there, or is neither. Its owner is this
// process' user, root, or one of also: anybody else could change it. A group that may
// read is others: whoever joins it later has the secret. But what root owns is handed to
// a process that way, by Kubernetes (fsGroup) and by systemd (LoadCredential=, an ACL):
// there a group of this process, or its user by an ACL, may read, and not write.
func Exposed(name string, also ...int) (message, remedy string) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return "", ""
	}
	mode := "600"
	if info.IsDir() {
		mode = "700"
	}
	if owner, known := ownerOf(info); known && owner != 0 && owner != os.Geteuid() && !slices.Contains(also, owner) {
		return fmt.Sprintf("%s belongs to another user (uid %d), who can change it", name, owner),
			fmt.Sprintf("chown %d %s && chmod %s %s", os.Geteuid(), quoted(name), mode, quoted(name))
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && !handed(name, info) {
		return fmt.Sprintf("%s is open to others than its owner (mode %04o), and holds a secret", name, perm),
			closing(name, mode, info) + "; if others could have read it, make a new one"
	}
	return "", ""
}

// closing is the command that closes a file or folder to others. What root owns has to become the
// director's user's first: closed as it is, a director that read it by its group could not any more.
func closing(name, mode string, info fs.FileInfo) string {
	chmod := fmt.Sprintf("chmod %s %s", mode, quoted(name))
	owner, known := ownerOf(info)
	switch {
	case !known || owner != 0:
		return chmod
	case os.Geteuid() != 0:
		return fmt.Sprintf("chown %d %s && %s", os.Geteuid(), quoted(name), chmod)
	case groupOf(info) != 0:
		return fmt.Sprintf("chown USER %s && %s, USER being who the director runs as", quoted(name), chmod)
	}
	return chmod
}

// handed tells whether root owns a file or folder, and no one may read it but this process
// too, which may not change it.
func handed(name string, info fs.FileInfo) bool {
	owner, known := ownerOf(info)
	acl, err := aclOf(name)
	return known && owner == 0 && err == nil && handedTo(holder{os.Geteuid(), processGroups()}, info.Mode().Perm(), groupOf(info), acl)
}

// holder is a process: its user and its groups.
type holder struct {
	uid    int
	groups []int
}

// The kinds of entries of a POSIX ACL, as of Linux' posix_acl_xattr.h, and what they grant.
const (
	aclVersion   = 2
	aclUser      = 0x02
	aclGroupObj  = 0x04
	aclGroup     = 0x08
	aclHead      = 4
	aclEntrySize = 8
)

// handedTo tells whether what root owns is open to h alone, by group or by ACL, and not to
// be written by it. With an ACL, the mode's bits of the group are what it grants at most.
func handedTo(h holder, perm fs.FileMode, gid int, acl []byte) bool {
	if perm&0o027 != 0 {
		return false
	}
	if len(acl) == 0 {
		return slices.Contains(h.groups, gid)
	}
	if len(acl) < aclHead || (len(acl)-aclHead)%aclEntrySize != 0 || binary.LittleEndian.Uint32(acl) != aclVersion {
		return false
	}
	for e := acl[aclHead:]; len(e) > 0; e = e[aclEntrySize:] {
		tag, grants, id := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), int(binary.LittleEndian.Uint32(e[4:]))
		mine := true // the owner, others and the mask are in perm
		switch tag {
		case aclUser:
			mine = id == h.uid
		case aclGroupObj:
			mine = slices.Contains(h.groups, gid)
		case aclGroup:
			mine = slices.Contains(h.groups, id)
		}
		if grants != 0 && !mine {
			return false
		}
	}
	return true
}

// processGroups are the groups of this process.
func processGroups() []int {
	groups, err := os.Getgroups()
	if err != nil {
		groups = nil
	}
	return append(groups, os.Getegid())
}

// ownersOf gives a file's owner, where that can be told.
func ownersOf(name string) []int {
	info, err := os.Stat(name)
	if err != nil {
		return nil
	}
	if owner, known := ownerOf(info); known {
		return []int{owner}
	}
	return nil
}

// quoted is a file's name as a shell takes it.
func quoted(name string) string {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '/' || r == '.' || r == '-' || r == '_') {
			return strconv.Quote(name)
		}
	}
	return name
}

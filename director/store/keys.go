package store

import (
	"fmt"
	"strings"

	"github.com/divertdns/divert/director/plan"
)

// keys names everything that a fleet keeps in etcd, below one prefix. The
// election's keys stand beside them, below election/.
type keys struct{ prefix string }

func (k keys) plan() string               { return k.prefix + "plan" }
func (k keys) blobs() string              { return k.prefix + "blob/" }
func (k keys) blob(h plan.Hash) string    { return k.blobs() + h.String() }
func (k keys) audits() string             { return k.prefix + "audit/" }
func (k keys) audit(rev uint64) string    { return fmt.Sprintf("%s%020d", k.audits(), rev) }
func (k keys) auditHead() string          { return k.prefix + "audithead" }
func (k keys) command(id string) string   { return k.prefix + "command/" + id }
func (k keys) interlocks() string         { return k.prefix + "interlock/" }
func (k keys) acks() string               { return k.prefix + "ack/" }
func (k keys) elections() string          { return k.prefix + "election/" }
func (k keys) ack(director string) string { return k.acks() + director }

// checkName bounds what people and peers may put into a key.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s: none given", what)
	case len(name) > 253:
		return fmt.Errorf("%s: %d octets, at most 253", what, len(name))
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd }):
		return fmt.Errorf("%s %q: holds a space, a control character or broken UTF-8", what, name)
	}
	return nil
}

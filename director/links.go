package director

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/divertdns/divert/director/gossip"
	"github.com/divertdns/divert/director/store/fsys"
)

// links is what a director needs of its ties to the others: gossip, or nothing.
type links interface {
	outbox
	Run(ctx context.Context) error
	SendReliable(to string, kind uint8, payload []byte) error
	Rekey(secrets [][]byte) error
	Members() []gossip.Member
	Claimed(name string) gossip.Meta
	Answered() map[string]bool
	Addr() netip.AddrPort
	Advertised() netip.AddrPort
}

// openGossip binds the gossip port. A director alone gossips with nobody, on a
// loopback port of the kernel's choice.
func (d *Director) openGossip() error {
	g := d.settings.Gossip
	if g.KeyFile != "" {
		var err error
		if d.secrets, err = gossip.LoadSecrets(g.KeyFile); err != nil && d.mute == nil {
			return err
		}
	}
	if d.mute != nil {
		d.links = mute{}
		return nil
	}
	node, err := gossip.New(gossip.Options{
		Name: d.settings.Name, Site: d.settings.Site, Identity: d.identity,
		Listen: cmp.Or(g.Listen, "127.0.0.1:0"), Advertise: g.Advertise, Join: g.Join, Secrets: d.secrets,
		State: d.exchange, Fleet: d.fleet, Keys: d.keyOf, Peers: d.registered, Meta: d.meta, Kinds: kinds(), Deliver: d.deliver,
		Log: d.log, Registerer: d.registry,
	})
	if err != nil {
		return err
	}
	d.links = node
	return nil
}

// mute is no ties at all: of a director that cannot write its disk, and so
// cannot take a boot. Without one nothing that it says could be told from a
// replay.
type mute struct{}

var errMute = errors.New("this director says nothing to others: its data folder cannot be written")

func (mute) Broadcast(uint8, []byte) (gossip.Message, error)    { return gossip.Message{}, errMute }
func (mute) Send(string, uint8, []byte) (gossip.Message, error) { return gossip.Message{}, errMute }
func (mute) SendReliable(string, uint8, []byte) error           { return errMute }
func (mute) Alarms() map[string]string                          { return nil }
func (mute) Refresh()                                           {}
func (mute) Run(context.Context) error                          { return nil }
func (mute) Rekey([][]byte) error                               { return errMute }
func (mute) Members() []gossip.Member                           { return nil }
func (mute) Claimed(string) gossip.Meta                         { return gossip.Meta{} }
func (mute) Answered() map[string]bool                          { return nil }
func (mute) Addr() netip.AddrPort                               { return netip.AddrPort{} }
func (mute) Advertised() netip.AddrPort                         { return netip.AddrPort{} }

// unwritable tells a disk that takes no writes from other faults.
func unwritable(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EIO)
}

// ErrWritable ends a director that could only answer, once its disk takes writes
// again: made anew, it is whole.
var ErrWritable = errors.New("the data folder can be written again")

const diskTick = 10 * time.Second

// awaitDisk waits until a boot can be taken.
func (d *Director) awaitDisk(ctx context.Context) error {
	tick := time.NewTicker(diskTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := gossip.LoadIdentity(fsys.Folder{FS: fsys.OS{}, Dir: d.settings.DataDir}, d.settings.Name); err == nil {
			return ErrWritable
		}
	}
}

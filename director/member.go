package director

import (
	"log/slog"
	"path/filepath"

	"github.com/divertdns/divert/election/etcd"
)

// keepMember is openMember, of which an error stops no director that clients go by already
// (S12): the others' members are the store as well, and answers need none.
func (d *Director) keepMember() error {
	err := d.openMember()
	if err == nil || !HasServed(d.settings) {
		return err
	}
	d.child = nil
	d.log.Error("the member of etcd beside this director is not started: the store is one member short", slog.Any("err", err))
	return nil
}

// openMember makes the member of the store's cluster that this director keeps beside
// itself, where its settings want one. It is a process of its own: etcd exits the process
// when it cannot write its log, and a full disk must not stop DNS (F16).
func (d *Director) openMember() error {
	m := d.settings.Etcd.Member
	if m.Name == "" || d.mute != nil {
		return nil
	}
	cluster, err := etcd.ParseCluster(m.Cluster)
	if err != nil {
		return err
	}
	args := []string{"--listen", m.Listen}
	for _, f := range [][2]string{{"--ca", m.TLS.CA}, {"--cert", m.TLS.Cert}, {"--key", m.TLS.Key}, {"--crl", m.TLS.CRL}} {
		if f[1] != "" {
			args = append(args, f[0], f[1])
		}
	}
	args = append(args, etcd.Member{
		Name: m.Name, PeerListen: m.PeerListen, Advertise: m.Advertise, Cluster: cluster, Token: m.Token, Existing: m.Existing,
	}.Args()...)
	d.child, err = etcd.NewChild(etcd.ChildOptions{Data: filepath.Join(d.settings.DataDir, "etcd"), Args: args, Command: d.opts.Etcd, Log: d.log})
	return err
}

package main

import (
	"reflect"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/divertdns/divert/director/api"
)

// TestNoShadowedFlags: a flag that says how a director is asked (--key, --ca) means that with
// every command that asks one: one of the same name would leave no way to say it.
func TestNoShadowedFlags(t *testing.T) {
	offline := []string{"divert etcd", "divert demo cluster", "divert audit verify"} // these ask nobody where they take the flag
	a := &app{env: func(string) string { return "" }}
	root := a.root()
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if root.PersistentFlags().Lookup(f.Name) != nil && !slices.Contains(offline, c.CommandPath()) {
				t.Errorf("%s --%s hides the flag of all commands", c.CommandPath(), f.Name)
			}
		})
		for _, child := range c.Commands() {
			look(child)
		}
	}
	look(root)
}

// TestMigrateFiles: etcd's files have flags of their own; where no TLS leads to the director
// those of before mean them still.
func TestMigrateFiles(t *testing.T) {
	for _, tc := range []struct {
		args      []string
		want      api.MigrateOptions
		certShown string
	}{
		{[]string{"--etcd-ca", "a", "--etcd-cert", "b", "--etcd-key", "c"}, api.MigrateOptions{CA: "a", Cert: "b", Key: "c"}, ""},
		{[]string{"--ca", "a", "--cert", "b", "--key", "c"}, api.MigrateOptions{CA: "a", Cert: "b", Key: "c"}, ""},
		{[]string{"--server", "https://d1.example.net:8053", "--ca", "a", "--cert", "b", "--etcd-ca", "c"}, api.MigrateOptions{CA: "c"}, "b"},
		{nil, api.MigrateOptions{}, ""},
	} {
		a := &app{env: func(string) string { return "" }}
		c, rest, err := a.root().Find(append([]string{"store", "migrate"}, tc.args...))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ParseFlags(rest); err != nil {
			t.Fatal(err)
		}
		got := api.MigrateOptions{CA: c.Flag("etcd-ca").Value.String(), Cert: c.Flag("etcd-cert").Value.String(), Key: c.Flag("etcd-key").Value.String()}
		a.etcdFiles(c, &got)
		if !reflect.DeepEqual(got, tc.want) || a.trust.Cert != tc.certShown {
			t.Errorf("%v: got %+v, and %q is shown", tc.args, got, a.trust.Cert)
		}
	}
}

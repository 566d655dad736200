package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
)

// policy is asked by Debian's packages whether they may start a service; 101 says
// no. Nobody wants five name servers running who wanted to compare them.
const policy = "/usr/sbin/policy-rc.d"

// install gets the servers that are missing from Debian.
func install(ctx context.Context, progress io.Writer, missing []absent) (err error) {
	var packages []string
	for _, m := range missing {
		packages = append(packages, m.debian...)
	}
	apt, lookErr := exec.LookPath("apt-get")
	switch {
	case len(packages) == 0:
		return nil
	case lookErr != nil:
		return errors.New("apt-get is not there")
	case os.Geteuid() != 0:
		return errors.New("only root may")
	}
	slices.Sort(packages)
	fmt.Fprintln(progress, "installing", packages)
	made, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	switch {
	case err == nil:
		// Only what was made here is taken away again.
		defer func() { err = errors.Join(err, os.Remove(policy)) }()
		_, writeErr := made.WriteString("#!/bin/sh\nexit 101\n")
		if err := errors.Join(writeErr, made.Close()); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrExist):
		return err
	default:
		fmt.Fprintln(progress, policy, "is there already: whether services start is its word")
	}
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = progress, progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}

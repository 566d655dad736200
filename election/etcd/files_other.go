//go:build !unix

package etcd

import "errors"

// limitConnections is not known here.
func limitConnections() (free func() error, err error) { return nil, errors.ErrUnsupported }

//go:build !unix

package syncer

import "io/fs"

var errNotDir = fs.ErrNotExist

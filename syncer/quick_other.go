//go:build !linux

package syncer

import (
	"errors"

	"github.com/skyagent/skyagent/manifest"
)

// placeNew needs a rename that refuses to replace, which only Linux has.
func placeNew(temp, *folder, manifest.File, []byte) (manifest.Stat, error) {
	return manifest.Stat{}, errors.ErrUnsupported
}

//go:build !linux

package syncer

import (
	"errors"

	"github.com/skyagent/skyagent/manifest"
)

// placeNew needs files without a name, which only Linux has.
func placeNew(*folder, manifest.File, []byte) (manifest.Stat, error) {
	return manifest.Stat{}, errors.ErrUnsupported
}

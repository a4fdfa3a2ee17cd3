//go:build !linux

package syncer

import (
	"errors"
	"os"

	"github.com/skyagent/skyagent/manifest"
)

// nameless needs files without a name, which only Linux has.
func nameless(*folder) (*os.File, error) { return nil, errors.ErrUnsupported }

func placeNew(*os.File, *folder, manifest.File, []byte) (manifest.Stat, error) {
	return manifest.Stat{}, errors.ErrUnsupported
}

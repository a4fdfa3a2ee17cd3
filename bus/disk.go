package bus

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// writeTemp writes b to a new file of dir that only its owner may read, and
// returns its name once the bytes are on the disk.
func writeTemp(dir string, b []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, ".tmp-*") // CreateTemp makes it 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// writeFile puts b under name, whole or not at all, readable by its owner only.
func writeFile(name string, b []byte) error {
	dir := filepath.Dir(name)
	tmp, err := writeTemp(dir, b)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

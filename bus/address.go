package bus

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
)

// addressFile is the name of the running bus's address in its directory.
const addressFile = "bus.json"

// An Address says where an embedded bus listens and what opens it. Whoever can
// read the file may use the bus; it is readable by its owner only.
type Address struct {
	URL   string `json:"url"`
	Token string `json:"token,omitempty"`
	PID   int    `json:"pid,omitempty"` // of the owner; 0 once it has left
}

// ReadAddress returns the address of the bus that runs in dir. The error is
// fs.ErrNotExist when its owner has left or there never was one. A killed
// owner's address stays, and nobody answers there.
func ReadAddress(dir string) (Address, error) {
	a, err := readAddress(dir)
	if err == nil && a.PID == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Address{}, fmt.Errorf("read bus address: %w", err)
	}
	return a, nil
}

func readAddress(dir string) (a Address, err error) {
	b, err := os.ReadFile(filepath.Join(dir, addressFile))
	if err != nil {
		return Address{}, err
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return Address{}, fmt.Errorf("%s: %w", filepath.Join(dir, addressFile), err)
	}
	return a, nil
}

// writeAddress replaces the address in dir. Only the holder of dir's lock calls it.
func writeAddress(dir string, a Address) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, addressFile), append(b, '\n')); err != nil {
		return fmt.Errorf("write bus address: %w", err)
	}
	return nil
}

// host returns a's host and port for a dialer.
func (a Address) host() (string, error) {
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("bus address %q names no host", a.URL)
	}
	return u.Host, nil
}

// port returns a's port, or 0 when there is none.
func (a Address) port() int {
	u, err := url.Parse(a.URL)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(u.Port())
	return n
}

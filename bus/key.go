package bus

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/nats-io/nkeys"

	"github.com/skyagent/skyagent/manifest"
)

// keyFile is the name of a writer's seed in its state directory.
const keyFile = "writer.nk"

// idLen is the length of a writer's id: 80 bits, so that nobody finds a second
// key with the id of another.
const idLen = 20

// A Key is a writer's ed25519 key. It is immutable and safe for many goroutines.
type Key struct {
	private ed25519.PrivateKey
	public  []byte // as an nkey: "U" and 55 characters
	id      string
}

// LoadOrCreateKey returns the key in dir, made at first use. Two processes that
// race get the same key. A seed that others may read is refused.
func LoadOrCreateKey(dir string) (*Key, error) {
	name := filepath.Join(dir, keyFile)
	k, err := loadKey(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := createSeed(dir, name); err != nil {
		return nil, fmt.Errorf("create key %s: %w", name, err)
	}
	return loadKey(name)
}

func loadKey(name string) (*Key, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %s may be read by others (mode %04o): it must be 0600", name, info.Mode().Perm())
	}
	seed, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	k, err := parseKey(bytes.TrimSpace(seed))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	return k, nil
}

func parseKey(seed []byte) (*Key, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, err
	}
	return &Key{private: ed25519.NewKeyFromSeed(raw), public: []byte(public), id: WriterID([]byte(public))}, nil
}

// createSeed writes a new seed whole or not at all: the name appears by a hard
// link, which fails when another process was first.
func createSeed(dir, name string) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := writeTemp(dir, append(seed, '\n'))
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

// WriterID returns the id that belongs to a public key: whoever holds the key
// has the id, and nobody else.
func WriterID(public []byte) string {
	return manifest.Sum(bytes.TrimSpace(public)).String()[:idLen]
}

// ID returns the writer's id, 20 hexadecimal digits.
func (k *Key) ID() string { return k.id }

// Public returns what the writer stores as .skyagent/writers/<id>.
func (k *Key) Public() []byte { return bytes.Clone(k.public) }

// Sign signs an event's encoding for a storage.
func (k *Key) Sign(storage string, event []byte) []byte {
	return ed25519.Sign(k.private, signedMessage(ofCommit, storage, event))
}

// SignWrites signs the encoding of a mount's writes for a storage.
func (k *Key) SignWrites(storage string, writes []byte) []byte {
	return ed25519.Sign(k.private, signedMessage(ofObject, storage, writes))
}

// A domain says what kind of message a signature is for.
type domain string

const (
	ofCommit domain = "skyagent.v1.commit\x00"
	ofObject domain = "skyagent.v1.object\x00"
)

// signedMessage says what is signed: a domain, so that a signature made for
// anything else is worth nothing here, the storage, so that an event cannot be
// moved to another, and the hash of the event. Hashing first spares ed25519 its
// passes of SHA-512 over 64 KiB.
func signedMessage(d domain, storage string, body []byte) []byte {
	sum := manifest.Sum(body)
	m := append([]byte(d), storage...)
	return append(append(m, 0), sum[:]...)
}

// parsePublic reads what Public wrote and checks that it belongs to id.
func parsePublic(id string, public []byte) (ed25519.PublicKey, error) {
	public = bytes.TrimSpace(public)
	if got := WriterID(public); got != id {
		return nil, fmt.Errorf("writer %s: the stored key belongs to %s", id, got)
	}
	raw, err := nkeys.Decode(nkeys.PrefixByteUser, public)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("writer %s: the stored key is damaged", id)
	}
	return raw, nil
}

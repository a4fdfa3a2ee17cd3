package file

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
)

const (
	hidden   = ".skyagent-store" // all that is ours and no object
	oddDir   = hidden + "/odd"
	metaDir  = hidden + "/meta"
	tmpDir   = hidden + "/tmp"
	lockDir  = hidden + "/lock"
	maxKey   = 1024 // bytes, as in S3
	maxName  = 255  // bytes of a file name, on every file system we know
	oddChunk = 250  // hexadecimal digits of an odd key in one file name; even
)

// checkKey refuses what is no key in any store.
func checkKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("key of %d bytes: %w", len(key), fs.ErrInvalid)
	}
	return nil
}

// plain reports whether key can be a path below the bucket's directory.
func plain(key string) bool {
	top, _, _ := strings.Cut(key, "/")
	if top == hidden || strings.ContainsRune(key, 0) {
		return false
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." || len(segment) > maxName {
			return false
		}
	}
	return true
}

// oddPath returns the path below oddDir for any key. Digits are cut into
// directories, and the file's name ends in ".", which sorts before "/" and
// every digit: the order of the paths is the order of the keys.
func oddPath(key string) string { return oddPrefix(key) + "." }

// oddPrefix returns what begins the odd paths of all keys that begin with s.
func oddPrefix(s string) string {
	digits := hex.EncodeToString([]byte(s))
	var b strings.Builder
	for len(digits) > oddChunk {
		b.WriteString(digits[:oddChunk])
		b.WriteByte('/')
		digits = digits[oddChunk:]
	}
	b.WriteString(digits)
	return b.String()
}

// oddKey is the inverse of oddPath.
func oddKey(path string) (string, error) {
	digits, ok := strings.CutSuffix(strings.ReplaceAll(path, "/", ""), ".")
	if !ok {
		return "", fmt.Errorf("%s/%s is no odd key: %w", oddDir, path, fs.ErrInvalid)
	}
	b, err := hex.DecodeString(digits)
	return string(b), err
}

// parent returns the directory of a path in the bucket, "." for the root's.
func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}

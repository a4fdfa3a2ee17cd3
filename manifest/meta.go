package manifest

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Keys of an object's user metadata. mtime is rclone's convention: seconds and
// nine digits of nanoseconds; mode is octal with a leading zero, as rclone,
// s3fs and geesefs read it. That of a symlink has its type, as s3fs writes it,
// and its object holds the target.
const (
	MetaMTime  = "mtime"
	MetaMode   = "mode"
	MetaHash   = "blake3"
	MetaWriter = "writer"
	MetaSource = "source"
	MetaXattrs = "xattrs"
)

// Meta returns the metadata of f's object: how other tools see its time and
// mode, and how an agent knows its own upload of a former life again. source
// is "" for what a mount writes.
func (f File) Meta(writer, source string) map[string]string {
	const regular = 0o100000 // S_IFREG
	typ := uint64(regular)
	if f.IsLink() {
		typ = posixLink
	}
	t := f.ModTime()
	meta := map[string]string{
		MetaMTime:  fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()),
		MetaMode:   "0" + strconv.FormatUint(typ|uint64(f.Mode.Perm()), 8),
		MetaWriter: writer,
	}
	if !f.Hash.IsZero() {
		meta[MetaHash] = f.Hash.String()
	}
	if f.Xattrs != "" {
		meta[MetaXattrs] = string(f.Xattrs)
	}
	if source != "" {
		meta[MetaSource] = source
	}
	return meta
}

// TakeMeta gives f the time, the mode, the hash and the attributes that an object's metadata
// names; what is missing or damaged changes nothing.
func (f *File) TakeMeta(meta map[string]string) {
	if t, ok := metaTime(meta[MetaMTime]); ok {
		f.MTime = t
	}
	if m, err := strconv.ParseUint(meta[MetaMode], 8, 32); err == nil {
		f.Mode = f.Mode&fs.ModeDir | fs.FileMode(m).Perm()
		if m&posixType == posixLink {
			f.Mode |= fs.ModeSymlink
		}
	}
	if h, err := ParseHash(meta[MetaHash]); err == nil {
		f.Hash = h
	}
	if x := meta[MetaXattrs]; x != "" && len(x) <= MaxXattrs {
		f.Xattrs = Xattrs(x)
	}
}

// metaTime reads seconds since 1970 with up to nine decimals.
func metaTime(s string) (ns int64, ok bool) {
	whole, part, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(part) > 9 || sec < 0 || sec > 1<<33 {
		return 0, false
	}
	frac, err := strconv.ParseUint(part+"000000000"[len(part):], 10, 64)
	return sec*1e9 + int64(frac), err == nil
}

package file

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"

	"github.com/skyagent/skyagent/objstore"
)

const xattrName = "user.skyagent"

// A stamp is what a write says about its file. It counts only while size and
// time are still those of the file.
type stamp struct {
	ID   string            `json:"id"` // random for every write: the revision
	Size int64             `json:"size"`
	Time int64             `json:"mtime_ns"`
	Meta map[string]string `json:"meta,omitempty"`
}

func newStamp(fi fs.FileInfo, meta map[string]string) stamp {
	return stamp{ID: rand.Text(), Size: fi.Size(), Time: fi.ModTime().UnixNano(), Meta: meta}
}

func (s stamp) describes(fi fs.FileInfo) bool {
	return s.ID != "" && s.Size == fi.Size() && s.Time == fi.ModTime().UnixNano()
}

// info describes the object that fi and its stamp, if it has one, stand for.
func (s stamp) info(key string, fi fs.FileInfo) objstore.Info {
	info := objstore.Info{Key: key, Size: fi.Size(), ModTime: fi.ModTime(), Meta: s.Meta, Rev: objstore.Rev(s.ID)}
	if !s.describes(fi) {
		info.Rev, info.Meta = objstore.Rev("f-"+identity(fi)), nil
	}
	if info.Meta == nil {
		info.Meta = map[string]string{}
	}
	return info
}

// identity tells one state of a file from another without a stamp.
func identity(fi fs.FileInfo) string {
	return fmt.Sprintf("%x-%x-%x", inode(fi), fi.ModTime().UnixNano(), fi.Size())
}

// sidecar returns where the stamp of a file is that could not carry it. It is
// named for the file's state and not for its key, so that it can be written
// before the object appears and never describes another one.
func sidecar(fi fs.FileInfo) string { return metaDir + "/" + identity(fi) }

// attach stamps the temporary file f. The files it returns must be made
// durable together with f, and closed.
func (b *bucket) attach(f *os.File, s stamp, fi fs.FileInfo) ([]*os.File, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if !b.noXattr {
		if ok, err := setXattr(f, value); ok || err != nil {
			return nil, err
		}
	}
	side, err := b.root.OpenFile(sidecar(fi), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	if _, err := side.Write(value); err != nil {
		side.Close()
		return nil, err
	}
	dir, err := b.root.Open(metaDir)
	if err != nil {
		side.Close()
		return nil, err
	}
	return []*os.File{side, dir}, nil
}

// stampOf reads the stamp that f carries.
func stampOf(f *os.File) (s stamp, ok bool) {
	value := getXattr(f)
	return s, value != nil && json.Unmarshal(value, &s) == nil
}

// sidecarOf reads the stamp beside f. The caller holds the key's lock: whoever
// replaces the object removes its sidecar.
func (b *bucket) sidecarOf(fi fs.FileInfo) (s stamp) {
	value, err := b.root.ReadFile(sidecar(fi))
	if err != nil || json.Unmarshal(value, &s) != nil {
		return stamp{}
	}
	return s
}

package syncer_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/manifest"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/storetest"
	"github.com/skyagent/skyagent/syncer"
)

// A mounted writes to a rig's bucket as a mount does.
type mounted struct {
	r     *rig
	notes *manifest.Notes
	seq   uint64
	quiet bool // leaves no notes
}

func (r *rig) mount() *mounted { return &mounted{r: r, notes: syncer.OpenNotes(r.store)} }

func (m *mounted) rev(name string) string {
	info, err := m.r.store.Head(m.r.t.Context(), name)
	if err != nil {
		return ""
	}
	return string(info.Rev)
}

// put writes an object and returns what is announced of it.
func (m *mounted) put(name, content string, mode os.FileMode) manifest.Writes {
	m.r.t.Helper()
	prev := m.rev(name)
	info, err := m.r.store.Put(m.r.t.Context(), name, strings.NewReader(content), int64(len(content)), objstore.PutOptions{})
	if err != nil {
		m.r.t.Fatal(err)
	}
	f := manifest.File{Path: manifest.Path(name), Mode: mode, Size: int64(len(content)), MTime: 1e18,
		Hash: manifest.Sum([]byte(content)), Rev: string(info.Rev)}
	return m.note(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}, Prev: prev})
}

func (m *mounted) remove(name string) manifest.Writes {
	m.r.t.Helper()
	prev := m.rev(name)
	if err := m.r.store.Delete(m.r.t.Context(), name); err != nil {
		m.r.t.Fatal(err)
	}
	return m.note(manifest.Write{Change: manifest.Change{Op: manifest.Delete, File: manifest.File{Path: manifest.Path(name)}}, Prev: prev})
}

func (m *mounted) mkdir(name string) manifest.Writes {
	f := manifest.File{Path: manifest.Path(name), Mode: os.ModeDir | 0o750}
	return m.note(manifest.Write{Change: manifest.Change{Op: manifest.Put, File: f}})
}

func (m *mounted) note(c manifest.Write) manifest.Writes {
	m.r.t.Helper()
	m.seq++
	w := manifest.Writes{Writer: "w1", Session: "s1", Seq: m.seq, Time: time.Now(), Changes: []manifest.Write{c}}
	if !m.quiet {
		if err := m.notes.Add(m.r.t.Context(), w); err != nil {
			m.r.t.Fatal(err)
		}
	}
	return w
}

// copyMounts makes one pass that acts on mounts' writes.
func (r *rig) copyMounts() syncer.ReplicaStatus {
	r.t.Helper()
	opt := r.replicaOptions()
	opt.Mounts = true
	c := syncer.NewReplica(opt)
	if err := c.Copy(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return c.Status()
}

func (r *rig) wantCopied(want map[string]string) {
	r.t.Helper()
	for name, content := range want {
		if got := r.copied(name); got != content {
			r.t.Errorf("%s is %q, want %q", name, got, content)
		}
	}
}

func TestReplicaTakesMountsWrites(t *testing.T) {
	r := newRig(t)
	r.write("log", "1")
	r.write("over", "log")
	r.write("dies", "log")
	r.mustSync()
	m := r.mount()
	m.put("over", "mount", 0o600)
	m.put("new/deep", "mount", 0o755)
	m.mkdir("empty")
	m.put("brief", "x", 0o644)
	m.remove("brief")
	m.remove("dies")
	r.copyMounts()
	r.wantCopied(map[string]string{"log": "1", "over": "mount", "new/deep": "mount", "brief": "(none)"})
	if fi, err := os.Stat(r.replica + "/new/deep"); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", fi, err)
	}
	if fi, err := os.Stat(r.replica + "/empty"); err != nil || !fi.IsDir() {
		t.Error(err)
	}
	if st := r.copyMounts(); st.FetchedFiles != 0 || st.Deleted != 0 {
		t.Errorf("nothing is new: %+v", st)
	}
	m.put("over", "again", 0o600)
	m.remove("new/deep")
	r.copyMounts()
	r.wantCopied(map[string]string{"over": "again", "new/deep": "(none)"})
}

// A bucket without a log is copied as it is listed; deletions travel too, and
// local work stays.
func TestReplicaOfBucketWithoutLog(t *testing.T) {
	r := newRig(t)
	m := r.mount()
	opt := r.replicaOptions()
	opt.Mounts = true
	if err := syncer.NewReplica(opt).Copy(t.Context()); err == nil {
		t.Error("an empty bucket was copied")
	}
	m.put("noted", "1", 0o755)
	m.quiet = true
	m.put("plain/a", "2", 0o644)
	m.put("plain/b", "3", 0o644)
	r.copyMounts()
	r.wantCopied(map[string]string{"noted": "1", "plain/a": "2", "plain/b": "3"})
	if st := r.copyMounts(); st.FetchedFiles != 0 {
		t.Errorf("nothing is new: %+v", st)
	}
	m.put("plain/a", "22", 0o644)
	m.remove("plain/b")
	r.local("noted", "edited here")
	r.local("own", "o")
	r.copyMounts()
	r.wantCopied(map[string]string{"noted": "1", "plain/a": "22", "plain/b": "(none)", "own": "o"})
	if got := fmt.Sprint(r.kept()); got != "[edited here]" {
		t.Errorf("kept %s", got)
	}
	for _, name := range []string{"noted", "plain/a"} {
		m.remove(name)
	}
	if err := syncer.NewReplica(opt).Copy(t.Context()); err == nil || r.copied("plain/a") != "22" {
		t.Errorf("a bucket that shows nothing: %v", err)
	}
}

// A reload from a checkpoint deletes nothing that mounts wrote, and the log's
// later change of a path wins.
func TestMountsWritesOutliveTheLog(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.mustSync()
	m := r.mount()
	m.put("mounted", "m", 0o644)
	m.mkdir("dir")
	r.copyMounts()
	for _, k := range r.memory.Keys() { // another log takes the place of the one that is known
		if strings.HasPrefix(k, ".skyagent/sources/") {
			r.memory.Delete(t.Context(), k)
		}
	}
	os.RemoveAll(r.state + "/source.index")
	r.write("a", "2")
	r.mustSync()
	r.copyMounts()
	r.wantCopied(map[string]string{"a": "2", "mounted": "m"})
	if _, err := os.Stat(r.replica + "/dir"); err != nil {
		t.Error(err)
	}
	m.put("a", "by mount", 0o644)
	r.copyMounts()
	r.wantCopied(map[string]string{"a": "by mount"})
	r.write("a", "3, by the source")
	r.mustSync()
	r.copyMounts()
	r.wantCopied(map[string]string{"a": "3, by the source"})
}

// A restart that lost all its state about mounts finds it again.
func TestMountsStateIsACache(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.mustSync()
	m := r.mount()
	m.put("mounted", "m", 0o644)
	r.copyMounts()
	if err := os.WriteFile(r.state+"/replica.index.mounts", []byte(`{"pos":`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.copyMounts()
	m.remove("mounted")
	r.copyMounts()
	r.wantCopied(map[string]string{"mounted": "(none)", "a": "1"})
}

// says is where a test announces writes.
type says chan manifest.Writes

func (s says) NextWrites(ctx context.Context) (manifest.Writes, error) {
	select {
	case w := <-s:
		return w, nil
	case <-ctx.Done():
		return manifest.Writes{}, ctx.Err()
	}
}

// What is announced is in place without a look at the log or at the notes; a
// claim that the bucket does not hold is void.
func TestReplicaHearsMounts(t *testing.T) {
	r := newRig(t)
	r.write("a", "1")
	r.mustSync()
	m, say := r.mount(), make(says)
	f := r.follow(seldom, func(o *syncer.ReplicaOptions) { o.Mounts, o.Written = true, say })
	f.becomes(syncer.StateReady)
	m.quiet = true
	say <- m.put("b", "2", 0o644)
	eventually(t, "b in place", func() bool { return r.copied("b") == "2" })
	forged := m.put("c", "3", 0o644)
	m.remove("c")
	say <- forged
	lie := m.put("d", "4", 0o644)
	lie.Changes[0].Hash = manifest.Sum([]byte("other bytes"))
	say <- lie
	say <- m.put("e", "5", 0o644)
	eventually(t, "e in place", func() bool { return r.copied("e") == "5" })
	r.wantCopied(map[string]string{"c": "(none)", "d": "(none)"})
	say <- m.remove("b")
	eventually(t, "b gone", func() bool { return r.copied("b") == "(none)" })
	m.quiet = false
	m.put("g", "7", 0o644)
	say <- manifest.Writes{} // something was missed
	eventually(t, "g in place", func() bool { return r.copied("g") == "7" })
}

// lingering is a store whose user objects outlive their deletion, as they do for
// a moment after the commit that deletes them.
type lingering struct{ *storetest.Memory }

func (l lingering) Delete(ctx context.Context, keys ...string) error {
	return l.Memory.Delete(ctx, slices.DeleteFunc(keys, func(k string) bool { return !reserved(k) })...)
}

// What a source uploaded before its first commit is copied as the bucket is
// listed; it is the log's as soon as that names it, and goes when that says so.
func TestLogTakesOverWhatWasListed(t *testing.T) {
	for _, between := range []bool{true, false} { // a copy that sees the log name the files
		t.Run(fmt.Sprint(between), func(t *testing.T) {
			r := newRig(t)
			r.write("stays", "1")
			r.write("goes", "2")
			r.write("dir/goes", "3")
			r.mustSync()
			log := make(map[string][]byte)
			for _, k := range r.memory.Keys() {
				if strings.HasPrefix(k, ".skyagent/sources/") {
					log[k], _ = r.memory.Bytes(k)
					r.memory.Delete(t.Context(), k)
				}
			}
			r.copyMounts()
			r.wantCopied(map[string]string{"stays": "1", "goes": "2", "dir/goes": "3"})
			for k, b := range log {
				if _, err := r.memory.Put(t.Context(), k, bytes.NewReader(b), int64(len(b)), objstore.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if between {
				r.copyMounts()
			}
			r.store = lingering{r.memory}
			os.RemoveAll(r.disk("dir"))
			os.Remove(r.disk("goes"))
			r.mustSync()
			r.copyMounts()
			r.wantCopied(map[string]string{"stays": "1", "goes": "(none)", "dir/goes": "(none)"})
			if _, err := os.Stat(r.replica + "/dir"); err == nil {
				t.Error("the directory is still there")
			}
		})
	}
}

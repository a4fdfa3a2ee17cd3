package integration_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/storage/registry"
)

// A shop is a laptop with a task file, and an S3 server on which it may make
// buckets.
type shop struct {
	*rig
	task string
}

func newShop(t *testing.T) *shop {
	t.Helper()
	t.Parallel()
	s := &shop{rig: newRig(t)}
	s.home.Env = append(s.home.Env, "HOME="+s.home.Dir)
	s.task = filepath.Join(t.TempDir(), "task.yaml")
	return s
}

// name returns the name of a bucket that is this test's.
func (s *shop) name(suffix string) string { return s.bucket + "-" + suffix }

// mounts writes the task file: file_mounts, a line each.
func (s *shop) mounts(t *testing.T, lines ...string) {
	t.Helper()
	write(t, s.task, "file_mounts:\n  "+strings.Join(lines, "\n  ")+"\n")
}

// in returns where the server keeps an object of any bucket.
func (s *shop) in(bucket, key string) string {
	return filepath.Join(s.server.Dir, bucket, filepath.FromSlash(key))
}

// storages returns the states that storage ls lists, by name.
func (s *shop) storages(t *testing.T) map[string]string {
	t.Helper()
	states := make(map[string]string)
	list, _ := s.home.MustRun(t, "storage", "ls")["storages"].([]any)
	for _, v := range list {
		line := v.(map[string]any)
		states[line["name"].(string)] = line["status"].(string)
	}
	return states
}

func (s *shop) waitStorage(t *testing.T, name, state string) {
	t.Helper()
	waitFor(t, name+" "+state, func() bool { return s.storages(t)[name] == state }, func() any { return s.storages(t) })
}

// watchTask starts watch -f and waits until n storages are live.
func (s *shop) watchTask(t *testing.T, n int, args ...string) *program.Process {
	t.Helper()
	p := s.home.Start(t, append([]string{"watch", "-f", s.task, "--metrics", "127.0.0.1:0"}, args...)...)
	explain(t, p)
	waitFor(t, fmt.Sprintf("%d live storages", n), func() bool {
		ready := 0
		for _, line := range p.Lines() {
			if line["ready"] == true {
				ready++
			}
		}
		return ready == n
	}, func() any { return p.Stderr() })
	return p
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func holds(path, content string) bool {
	b, err := os.ReadFile(path)
	return err == nil && string(b) == content
}

// The document's first use case: local data is uploaded into a bucket that is
// made for it, kept in step while it changes, and copied to a worker; and its
// list of sources, each of which appears under its own name.
func TestUploadLocalData(t *testing.T) {
	s := newShop(t)
	one, many := s.name("one"), s.name("many")
	extra := t.TempDir()
	write(t, filepath.Join(s.source, "a"), "a")
	write(t, filepath.Join(extra, "myfile.txt"), "mine")
	write(t, filepath.Join(extra, "other"), "not listed")
	write(t, filepath.Join(extra, "my dir", "b"), "b")
	s.mounts(t, "/one: {name: "+one+", source: "+s.source+", store: s3, mode: COPY}",
		"/again: {name: "+one+", source: "+s.source+"}",
		fmt.Sprintf("/many: {name: %s, source: [%s/myfile.txt, %s/my dir]}", many, extra, extra))
	watch := s.watchTask(t, 2)
	if !holds(s.in(one, "a"), "a") || !holds(s.in(many, "myfile.txt"), "mine") || !holds(s.in(many, "my dir/b"), "b") || there(s.in(many, "other")) {
		t.Errorf("not in the buckets what the document says: %v, %v", listed(s.in(one, "")), listed(s.in(many, "")))
	}
	s.waitStorage(t, one, "SYNCING")
	copied := s.live(t, []string{"copy", many, s.replica})

	write(t, filepath.Join(s.source, "a"), "b")
	write(t, filepath.Join(extra, "myfile.txt"), "new")
	write(t, filepath.Join(extra, "other"), "still not listed")
	write(t, filepath.Join(extra, "my dir", "sub", "c"), "c")
	must(t, os.Remove(filepath.Join(extra, "my dir", "b")))
	waitFor(t, "changes in the buckets and on the worker", func() bool {
		return holds(s.in(one, "a"), "b") && holds(filepath.Join(s.replica, "myfile.txt"), "new") &&
			holds(filepath.Join(s.replica, "my dir", "sub", "c"), "c") && !there(s.in(many, "my dir/b"))
	}, func() any { return watch.Stderr() })
	if there(s.in(many, "other")) {
		t.Error("a file beside a listed one was uploaded")
	}

	// A single file that an editor replaces by rename stays; one that is gone goes.
	write(t, filepath.Join(extra, "temp"), "renamed")
	must(t, os.Rename(filepath.Join(extra, "temp"), filepath.Join(extra, "myfile.txt")))
	waitFor(t, "renamed file", func() bool { return holds(filepath.Join(s.replica, "myfile.txt"), "renamed") })
	must(t, os.Remove(filepath.Join(extra, "myfile.txt")))
	waitFor(t, "deleted file", func() bool { return !there(filepath.Join(s.replica, "myfile.txt")) })

	// A listed directory that vanishes has not been emptied.
	must(t, os.Rename(filepath.Join(extra, "my dir"), filepath.Join(extra, "away")))
	s.waitStorage(t, many, "GUARDED")
	must(t, os.Rename(filepath.Join(extra, "away"), filepath.Join(extra, "my dir")))
	s.waitStorage(t, many, "SYNCING")
	if !there(s.in(many, "my dir/sub/c")) {
		t.Error("the directory's files were deleted while it was away")
	}
	stop(t, copied, watch)
	if got := s.storages(t); got[one] != "READY" || got[many] != "READY" || len(got) != 2 {
		t.Errorf("after the watch: %v", got)
	}
}

// The document's second use case: an existing bucket is used by its URI. It is
// not listed, not deleted, and must be there, as must what is below its prefix.
func TestExistingBucket(t *testing.T) {
	s := newShop(t)
	write(t, filepath.Join(s.source, "a"), "a")
	s.home.MustRun(t, "sync", s.source, "--to", s.url+"/sub")
	s.mounts(t, "/whole: {source: "+s.url+"}", "/part: "+s.url+"/sub", "/object: "+s.url+"/sub/a")
	r := s.home.Run(t, "sync", "-f", s.task)
	if r.Code != 0 || !strings.Contains(r.Stdout, "no source to keep in step") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	s.home.MustRun(t, "copy", s.url+"/sub", s.replica, "--once")
	if !holds(filepath.Join(s.replica, "a"), "a") {
		t.Error("not copied from the bucket")
	}
	if got := s.storages(t); len(got) != 0 {
		t.Errorf("somebody else's bucket is listed: %v", got)
	}
	s.home.Run(t, "storage", "delete", s.bucket, "-y")
	s.home.Run(t, "storage", "delete", "--all", "-y")
	if !there(s.in(s.bucket, "sub/a")) {
		t.Error("somebody else's bucket was deleted")
	}

	// By its name, it takes an upload, and is still not ours.
	s.mounts(t, "/up: {name: "+s.bucket+", source: "+s.source+", store: s3, persistent: false}")
	if r := s.home.Run(t, "sync", "-f", s.task); r.Code != 0 || len(s.storages(t)) != 0 || !there(s.in(s.bucket, "a")) {
		t.Errorf("exit %d, storages %v\n%s", r.Code, s.storages(t), r.Stderr)
	}
	s.mounts(t, "/up: {name: "+s.bucket+", store: s3}")
	s.refuses(t, `attempted to mount a non-sky managed bucket "`+s.bucket+`"`)
	s.mounts(t, "/absent: {source: s3://"+s.name("absent")+"}")
	s.refuses(t, "attempted to use a non-existent bucket as a source: s3://"+s.name("absent"))
}

// refuses wants sync -f to fail with these words, and nothing to be made.
func (s *shop) refuses(t *testing.T, words string) {
	t.Helper()
	if r := s.home.Run(t, "sync", "-f", s.task); r.Code != 1 || !strings.Contains(r.Stderr, words) {
		t.Errorf("exit %d, want %q\n%s%s", r.Code, words, r.Stdout, r.Stderr)
	}
	if got := s.storages(t); len(got) != 0 {
		t.Errorf("made: %v", got)
	}
}

// A prefix that is missing is an error, not an empty directory.
func TestD30MissingPrefix(t *testing.T) {
	s := newShop(t)
	s.mounts(t, "/part: "+s.url+"/nothing", "/new: {name: "+s.name("new")+"}")
	s.refuses(t, "there is nothing at "+s.url+"/nothing, neither an object nor a prefix")
}

// A deletion ends watches and workers of the machine, takes all, and nobody
// makes the bucket anew.
func TestDeleteWhileWatched(t *testing.T) {
	s := newShop(t)
	name, kept := s.name("gone"), s.name("kept")
	for i := range 50 {
		write(t, filepath.Join(s.source, fmt.Sprint("f", i)), "f")
	}
	s.mounts(t, "/one: {name: "+name+", source: "+s.source+"}", "/kept: {name: "+kept+", source: "+s.source+"}")
	watch := s.watchTask(t, 2)
	copied := s.live(t, []string{"copy", name, s.replica})
	r := s.home.Run(t, "storage", "delete", "*-gone") // whose standard input is empty
	if r.Code != 1 || !strings.Contains(r.Stdout, name+": watch of "+s.source) || !strings.Contains(r.Stdout, name+": copy of "+s.replica) {
		t.Errorf("the preview, exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	r = s.home.Run(t, "storage", "delete", "*-gone", "-y")
	want := "Deleting storage object " + name + "...\nDeleted S3 bucket " + name + ".\n"
	if r.Code != 0 || r.Stdout != want {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if there(s.in(name, "")) || !there(s.in(kept, "f0")) {
		t.Errorf("the bucket stays, or another one went")
	}
	if code := copied.Ended(); code != 0 {
		t.Errorf("the worker ended with %d\n%s", code, copied.Stderr())
	}
	if !holds(filepath.Join(s.replica, "f0"), "f") {
		t.Error("the worker's files are gone")
	}
	// The other storage of the same watch goes on.
	write(t, filepath.Join(s.source, "f0"), "later")
	waitFor(t, "the other storage", func() bool { return holds(s.in(kept, "f0"), "later") }, func() any { return watch.Stderr() })
	stop(t, watch)
	if there(s.in(name, "")) {
		t.Error("the bucket was made anew")
	}
	if got := s.storages(t); len(got) != 1 || got[kept] != "READY" {
		t.Errorf("storages: %v", got)
	}
}

// A deletion that was broken off is one: nobody makes the storage anew before
// it has been ended.
func TestDeletionBrokenOff(t *testing.T) {
	s := newShop(t)
	name := s.name("one")
	write(t, filepath.Join(s.source, "a"), "a")
	s.home.MustRun(t, "sync", s.source, "--name", name, "--store", "s3")
	reg, err := registry.Open(t.Context(), filepath.Join(s.home.Dir, "state", "storages.db"))
	must(t, err)
	must(t, reg.SetState(t.Context(), name, registry.Deleting))
	must(t, reg.Close())
	must(t, os.RemoveAll(s.in(name, "a")))
	for _, command := range []string{"sync", "watch"} {
		r := s.home.Run(t, command, s.source, "--name", name, "--metrics", "off")
		if r.Code != 1 || !strings.Contains(r.Stderr, "storage "+name+": the storage is being deleted") {
			t.Errorf("%s: exit %d\n%s", command, r.Code, r.Stderr)
		}
	}
	if got := s.storages(t)[name]; got != "DELETING" || there(s.in(name, "a")) {
		t.Errorf("state %s, or uploaded anew", got)
	}
	s.home.MustRun(t, "storage", "delete", name, "-y")
	if there(s.in(name, "")) || len(s.storages(t)) != 0 {
		t.Error("not deleted")
	}
	s.home.MustRun(t, "sync", s.source, "--name", name, "--store", "s3")
	if !holds(s.in(name, "a"), "a") {
		t.Error("not made anew after the deletion had ended")
	}
}

// Workers of other machines are told at once that their storage is gone: they
// say so, and keep what they have.
func TestDeleteTellsOtherMachines(t *testing.T) {
	s := newShop(t)
	server := servers.NATS(t, servers.NATSOptions{JetStream: true})
	name := s.name("gone")
	write(t, filepath.Join(s.source, "a"), "a")
	s.home.MustRun(t, "sync", s.source, "--name", name, "--store", "s3")
	worker := program.NewHome(t)
	worker.Env = append(worker.Env, s.server.Environ()...)
	replica := worker.Start(t, "copy", "s3://"+name, s.replica, "--nats", server.URL, "--poll", "1h", "--metrics", "off")
	explain(t, replica)
	replica.Ready()
	if r := s.home.Run(t, "storage", "delete", name, "-y", "--nats", server.URL); r.Code != 0 {
		t.Fatalf("exit %d\n%s", r.Code, r.Stderr)
	}
	waitFor(t, "a worker that knows", func() bool { return strings.Contains(replica.Stderr(), "no such bucket") })
	stop(t, replica)
	if !holds(filepath.Join(s.replica, "a"), "a") {
		t.Error("the worker's files are gone")
	}
}

// A bucket that was deleted elsewhere is forgotten by storage delete, and made
// anew by the next watch only.
func TestDeletedElsewhere(t *testing.T) {
	s := newShop(t)
	name := s.name("one")
	write(t, filepath.Join(s.source, "a"), "a")
	s.home.MustRun(t, "sync", s.source, "--name", name, "--store", "s3")
	must(t, os.RemoveAll(s.in(name, "")))
	s.home.MustRun(t, "sync", s.source, "--name", name)
	if !holds(s.in(name, "a"), "a") {
		t.Error("not uploaded anew")
	}
	must(t, os.RemoveAll(s.in(name, "")))
	r := s.home.Run(t, "storage", "delete", name, "-y")
	if r.Code != 0 || !strings.HasSuffix(r.Stdout, "S3 bucket "+name+" may have been deleted externally. Removing from local state.\n") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if there(s.in(name, "")) || len(s.storages(t)) != 0 {
		t.Error("made anew, or still listed")
	}
}

// A storage that is not persistent goes when it is released: not when its watch
// is killed, nor when it is interrupted.
func TestNotPersistent(t *testing.T) {
	s := newShop(t)
	name := s.name("temp")
	write(t, filepath.Join(s.source, "a"), "a")
	s.mounts(t, "/one: {name: "+name+", source: "+s.source+", persistent: false}")
	s.watchTask(t, 1).Kill()
	s.waitStorage(t, name, "READY")
	stop(t, s.watchTask(t, 1))
	if !there(s.in(name, "a")) {
		t.Fatal("the bucket went with a watch that did not end by its own")
	}
	watch := s.watchTask(t, 1)
	r := s.home.Run(t, "storage", "release", name)
	if r.Code != 0 || !strings.Contains(r.Stdout, "Deleted S3 bucket "+name+".") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if code := watch.Ended(); code != 0 || there(s.in(name, "")) {
		t.Errorf("watch ended with %d, bucket there: %v", code, there(s.in(name, "")))
	}
}

// A watch that waits for the end of its task ends when its workers have left,
// and takes what is not to stay with it.
func TestUntilDone(t *testing.T) {
	s := newShop(t)
	name := s.name("temp")
	write(t, filepath.Join(s.source, "a"), "a")
	s.mounts(t, "/one: {name: "+name+", source: "+s.source+", persistent: false}")
	watch := s.watchTask(t, 1, "--until-done")
	copied := s.live(t, []string{"copy", name, s.replica})
	watch.Wait("the worker's presence", func(line map[string]any) bool { return line["workers"] == 1.0 })
	stop(t, copied)
	if code := watch.Ended(); code != 0 {
		t.Errorf("ended with %d\n%s", code, watch.Stderr())
	}
	if there(s.in(name, "")) || len(s.storages(t)) != 0 {
		t.Error("the bucket stays")
	}
	if !holds(filepath.Join(s.source, "a"), "a") {
		t.Error("the source is gone")
	}
}

// The document's example, all of it, from the laptop: what is to be made is made
// and filled, and what others have is looked at.
func TestStorageDemo(t *testing.T) {
	s := newShop(t)
	cloud := servers.GCS(t)
	s.home.Env = append(s.home.Env, cloud.Environ()...)
	at := t.TempDir()
	for name, content := range map[string]string{"datasets/part-1": "one", "datasets/sub/part-2": "two", "mydir/myfile.txt": "mine"} {
		write(t, filepath.Join(at, filepath.FromSlash(name)), content)
	}
	theirs := cloud.NewBucket(t)
	s.home.MustRun(t, "sync", filepath.Join(at, "datasets"), "--to", "gs://"+theirs+"/fake_imagenet")
	s.home.MustRun(t, "sync", filepath.Join(at, "datasets"), "--to", s.url)
	dataset, outputs, multi := s.name("dataset"), s.name("outputs"), s.name("multi")
	write(t, s.task, strings.NewReplacer("AT", at, "DATASET", dataset, "OUTPUTS", outputs, "MULTI", multi, "S3", s.url, "GS", "gs://"+theirs).Replace(`
name: storage-demo
resources:
  cloud: aws
file_mounts:
  /datasets: AT/datasets
  /datasets-s3: S3
  /part-1: GS/fake_imagenet/part-1
  /datasets-storage:
    name: DATASET
    source: AT/datasets
    store: s3
    persistent: True
    mode: COPY
  /dataset-storage-mount:
    name: DATASET
    source: AT/datasets
    mode: MOUNT
  /public:
    source: S3
    mode: MOUNT
  /outputs-mount:
    name: OUTPUTS
    mode: MOUNT
  /multi:
    name: MULTI
    source: [AT/mydir/myfile.txt, AT/datasets]
run: |
  ls -la /
`))
	watch := s.watchTask(t, 2)
	for path, content := range map[string]string{s.in(dataset, "part-1"): "one", s.in(dataset, "sub/part-2"): "two",
		s.in(multi, "myfile.txt"): "mine", s.in(multi, "datasets/sub/part-2"): "two"} {
		if !holds(path, content) {
			t.Errorf("%s is not %q", path, content)
		}
	}
	if !there(s.in(outputs, "")) {
		t.Error("the bucket for outputs was not made")
	}
	write(t, filepath.Join(at, "datasets", "part-1"), "changed")
	waitFor(t, "a change in both storages", func() bool {
		return holds(s.in(dataset, "part-1"), "changed") && holds(s.in(multi, "datasets/part-1"), "changed")
	}, func() any { return watch.Stderr() })
	stop(t, watch)
	r := s.home.Run(t, "storage", "delete", "--all", "-y")
	if r.Code != 0 || len(s.storages(t)) != 0 || there(s.in(dataset, "")) || there(s.in(outputs, "")) || there(s.in(multi, "")) {
		t.Errorf("exit %d, left: %v\n%s%s", r.Code, s.storages(t), r.Stdout, r.Stderr)
	}
	if !there(s.in(s.bucket, "part-1")) {
		t.Error("somebody else's bucket was deleted")
	}
}

// Region and labels are the bucket's.
func TestStorageCreate(t *testing.T) {
	s := newShop(t)
	name := s.name("made")
	line := s.home.MustRun(t, "storage", "create", name, "--store", "s3", "--region", "us-east-1", "--label", "team=vision,cost=7")
	if line["url"] != "s3://"+name || !there(s.in(name, "")) {
		t.Errorf("made %v", line)
	}
	if got, want := s.tags(t, name), map[string]string{"team": "vision", "cost": "7"}; !maps.Equal(got, want) {
		t.Errorf("tags %v, want %v", got, want)
	}
	if info := s.home.MustRun(t, "storage", "info", name); info["status"] != "READY" || info["generation"] != 0.0 {
		t.Errorf("info: %v", info)
	}
	s.home.MustRun(t, "sync", s.source, "--name", name)
	s.home.MustRun(t, "storage", "delete", name, "-y")
	if there(s.in(name, "")) {
		t.Error("not deleted")
	}
	r := s.home.Run(t, "storage", "create", "Not A Name", "--store", "s3")
	if r.Code != 2 || !strings.Contains(r.Stderr, "Not A Name") {
		t.Errorf("exit %d\n%s", r.Code, r.Stderr)
	}
}

// A bucket that a task has made bears the labels of SkyPilot's configuration; one
// that cannot be read is said, and no more.
func TestConfiguredLabels(t *testing.T) {
	s := newShop(t)
	config := filepath.Join(s.home.Dir, ".sky", "config.yaml")
	write(t, config, "aws: {labels: {team: vision}}\n")
	name, other := s.name("labelled"), s.name("plain")
	s.mounts(t, "/one: {name: "+name+", source: "+s.source+", store: s3}")
	s.home.MustRun(t, "sync", "-f", s.task)
	if got, want := s.tags(t, name), map[string]string{"team": "vision"}; !maps.Equal(got, want) {
		t.Errorf("tags %v, want %v", got, want)
	}
	write(t, config, "aws: [")
	s.mounts(t, "/one: {name: "+other+", source: "+s.source+", store: s3}")
	r := s.home.Run(t, "sync", "-f", s.task)
	if r.Code != 0 || !strings.Contains(r.Stderr, "labels of SkyPilot's configuration: "+config+": ") {
		t.Errorf("exit %d\n%s", r.Code, r.Stderr)
	}
}

// tags returns those of a bucket.
func (s *shop) tags(t *testing.T, bucket string) map[string]string {
	t.Helper()
	client := awss3.New(awss3.Options{Region: "us-east-1", BaseEndpoint: &s.server.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.server.AccessKey, s.server.SecretKey, "")})
	out, err := client.GetBucketTagging(t.Context(), &awss3.GetBucketTaggingInput{Bucket: &bucket})
	must(t, err)
	tags := map[string]string{}
	for _, tag := range out.TagSet {
		tags[*tag.Key] = *tag.Value
	}
	return tags
}

// Buckets of Google's are made, labelled and deleted, too.
func TestStorageGCS(t *testing.T) {
	t.Parallel()
	server, home := servers.GCS(t), program.NewHome(t)
	home.Env = append(home.Env, server.Environ()...)
	home.Env = append(home.Env, "HOME="+home.Dir)
	name := server.NewBucket(t) + "-made"
	source, task := t.TempDir(), filepath.Join(t.TempDir(), "task.yaml")
	write(t, filepath.Join(source, "a"), "a")
	write(t, task, "file_mounts:\n  /one: {name: "+name+", source: "+source+"}\n")
	r := home.Run(t, "sync", "-f", task)
	if r.Code != 0 || !strings.Contains(r.Stdout, "storage "+name+": store gcs, because there is STORAGE_EMULATOR_HOST") {
		t.Fatalf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	plainInBucket(t, server.Endpoint, name, "a", "a")
	if r := home.Run(t, "storage", "delete", name, "-y"); r.Code != 0 || !strings.HasSuffix(r.Stdout, "Deleted GCS bucket "+name+".\n") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	home.MustRun(t, "storage", "create", name, "--store", "gcs", "--region", "EU", "--label", "team=vision")
	home.MustRun(t, "storage", "delete", name, "-y")
	if r := home.Run(t, "copy", "gs://"+name, t.TempDir(), "--once"); r.Code != 1 || !strings.Contains(r.Stderr, "no such bucket") {
		t.Errorf("exit %d\n%s", r.Code, r.Stderr)
	}
}

package s3_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore/s3"
	"github.com/skyagent/skyagent/objstore/storetest"
)

// A huge object: a file with holes, put where versitygw keeps its objects, with
// an ETag as it keeps it.
func TestHuge(t *testing.T) {
	server := servers.Versitygw(t)
	bucket := server.NewBucket(t)
	f, err := os.Create(filepath.Join(server.Dir, bucket, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := storetest.WriteHuge(f); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fsetxattr(int(f.Fd()), "user.etag", []byte(`"0123456789abcdef0123456789abcdef"`), 0); err != nil {
		t.Fatal(err)
	}
	storetest.RunHuge(t, open(t, server, s3.Config{Bucket: bucket}), "huge")
}

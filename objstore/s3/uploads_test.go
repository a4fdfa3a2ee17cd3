package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// A crash is a place where a multipart upload ends, and what is left then.
type crash struct {
	*testing.T
	proxy  *servers.Proxy
	config s3.Config
	body   []byte
}

const crashPart, crashParts = 5 << 20, 8

func newCrash(t *testing.T, server s3.Config, bucket string) *crash {
	c := &crash{T: t, proxy: servers.NewProxy(t, server.Endpoint), config: server, body: make([]byte, crashPart*crashParts-1)}
	rand.NewChaCha8([32]byte{1}).Read(c.body)
	c.config.Endpoint, c.config.Bucket, c.config.Prefix, c.config.Uploads = c.proxy.URL, bucket, "p", t.TempDir()
	return c
}

// open opens the store as another process would.
func (c *crash) open() *s3.Store {
	c.Helper()
	s, err := s3.New(c.Context(), c.config)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

func (c *crash) parts() (parts []objstore.Part) {
	for off := 0; off < len(c.body); off += crashPart {
		b := c.body[off:min(off+crashPart, len(c.body))]
		parts = append(parts, objstore.Part{Size: int64(len(b)), Body: bytes.NewReader(b)})
	}
	return parts
}

func (c *crash) assemble(ctx context.Context, s *s3.Store, hash string, check func() error) error {
	return assemble(ctx, s, hash, c.parts(), check)
}

func assemble(ctx context.Context, s *s3.Store, hash string, parts []objstore.Part, check func() error) error {
	_, err := s.Assemble(ctx, "large", "", parts, check, objstore.PutOptions{Meta: map[string]string{"blake3": hash}})
	return err
}

// A held body gives nothing until its time has come, and fails then.
type held struct{ until context.Context }

func (h held) ReadAt([]byte, int64) (int, error) {
	<-h.until.Done()
	return 0, h.until.Err()
}

// cutAfter makes a first attempt that ends when n parts have been sent, and
// none is under way: a server would go on with that after it was aborted.
func (c *crash) cutAfter(n int) {
	c.Helper()
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	parts := c.parts()
	for i := range parts[n:] {
		parts[n+i].Body = held{ctx}
	}
	checks := 0
	err := assemble(ctx, c.open(), "one", parts, func() error {
		if checks++; checks == n {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		c.Fatalf("cut after %d parts: %v", n, err)
	}
}

// sent returns how many bytes f uploads.
func (c *crash) sent(f func()) int64 {
	before := c.proxy.Traffic(http.MethodPut).Up
	f()
	return c.proxy.Traffic(http.MethodPut).Up - before
}

func (c *crash) unfinished() int {
	c.Helper()
	n, err := c.open().Unfinished(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	return n
}

func (c *crash) whole() {
	c.Helper()
	if got := get(c, c.open(), "large"); got != string(c.body) {
		c.Errorf("the object has %d bytes, and not what was assembled", len(got))
	}
	if n := c.unfinished(); n != 0 {
		c.Errorf("%d uploads are left", n)
	}
	left, _ := os.ReadDir(c.config.Uploads)
	if len(left) != 0 {
		c.Errorf("%d memos are left", len(left))
	}
}

func TestResume(t *testing.T) {
	gw, r2 := servers.Versitygw(t), servers.R2(t)
	t.Run("versitygw", func(t *testing.T) {
		testResume(t, func(t *testing.T) *crash { return newCrash(t, config(gw), gw.NewBucket(t)) })
	})
	t.Run("r2", func(t *testing.T) {
		at := s3.Config{Scheme: "r2", Endpoint: r2.Endpoint, Credentials: credentials.NewStaticCredentialsProvider(r2.AccessKey, r2.SecretKey, "")}
		testResume(t, func(t *testing.T) *crash { return newCrash(t, at, r2.NewBucket(t)) })
	})
}

func config(server *servers.S3Server) s3.Config {
	return s3.Config{Endpoint: server.Endpoint, Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")}
}

func testResume(t *testing.T, newCrash func(t *testing.T) *crash) {
	t.Run("goes on", func(t *testing.T) {
		c := newCrash(t)
		c.cutAfter(4)
		sent := c.sent(func() {
			if err := c.assemble(t.Context(), c.open(), "one", nil); err != nil {
				t.Fatal(err)
			}
		})
		if most := int64(4 * crashPart); sent > most {
			t.Errorf("the second attempt sent %d bytes, want %d at most", sent, most)
		}
		c.whole()
	})
	t.Run("other content", func(t *testing.T) {
		c := newCrash(t)
		c.cutAfter(4)
		c.body[0]++
		if err := c.assemble(t.Context(), c.open(), "two", nil); err != nil {
			t.Fatal(err)
		}
		c.whole()
	})
	t.Run("forgotten by the server", func(t *testing.T) {
		c := newCrash(t)
		c.cutAfter(2)
		memos, _ := os.ReadDir(c.config.Uploads)
		memo := c.config.Uploads + "/" + memos[0].Name()
		kept, err := os.ReadFile(memo)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.open().AbortUploads(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil || c.unfinished() != 0 {
			t.Fatalf("aborted %d, %v", n, err)
		}
		if err := os.WriteFile(memo, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.assemble(t.Context(), c.open(), "one", nil); err != nil {
			t.Fatal(err)
		}
		c.whole()
	})
	t.Run("torn", func(t *testing.T) {
		c := newCrash(t)
		torn := errors.New("torn")
		parts := c.parts()[:3]
		checks := 0
		err := assemble(t.Context(), c.open(), "one", parts, func() error {
			if checks++; checks == 4 { // after the parts, and before it is there
				return torn
			}
			return nil
		})
		if !errors.Is(err, torn) || c.unfinished() != 0 {
			t.Errorf("got %v, %d uploads are left", err, c.unfinished())
		}
		if _, err := c.open().Head(t.Context(), "large"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Head: %v", err)
		}
	})
}

// Only what nobody wants any more is aborted, and only what is ours.
func TestAbortUploads(t *testing.T) {
	server := servers.Versitygw(t)
	c := newCrash(t, config(server), server.NewBucket(t))
	c.cutAfter(1)
	if err := os.WriteFile(c.config.Uploads+"/half", []byte(`{"bucket":"ht`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := c.open()
	if n, err := s.AbortUploads(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil || c.unfinished() != 1 {
		t.Errorf("aborted %d of younger ones, %v", n, err)
	}
	elsewhere := *c
	elsewhere.config.Bucket = server.NewBucket(t)
	if n, err := elsewhere.open().AbortUploads(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil || c.unfinished() != 1 {
		t.Errorf("aborted %d of another bucket, %v", n, err)
	}
	running := make(chan struct{})
	err := c.assemble(t.Context(), s, "one", func() error {
		select {
		case <-running:
		default:
			close(running)
			if n, err := s.AbortUploads(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
				t.Errorf("aborted %d that run, %v", n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.whole()
	c.body = append(c.body, strings.Repeat("x", crashPart)...)
	c.cutAfter(1)
	if n, err := s.AbortUploads(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil || c.unfinished() != 0 {
		t.Errorf("aborted %d, %v; %d are left", n, err, c.unfinished())
	}
}

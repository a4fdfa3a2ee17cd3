package integration_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/integration/servers"
	"github.com/skyagent/skyagent/objstore"
	"github.com/skyagent/skyagent/objstore/s3"
)

// A cloud is a server, and the environment that leads to it.
type cloud struct {
	name                           string
	scheme, bucket                 string
	endpoint, accessKey, secretKey string
	environ                        []string
	secretVariable                 string
	stop                           func()
}

func clouds(t *testing.T) []cloud {
	gw, r2 := servers.Versitygw(t), servers.R2(t)
	return []cloud{
		{"versitygw", "s3", gw.NewBucket(t), gw.Endpoint, gw.AccessKey, gw.SecretKey, gw.Environ(), "AWS_SECRET_ACCESS_KEY", gw.Stop},
		{"R2", "r2", r2.NewBucket(t), r2.Endpoint, r2.AccessKey, r2.SecretKey, r2.Environ(), "R2_SECRET_ACCESS_KEY", r2.Stop},
	}
}

func (c cloud) url() string { return c.scheme + "://" + c.bucket + "/team" }

// Whatever is said, wherever it is kept: the secret key is not in it, nor what
// was signed by it. A wrong secret is somebody's right one.
func TestNoSecretLeaks(t *testing.T) {
	program.Short(t)
	for _, c := range clouds(t) {
		t.Run(c.name, func(t *testing.T) {
			wrong := "Wrong/" + c.secretKey + "+mistyped"
			search := &search{T: t, needles: append(spellings(c.secretKey), spellings(wrong)...)}
			home := program.NewHome(t)
			home.Env = append(home.Env, c.environ...)
			source, replica := t.TempDir(), t.TempDir()
			write(t, filepath.Join(source, "a/b.txt"), "content")

			watch := home.Start(t, "watch", source, "--to", c.url(), "-v", "--metrics", "127.0.0.1:0")
			ready := watch.Ready()
			copied := home.Start(t, "copy", c.url(), replica, "-v", "--metrics", "127.0.0.1:0")
			copied.Ready()
			write(t, filepath.Join(source, "later.txt"), "more")
			waitFor(t, "later.txt", func() bool { return read(t, filepath.Join(replica, "later.txt")) == "more" })
			for _, args := range [][]string{{"status", c.url()}, {"status", c.url(), "--json", "-v"}, {"debug", "cat", c.url(), ".skyagent/sources/main/log"}} {
				search.result(home.Run(t, args...))
			}
			search.commandLine(watch, copied)
			search.metrics(fmt.Sprint(ready["metrics"]))
			stop(t, copied, watch)
			search.process(watch, copied)
			search.provoke(home, c, source, wrong)
			search.bucket(c)
			c.stop()
			search.result(home.Run(t, "sync", source, "--to", c.url(), "-v"))
			search.files(home.Dir)
			if search.looked < 1000 {
				t.Errorf("looked only at %d bytes", search.looked)
			}
		})
	}
}

// provoke makes the store refuse everything that it can.
func (s *search) provoke(home *program.Home, c cloud, source, wrong string) {
	s.Helper()
	mistyped := &program.Home{Dir: home.Dir, Env: append(home.Env[:len(home.Env):len(home.Env)], c.secretVariable+"="+wrong)}
	other := c.scheme + "://no-such-bucket-at-all"
	for _, mode := range [][]string{{"-v"}, {"--json", "-v"}} {
		for _, run := range []struct {
			home *program.Home
			args []string
		}{
			{mistyped, []string{"sync", source, "--to", c.url()}},
			{mistyped, []string{"copy", c.url(), s.TempDir(), "--once"}},
			{mistyped, []string{"status", c.url()}},
			{mistyped, []string{"watch", source, "--to", c.url(), "--metrics", "off"}},
			{home, []string{"copy", other, s.TempDir(), "--once"}},
			{home, []string{"sync", source, "--to", c.url() + "?profile=nobody"}},
			{home, []string{"sync", source, "--to", c.url() + "?endpoint=http://" + url.UserPassword("u", c.secretKey).String() + "@127.0.0.1"}},
			{home, []string{"sync", source, "--to", c.url() + "?tags=a"}},
		} {
			result := run.home.Run(s.T, append(run.args, mode...)...)
			if result.Code == 0 {
				s.Errorf("skyagent %q went well", run.args)
			}
			s.result(result)
		}
	}
}

// spellings are how a secret could stand somewhere.
func spellings(secret string) []string {
	b := []byte(secret)
	return []string{secret, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString(b), strings.ReplaceAll(secret, "/", `\/`),
		base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b)}
}

// signed is what only a signed request has.
var signed = []string{"AWS4-HMAC-SHA256", "aws4_request", "X-Amz-Signature", "Signature="}

// A search looks for secrets.
type search struct {
	*testing.T
	needles []string
	looked  int // bytes
}

func (s *search) look(where, text string) {
	s.Helper()
	s.looked += len(text)
	for i, needle := range append(signed, s.needles...) {
		if strings.Contains(text, needle) {
			s.Errorf("%s holds needle %d, %q…", where, i, needle[:4])
		}
	}
}

func (s *search) result(r program.Result) {
	s.Helper()
	s.look("output "+r.Stdout+r.Stderr, r.Stdout+r.Stderr)
}

func (s *search) process(ps ...*program.Process) {
	s.Helper()
	for _, p := range ps {
		s.look("standard error", p.Stderr())
		s.look("standard output", fmt.Sprint(p.Lines()))
	}
}

// commandLine looks where every user of the machine can.
func (s *search) commandLine(ps ...*program.Process) {
	s.Helper()
	for _, p := range ps {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID()))
		if err == nil {
			s.look("command line", string(b))
		}
	}
}

func (s *search) metrics(page string) {
	s.Helper()
	resp, err := http.Get(page)
	must(s, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(s, err)
	s.look("metrics", string(b))
}

// files looks at all that is kept on this machine.
func (s *search) files(dir string) {
	s.Helper()
	must(s, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			s.look("file "+path, read(s, path))
		}
		return err
	}))
}

// bucket looks at all objects and what stands with them.
func (s *search) bucket(c cloud) {
	s.Helper()
	store, err := s3.New(s.Context(), s3.Config{Scheme: c.scheme, Bucket: c.bucket, Endpoint: c.endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(c.accessKey, c.secretKey, "")})
	must(s, err)
	for info, err := range store.List(s.Context(), "", "") {
		must(s, err)
		r, info, err := store.Get(s.Context(), info.Key, 0, -1, objstore.Cond{})
		must(s, err)
		b, err := io.ReadAll(r)
		must(s, err)
		r.Close()
		s.look("object "+info.Key, fmt.Sprint(info, string(b)))
	}
}

package mounter

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/skyagent/skyagent/manifest"
)

// batch is how many paths one call of rclone's remote control names.
const batch = 200

// mostKnown bounds the directories that are remembered; then all are forgotten.
const mostKnown = 100_000

// An rclone is refreshed by its remote control. vfs/forget drops one entry and
// the listing of its directory, so that the next look lists that directory; it
// does nothing for a path whose directory rclone has not heard of, so each
// directory is made known once, by vfs/refresh.
type rclone struct {
	cfg    Config
	remote *remote
	socket string // where the one that this package starts listens; "" is another's

	mu    sync.Mutex             // guards known
	known map[manifest.Path]bool // directories that rclone has heard of
}

func newRclone(cfg Config) (*rclone, error) {
	r := &rclone{cfg: cfg, known: map[manifest.Path]bool{}}
	where := cfg.Remote
	if where == "" {
		if cfg.State == "" {
			return nil, fmt.Errorf("no directory for its socket")
		}
		r.socket = r.own("rclone-%x.sock")
		where = "unix://" + r.socket
	}
	var err error
	r.remote, err = newRemote(where)
	return r, err
}

// own returns a path in the state directory that belongs to the mount point.
// rclone spoils a cache that two mounts share.
func (r *rclone) own(format string) string {
	h := fnv.New64a()
	h.Write([]byte(r.cfg.Dir))
	return filepath.Join(r.cfg.State, fmt.Sprintf(format, h.Sum64()))
}

func (r *rclone) filesystem() string { return "fuse.rclone" }

// command has no credentials: rclone takes them from the environment, as the
// store's own tools do.
//
// The kernel asks for attributes each time, since rclone does not tell it what
// it was told to forget; rclone's own listings are kept long, since we tell it.
func (r *rclone) command() (name string, args, env []string) {
	args = []string{"mount", "skyagent:" + r.cfg.Location.Name(), r.cfg.Dir,
		"--attr-timeout", "0s", "--dir-cache-time", "1h", "--poll-interval", "0", "--cache-dir", r.own("rclone-%x"),
		"--rc", "--rc-no-auth", "--rc-addr", "unix://" + r.socket} // in a directory of this user's own
	return "rclone", args, append(r.environ(), "RCLONE_CONFIG="+os.DevNull)
}

// prepare clears the socket of one that was killed: with it the next does not start.
func (r *rclone) prepare() error {
	if r.socket == "" {
		return fmt.Errorf("start rclone for %s: it was said to run already, at another's remote control", r.cfg.Dir)
	}
	if err := os.MkdirAll(r.cfg.State, 0o700); err != nil {
		return fmt.Errorf("make a directory for rclone's socket: %w", err)
	}
	if err := os.Remove(r.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an old socket of rclone: %w", err)
	}
	return nil
}

// environ configures the remote named skyagent.
func (r *rclone) environ() []string {
	set := map[string]string{"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "true"}
	switch r.cfg.Location.Scheme {
	case "gs":
		set = map[string]string{"TYPE": "google cloud storage", "ENV_AUTH": "true", "BUCKET_POLICY_ONLY": "true"}
	case "r2":
		set["PROVIDER"] = "Cloudflare"
		set["NO_CHECK_BUCKET"] = "true"
	case "file":
		set = map[string]string{"TYPE": "local"}
	case "s3":
		if endpoint(r.cfg) == "" {
			set["PROVIDER"] = "AWS"
		}
	}
	if set["TYPE"] == "s3" {
		set["ENDPOINT"], set["REGION"] = endpoint(r.cfg), region(r.cfg)
	}
	var env []string
	for _, k := range slices.Sorted(maps.Keys(set)) {
		env = append(env, "RCLONE_CONFIG_SKYAGENT_"+k+"="+set[k])
	}
	return env
}

func (r *rclone) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.known)
}

func (r *rclone) refresh(ctx context.Context, paths []manifest.Path) error {
	for some := range slices.Chunk(paths, batch) {
		if err := r.drop(ctx, some); err != nil {
			return err
		}
		if err := r.meet(ctx, r.strangers(some)); err != nil {
			return err
		}
	}
	return nil
}

// drop makes rclone forget paths, as files and as directories: they may have
// turned from one into the other.
func (r *rclone) drop(ctx context.Context, paths []manifest.Path) error {
	form := url.Values{}
	for i, p := range paths {
		form.Set("dir"+strconv.Itoa(i), string(p))
	}
	return r.remote.call(ctx, "vfs/forget", form, nil)
}

// strangers returns the directories of paths that rclone may not have heard of.
// One that changed itself may be gone.
func (r *rclone) strangers(paths []manifest.Path) []manifest.Path {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) > mostKnown {
		clear(r.known)
	}
	for _, p := range paths {
		delete(r.known, p)
	}
	var dirs []manifest.Path
	for _, p := range paths {
		if d := p.Dir(); d != "" && !r.known[d] && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// meet makes rclone look for directories. One that it does not find may be new:
// then the listings of all directories above are dropped, and it looks again. One
// that is not there then is not in the bucket.
func (r *rclone) meet(ctx context.Context, dirs []manifest.Path) error {
	missing, err := r.look(ctx, dirs)
	if err != nil || len(missing) == 0 {
		return err
	}
	above := map[manifest.Path]bool{}
	for _, d := range missing {
		for ; d != ""; d = d.Dir() {
			above[d] = true
		}
	}
	if err := r.drop(ctx, slices.Sorted(maps.Keys(above))); err != nil {
		return err
	}
	_, err = r.look(ctx, missing)
	return err
}

// look lists directories and returns those that are not there.
func (r *rclone) look(ctx context.Context, dirs []manifest.Path) (missing []manifest.Path, err error) {
	if len(dirs) == 0 {
		return nil, nil
	}
	form := url.Values{}
	for i, d := range dirs {
		form.Set("dir"+strconv.Itoa(i), string(d))
	}
	var answer struct {
		Result map[string]string `json:"result"`
	}
	if err := r.remote.call(ctx, "vfs/refresh", form, &answer); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range dirs {
		if answer.Result[string(d)] == "OK" {
			r.known[d] = true
		} else {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

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

	"github.com/skyagent/skyagent/manifest"
)

// batch is how many paths one call of rclone's remote control names.
const batch = 200

// An rclone is refreshed by its remote control. vfs/forget drops one entry and
// the listing of its directory, so that the next look lists that directory, and
// nothing else. It does nothing for a path whose directory rclone has not heard
// of; then it is the first directory above that is new to it that it must forget.
// vfs/refresh is not used: it lists at once, whether anybody looks or not.
type rclone struct {
	cfg    Config
	remote *remote
	socket string // where the one that this package starts listens; "" is another's
}

func newRclone(cfg Config) (*rclone, error) {
	r := &rclone{cfg: cfg}
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

func (r *rclone) refresh(ctx context.Context, paths []manifest.Path) error {
	for some := range slices.Chunk(paths, batch) {
		if err := r.forget(ctx, some); err != nil {
			return err
		}
		unheard, err := r.unheard(ctx, some)
		if err != nil {
			return err
		}
		if err := r.forget(ctx, unheard); err != nil {
			return err
		}
	}
	return nil
}

// forget drops entries and what rclone knows below them, in case they are
// directories: they may have been or become one.
func (r *rclone) forget(ctx context.Context, paths []manifest.Path) error {
	if len(paths) == 0 {
		return nil // else rclone forgets everything
	}
	form := url.Values{}
	for i, p := range paths {
		form.Set("dir"+strconv.Itoa(i), string(p))
	}
	return r.remote.call(ctx, "vfs/forget", form)
}

// unheard returns the topmost directories above paths that the mount does not
// show. rclone answers from what it has listed, so this asks the store nothing.
func (r *rclone) unheard(ctx context.Context, paths []manifest.Path) ([]manifest.Path, error) {
	looked, tops := map[manifest.Path]bool{}, map[manifest.Path]bool{}
	for _, p := range paths {
		var top manifest.Path
		for d := p.Dir(); d != "" && !looked[d]; d = d.Dir() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			looked[d] = true
			shown, err := r.shown(d)
			if err != nil {
				return nil, err
			}
			if shown {
				break
			}
			top = d
		}
		if top != "" {
			tops[top] = true
		}
	}
	return slices.Sorted(maps.Keys(tops)), nil
}

// shown reports whether the mount has a directory.
func (r *rclone) shown(d manifest.Path) (bool, error) {
	fi, err := os.Lstat(filepath.Join(r.cfg.Dir, filepath.FromSlash(string(d))))
	if err != nil && !gone(err) {
		return false, fmt.Errorf("look for directory %q: %w", d, err)
	}
	return err == nil && fi.IsDir(), nil
}

package mounter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skyagent/skyagent/manifest"
)

// endpoint returns where an S3 store is, "" for Amazon's.
func endpoint(cfg Config) string {
	if cfg.Location.Scheme == "r2" {
		return cmp.Or(cfg.Location.Params.Get("endpoint"), lookup(cfg, "R2_ENDPOINT_URL"), lookup(cfg, "R2_ENDPOINT"))
	}
	return cmp.Or(cfg.Location.Params.Get("endpoint"), lookup(cfg, "AWS_ENDPOINT_URL_S3"), lookup(cfg, "AWS_ENDPOINT_URL"))
}

// checkR2 wants all that R2 needs to be said: what the environment says is for
// another store, and data for one must not go to the other.
func checkR2(cfg Config) error {
	if cfg.Location.Scheme != "r2" {
		return nil
	}
	if endpoint(cfg) == "" {
		return errors.New("R2 needs an endpoint")
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="} {
		if !slices.ContainsFunc(cfg.Env, func(kv string) bool { return strings.HasPrefix(kv, name) }) {
			return errors.New("R2 needs credentials of its own")
		}
	}
	return nil
}

func region(cfg Config) string {
	if cfg.Location.Scheme == "r2" {
		return "auto"
	}
	return cmp.Or(cfg.Location.Params.Get("region"), lookup(cfg, "AWS_REGION"), lookup(cfg, "AWS_DEFAULT_REGION"), "us-east-1")
}

// lookup returns a variable of the environment that a mounter is given.
func lookup(cfg Config, name string) string {
	value := os.Getenv(name)
	for _, kv := range cfg.Env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// A plain mounter cannot be told of changes.
type plain struct {
	name, fs string
	args     []string
	why      string
}

func newGCSFuse(cfg Config) (*plain, error) {
	if cfg.Location.Scheme != "gs" {
		return nil, fmt.Errorf("it mounts no %s: bucket", cfg.Location.Scheme)
	}
	args := []string{"--foreground", "--implicit-dirs", "--metadata-cache-ttl-secs", "5"}
	if p := cfg.Location.Prefix; p != "" {
		args = append(args, "--only-dir", p)
	}
	return &plain{"gcsfuse", "fuse.gcsfuse", append(args, cfg.Location.Bucket, cfg.Dir),
		"gcsfuse offers no refresh; what it shows is as old as --metadata-cache-ttl-secs allows"}, nil
}

func newMountpoint(cfg Config) (*plain, error) {
	if cfg.Location.Scheme != "s3" {
		return nil, fmt.Errorf("it mounts no %s: bucket", cfg.Location.Scheme)
	}
	args := []string{"--foreground", "--allow-delete", "--allow-overwrite"}
	if e := endpoint(cfg); e != "" {
		args = append(args, "--endpoint-url", e, "--force-path-style", "--region", region(cfg))
	}
	if p := cfg.Location.Prefix; p != "" {
		args = append(args, "--prefix", p+"/")
	}
	return &plain{"mount-s3", "fuse", append(args, cfg.Location.Bucket, cfg.Dir),
		"mountpoint-s3 offers no refresh; an open looks again by itself, the rest is a second old at most unless --metadata-ttl says more"}, nil
}

func (p *plain) command() (name string, args, env []string) { return p.name, p.args, nil }
func (p *plain) filesystem() string                         { return p.fs }
func (p *plain) prepare() error                             { return nil }

func (p *plain) refresh(context.Context, []manifest.Path) error {
	return fmt.Errorf("%s: %w", p.why, errors.ErrUnsupported)
}

// execGrace bounds the wait, after the command was killed, for processes of its
// own that hold its output open.
const execGrace = time.Second

// A command refreshes a mount that somebody else started.
type command struct{ cfg Config }

func newExec(cfg Config) (*command, error) {
	if cfg.Command == "" {
		return nil, fmt.Errorf("no command")
	}
	return &command{cfg}, nil
}

func (c *command) command() (name string, args, env []string) { return "", nil, nil }
func (c *command) filesystem() string                         { return "" }
func (c *command) prepare() error                             { return nil }

func (c *command) refresh(ctx context.Context, paths []manifest.Path) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", c.cfg.Command)
	cmd.Dir = c.cfg.Dir
	cmd.Env = append(cmd.Environ(), c.cfg.Env...)
	var lines strings.Builder
	for _, p := range paths {
		fmt.Fprintln(&lines, p)
	}
	cmd.Stdin = strings.NewReader(lines.String())
	cmd.WaitDelay = execGrace
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run the command: %w\n%s", err, said)
	}
	return nil
}

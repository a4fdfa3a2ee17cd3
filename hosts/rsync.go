package hosts

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// silence is how long rsync waits for the other side, in seconds.
	silence = 60
	// maxSaid bounds what is kept of what rsync says.
	maxSaid = 64 << 10
	// partGrace is how long a killed rsync's ssh may hold its output open.
	partGrace = 5 * time.Second
)

// A remote is one host, reached by rsync.
type remote struct {
	host    string
	ssh     SSH
	control string // path of the shared connection, "" for none
	empty   string // a directory without content
}

// send sends paths below the directory source to target. again sends also what
// has the same size and time there.
func (r *remote) send(ctx context.Context, source, target string, paths []string, again bool) error {
	if len(paths) == 0 {
		return nil
	}
	args := []string{"--from0", "--files-from=-"}
	if again {
		args = append(args, "--ignore-times")
	}
	return r.run(ctx, target, list(paths), args, source+"/", place(r.host, target, true))
}

// sendFile makes target the file source.
func (r *remote) sendFile(ctx context.Context, source, target string, again bool) error {
	var args []string
	if again {
		args = append(args, "--ignore-times")
	}
	return r.run(ctx, target, nil, args, source, place(r.host, target, false))
}

// remove deletes paths below target: files and links first, then directories
// that are empty by then, the deepest first. For rsync it is that they are
// missing in the source, which is an empty directory.
func (r *remote) remove(ctx context.Context, target string, gone []path) error {
	for _, level := range levels(gone) {
		args := []string{"--from0", "--files-from=-", "--delete-missing-args"}
		if err := r.run(ctx, target, list(level), args, r.empty+"/", place(r.host, target, true)); err != nil {
			return err
		}
	}
	return nil
}

// levels orders what is to be deleted: one rsync each, since rsync goes down a
// tree and would find every directory full.
func levels(gone []path) [][]string {
	var files []string
	var dirs [][]string // by depth
	for _, p := range gone {
		if !p.dir {
			files = append(files, p.name)
			continue
		}
		depth := strings.Count(p.name, "/")
		for len(dirs) <= depth {
			dirs = append(dirs, nil)
		}
		dirs[depth] = append(dirs[depth], p.name)
	}
	var out [][]string
	if len(files) > 0 {
		out = append(out, files)
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if len(dirs[i]) > 0 {
			out = append(out, dirs[i])
		}
	}
	return out
}

// list returns paths as --files-from and --from0 read them. They begin with "./",
// or rsync would take one that begins with # or ; for a comment.
func list(paths []string) io.Reader {
	return strings.NewReader("./" + strings.Join(paths, "\x00./") + "\x00")
}

// run runs rsync. --secluded-args (-s) keeps names from the remote shell.
func (r *remote) run(ctx context.Context, target string, stdin io.Reader, args []string, from, to string) error {
	all := []string{"-lptOzs", "--mkpath", fmt.Sprintf("--timeout=%d", silence), "-e", quoted(r.ssh.command(r.control))}
	if r.ssh.Rsync != "" {
		all = append(all, "--rsync-path="+r.ssh.Rsync)
	}
	all = append(append(all, args...), "--", from, to)
	said := &tail{}
	cmd := exec.CommandContext(ctx, "rsync", all...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, io.Discard, said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it removes its temporary file then
	cmd.WaitDelay = partGrace
	return failure(ctx, r.host, target, cmd.Run(), said.String())
}

// leave ends the shared connection, if there is one.
func (r *remote) leave(ctx context.Context) {
	if r.control == "" {
		return
	}
	words := r.ssh.command(r.control)
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], "-O", "exit", "--", sshName(r.host))...)
	cmd.WaitDelay = partGrace
	cmd.Run() // there may be none
}

// sshName is host as ssh takes it: without the brackets of IPv6.
func sshName(host string) string { return strings.NewReplacer("[", "", "]", "").Replace(host) }

// A tail keeps the last of what is written to it.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(b []byte) (int, error) {
	t.buf.Write(b)
	if over := t.buf.Len() - maxSaid; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string { return t.buf.String() }

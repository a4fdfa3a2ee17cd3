package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/skyagent/skyagent/bus"
	"github.com/skyagent/skyagent/hosts"
	"github.com/skyagent/skyagent/ignore"
	"github.com/skyagent/skyagent/storage"
	"github.com/skyagent/skyagent/watcher"
)

// hostFlags say which hosts get the plain file mounts of a task, and how they
// are reached.
type hostFlags struct {
	names []string
	ssh   hosts.SSH
}

func (f *hostFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.names, "host", nil, "send the task's file mounts without a bucket to `[USER@]HOST` by rsync; may be repeated")
	flags.StringVar(&f.ssh.Config, "ssh-config", "", "`FILE` instead of your ssh configuration")
	flags.StringVar(&f.ssh.Identity, "ssh-identity", "", "`FILE` of the private key (default: as ssh chooses)")
	flags.IntVar(&f.ssh.Port, "ssh-port", 0, "`PORT` of ssh (default: as ssh chooses)")
	flags.StringArrayVar(&f.ssh.Options, "ssh-option", nil, "`NAME=VALUE` for ssh -o; may be repeated")
	flags.StringVar(&f.ssh.Rsync, "host-rsync", "", "`CMD` that is rsync on the hosts, as \"sudo rsync\" (default rsync)")
}

func (f hostFlags) check(task string) error {
	if len(f.names) == 0 {
		return nil
	}
	if task == "" {
		return usageHint(errors.New("--host is for the file mounts of a task"), "name its file with -f")
	}
	seen := make(map[string]bool)
	for _, name := range f.names {
		if err := hosts.CheckHost(name); err != nil {
			return usageHint(err, "write HOST, USER@HOST or a name of your ssh configuration; --ssh-port is the port")
		}
		if seen[name] {
			return usagef("--host %s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

// plainMounts returns the file mounts of a task that have no bucket.
func plainMounts(task *storage.Task) []hosts.Mount {
	var mounts []hosts.Mount
	for _, m := range task.Mounts {
		if m.Mode == storage.Rsync {
			src := m.Sources[0]
			mounts = append(mounts, hosts.Mount{Source: src.Path, Dir: src.Dir, Target: m.Path})
		}
	}
	return mounts
}

// newHostSync returns what sends mounts to the hosts of f, but for what rules
// ignore, and tells how it goes.
func (p *program) newHostSync(mounts []hosts.Mount, rules *ignore.Rules, f sourceFlags) *hosts.Sync {
	return hosts.New(hosts.Options{
		Hosts: f.hosts.names, SSH: f.hosts.ssh, Mounts: mounts, State: filepath.Join(p.places.state, "hosts"),
		Ignore: rules, KeepDeleted: !f.delete, AllowMassDelete: f.allowMassDelete, Report: p.saySent, Log: p.logger(),
	})
}

// hostRules returns what of plain mounts is not sent. Git's own directory is:
// programs ask there which version they are.
func (p *program) hostRules(f sourceFlags) *ignore.Rules {
	if f.noIgnore {
		return nil
	}
	return ignore.New(ignore.Options{KeepGit: true, Log: p.logger()})
}

// watchForHosts returns the loop that keeps mounts in step on hosts.
func (a *agent) watchForHosts(mounts []hosts.Mount, f sourceFlags) loop {
	pt := a.newPart(target{name: "hosts"}, nil, partID(0)+"-hosts")
	rules := a.p.hostRules(f)
	for i := range mounts {
		m := &mounts[i]
		if m.Dir {
			w := watcher.New(watcher.Options{Root: m.Source, Ignore: rules, Log: a.log})
			m.Changes = w
			pt.service("watcher of "+m.Source, w.Run)
			continue
		}
		w := hosts.NewFile(m.Source)
		m.Changes = w
		pt.service("watcher of "+m.Source, w.Run)
	}
	s := a.p.newHostSync(mounts, rules, f)
	roots := plainRoots(mounts, rules)
	pt.service("record of hosts", func(ctx context.Context) error { pt.recordHosts(ctx, s, roots); return nil })
	return loop{part: pt, run: s.Run}
}

// plainRoots returns what mounts are of.
func plainRoots(mounts []hosts.Mount, rules *ignore.Rules) []rootRecord {
	var roots []rootRecord
	for _, m := range mounts {
		roots = append(roots, rootRecord{Path: m.Source, File: !m.Dir, Plain: true, All: rules == nil})
	}
	return roots
}

// recordHosts keeps the record of the hosts up to date.
func (pt *part) recordHosts(ctx context.Context, s *hosts.Sync, roots []rootRecord) {
	record := newRecordFile(pt.p.places.run, pt.id, pt.log)
	defer record.remove()
	tick := time.NewTicker(reportTime)
	defer tick.Stop()
	for {
		now := agentRecord{Presence: bus.Presence{ID: "hosts", Role: "hosts", Host: hostname(), PID: os.Getpid()}, Metrics: pt.metricsURL, Bus: pt.conn.Up(), Roots: roots}
		for _, st := range s.Status() {
			now.Hosts = append(now.Hosts, hostLine{Host: st.Host, Source: st.Source, Path: st.Target, State: string(st.State),
				Reason: oneLine(st.Reason), Files: st.Files, Pending: st.Pending, Skipped: st.Skipped})
		}
		record.write(now)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A hostLine is how one file mount does on one host, in status --json.
type hostLine struct {
	Host    string   `json:"host"`
	Source  string   `json:"source"`
	Path    string   `json:"path"`
	State   string   `json:"state"`
	Reason  string   `json:"reason,omitempty"`
	Files   int      `json:"files"`
	Pending int      `json:"pending"`
	Skipped []string `json:"skipped,omitempty"`
}

// A hostsLine is what status --json prints of files that go to hosts.
type hostsLine struct {
	Hosts []hostLine `json:"hosts"`
}

// hostLines returns what the watches of this machine send to hosts.
func (p *program) hostLines() []hostLine {
	var lines []hostLine
	for _, r := range localAgents(p.places.run) {
		lines = append(lines, r.Hosts...)
	}
	return lines
}

// hostStatus says what goes to hosts, if anything does.
func (p *program) hostStatus() {
	lines := p.hostLines()
	if len(lines) == 0 {
		return
	}
	p.ui.record(hostsLine{lines})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(w, "  %s\t%s\t%s → %s\t%s\t%d waiting\n", l.Host, l.State, l.Source, l.Path, plural(l.Files, "file"), l.Pending)
		sayMore(w, l.Reason, l.Skipped)
	}
	w.Flush()
	p.ui.say("hosts, by rsync:\n%s", strings.TrimRight(b.String(), "\n"))
}

// A sentLine is what watch --json and sync --json print for every transfer.
type sentLine struct {
	Host    string  `json:"host"`
	Source  string  `json:"source"`
	Path    string  `json:"path"`
	First   bool    `json:"first,omitempty"` // of everything
	Sent    int     `json:"sent"`
	Deleted int     `json:"deleted"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
	Retry   float64 `json:"retry_seconds,omitempty"`
}

func (p *program) saySent(r hosts.Report) {
	line := sentLine{Host: r.Host, Source: r.Source, Path: r.Target, First: r.First, Sent: r.Sent, Deleted: r.Deleted,
		Seconds: r.Took.Seconds(), Retry: r.Retry.Seconds()}
	if r.Err != nil {
		line.Error = oneLine(r.Err.Error())
	}
	switch {
	case r.Retry > 0:
		p.ui.warn("%s; tried again in %v", line.Error, r.Retry)
		p.ui.hint(r.Err)
	case hosts.IsUnread(r.Err):
		p.ui.warn("%s; everything else is there", line.Error)
		p.partly.Store(true)
	case r.Err != nil: // it ends the command
	case r.First:
		p.ui.say("sent %s → %s:%s: all %s in %s", r.Source, r.Host, r.Target, plural(r.Sent, "path"), round(r.Took))
	default:
		p.ui.say("sent %s → %s:%s: %d changed, %d deleted in %s", r.Source, r.Host, r.Target, r.Sent, r.Deleted, round(r.Took))
	}
	p.ui.record(line)
}

// hostHint knows what keeps hosts from being reached.
func hostHint(err error) string {
	var (
		failed  *hosts.Error
		guarded *hosts.GuardedError
	)
	switch {
	case errors.As(err, &guarded):
		return "bring the files back, or run again with --allow-mass-delete if the deletion is meant"
	case errors.Is(err, exec.ErrNotFound):
		return "install rsync and ssh here"
	case !errors.As(err, &failed):
		return ""
	}
	switch failed.Kind {
	case hosts.Unreachable:
		return "check that the host is up, its name, and --ssh-port"
	case hosts.HostKey:
		return fmt.Sprintf("check that it is the right host, then: ssh %s; or --ssh-option StrictHostKeyChecking=accept-new", failed.Host)
	case hosts.Refused:
		return "check the user's name and the key: --ssh-identity, and authorized_keys on the host"
	case hosts.NoRsync:
		return "install rsync on the host"
	case hosts.OldRsync:
		return "install rsync 3.2.3 or newer, here and on the host"
	case hosts.DiskFull:
		return "free some space on the host; it goes on by itself"
	case hosts.Denied:
		return "let that user write there, or use --host-rsync \"sudo rsync\""
	}
	return ""
}

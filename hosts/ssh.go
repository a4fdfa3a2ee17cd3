package hosts

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// SSH says how hosts are reached, beyond what the user's ssh configuration says.
type SSH struct {
	Config   string   // a configuration file instead of the user's; "" is the user's
	Identity string   // file of a private key; "" is ssh's choice
	Port     int      // 0 is ssh's choice
	Options  []string // as for ssh -o: "StrictHostKeyChecking=accept-new"
	Rsync    string   // command that is rsync on the hosts, as "sudo rsync"; "" is rsync
}

// connectTime bounds a connection's making, and silence on it, in seconds.
const connectTime = 15

// command returns the words of the ssh command. control is the path of the
// connection that all commands to one host share.
func (s SSH) command(control string) []string {
	words := []string{"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=" + strconv.Itoa(connectTime),
		"-o", "ServerAliveInterval=" + strconv.Itoa(connectTime/3), "-o", "ServerAliveCountMax=3"}
	if control != "" {
		words = append(words, "-o", "ControlMaster=auto", "-o", "ControlPath="+control, "-o", "ControlPersist=60")
	}
	if s.Config != "" {
		words = append(words, "-F", s.Config)
	}
	if s.Identity != "" {
		words = append(words, "-i", s.Identity, "-o", "IdentitiesOnly=yes")
	}
	if s.Port != 0 {
		words = append(words, "-p", strconv.Itoa(s.Port))
	}
	for _, o := range s.Options {
		words = append(words, "-o", o)
	}
	return words
}

// controlPath returns where the connection to the n-th host is shared. Windows'
// ssh cannot.
func controlPath(dir string, n int) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	return filepath.Join(dir, strconv.Itoa(n))
}

// quoted joins words as rsync's -e splits them: a quote within quotes is doubled.
func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + strings.ReplaceAll(w, "'", "''") + "'"
	}
	return strings.Join(out, " ")
}

// CheckHost says what keeps host from being one: HOST, USER@HOST, or a name of
// the ssh configuration.
func CheckHost(host string) error {
	_, name, found := strings.Cut(host, "@")
	if !found {
		name = host
	}
	switch {
	case name == "" || strings.HasPrefix(host, "-") || strings.HasPrefix(name, "-"),
		strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\'"`, r) }):
		return fmt.Errorf("%q is not a host", host)
	case strings.Count(name, ":") == 1:
		return fmt.Errorf("%q is not a host: its port is given apart", host)
	}
	return nil
}

// place returns how rsync is told of target on host. A home directory is where
// ssh begins; "~" would be read by a shell.
func place(host, target string, dir bool) string {
	user, name, found := strings.Cut(host, "@")
	if !found {
		user, name = "", host
	} else {
		user += "@"
	}
	if strings.Contains(name, ":") && !strings.HasPrefix(name, "[") {
		name = "[" + name + "]" // an address of IPv6
	}
	switch {
	case target == "~":
		target = "."
	case strings.HasPrefix(target, "~/"):
		target = "./" + target[2:]
	}
	if dir {
		target += "/"
	}
	return user + name + ":" + target
}

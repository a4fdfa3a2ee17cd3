package servers

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
)

// An SSHServer is a real sshd that lets this user in, by a key of the test's own.
type SSHServer struct {
	Port     string
	Dir      string // the home directory of who comes in
	Identity string // file of the key that it takes
	Config   string // an ssh configuration that knows the server as Host
	Host     string

	dir string // of keys and configuration
	*process
}

// Sshd starts a server of the test's own on loopback, which ends with it.
func Sshd(t testing.TB) *SSHServer {
	t.Helper()
	path := sshd(t)
	s := &SSHServer{dir: t.TempDir(), Dir: t.TempDir(), Host: "worker"}
	s.Identity = filepath.Join(s.dir, "key")
	key(t, s.Identity)
	key(t, filepath.Join(s.dir, "host"))
	authorized, err := os.ReadFile(s.Identity + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.dir, "authorized"), string(authorized))
	// What comes in begins in Dir, as in a home directory.
	write(t, filepath.Join(s.dir, "login"), fmt.Sprintf("#!/bin/sh\ncd '%s' && HOME='%[1]s' exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n", s.Dir))
	if err := os.Chmod(filepath.Join(s.dir, "login"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.process = launch(t, func(addr string) *process {
		s.Port = port(addr)
		conf := filepath.Join(s.dir, "sshd_config")
		write(t, conf, s.serverConfig())
		return &process{path: path, addr: addr, ready: greets("SSH-2.0-"), env: environ(), args: []string{"-D", "-e", "-f", conf}}
	})
	s.Config = filepath.Join(s.dir, "ssh_config")
	write(t, s.Config, s.ClientConfig(s.Host))
	return s
}

func (s *SSHServer) serverConfig() string {
	return fmt.Sprintf(`ListenAddress 127.0.0.1
Port %s
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/authorized
ForceCommand %[2]s/login
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100:30:200
`, s.Port, s.dir)
}

// ClientConfig returns the lines of an ssh configuration by which host is the
// server, whose key is known.
func (s *SSHServer) ClientConfig(host string) string {
	public, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		panic(err) // Sshd wrote it
	}
	known := filepath.Join(s.dir, "known_hosts")
	line := fmt.Sprintf("[127.0.0.1]:%s %s", s.Port, public)
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		panic(err)
	}
	return fmt.Sprintf("Host %s\n\tHostName 127.0.0.1\n\tPort %s\n\tUser %s\n\tIdentityFile %s\n\tIdentitiesOnly yes\n\tUserKnownHostsFile %s\n",
		host, s.Port, username(), s.Identity, known)
}

func username() string {
	u, err := user.Current()
	if err != nil {
		panic(err) // a process has one
	}
	return u.Username
}

// sshd returns the path of the installed sshd, and makes what it needs to run.
func sshd(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: needs a real sshd")
	}
	path, err := exec.LookPath("sshd")
	if err != nil {
		path = "/usr/sbin/sshd" // not in every user's path
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("sshd: %v; install openssh-server", err)
	}
	if os.Getuid() == 0 {
		// Where it drops its rights; its service makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// key makes a key pair without a passphrase.
func key(t testing.TB, file string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

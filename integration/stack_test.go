//go:build compose && linux

package integration_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skyagent/skyagent/integration/servers"
)

// commandPatience is how long a command of the engine may take.
const commandPatience = 5 * time.Minute

// A stack is docker-compose.yml on an engine.
type stack struct {
	engine     *engine
	data       string // stands for ./data
	project    string
	env        []string
	roots      map[string]string // of the workers' file systems
	prometheus servers.PrometheusAPI
}

// newStack finds or starts the engine, and makes the images that it has not.
func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{engine: newEngine(t), data: t.TempDir(), project: fmt.Sprintf("skyagent-test-%d", os.Getpid()), roots: map[string]string{}}
	must(t, os.Chmod(filepath.Dir(s.data), 0o755))
	addr := freePort(t)
	_, port, _ := net.SplitHostPort(addr)
	s.env = append(s.engine.env, "SKYAGENT_DATA="+s.data, "PROMETHEUS_PORT="+port)
	s.prometheus.URL = "http://" + addr
	s.checkPins(t)
	for _, image := range servers.Images(t) {
		s.engine.makeImage(t, image)
	}
	s.engine.buildAgent(t)
	return s
}

// checkPins wants the file to name the versions that this test runs.
func (s *stack) checkPins(t *testing.T) {
	t.Helper()
	var file struct {
		Services map[string]struct{ Image string }
	}
	readYAML(t, "../docker-compose.yml", &file)
	for _, image := range servers.Images(t) {
		named := false
		for _, service := range file.Services {
			named = named || service.Image == image.Name
		}
		if !named {
			t.Errorf("docker-compose.yml does not name %s", image.Name)
		}
	}
}

// up starts all services but Grafana, and waits until those that tell their
// health are well.
func (s *stack) up(t *testing.T) {
	t.Helper()
	write(t, filepath.Join(s.data, "before"), "written before the stack was up")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.compose(t, "logs", "--no-color", "--tail", "30"))
		}
		s.compose(t, "down", "--volumes", "--timeout", "20")
	})
	services := slices.DeleteFunc(strings.Fields(s.compose(t, "config", "--services")), func(name string) bool { return name == "grafana" })
	s.compose(t, append([]string{"up", "-d", "--no-build"}, services...)...)
	for _, w := range append(workers, "watcher") {
		waitFor(t, "health of "+w, func() bool { return s.inspect(t, w, "{{.State.Health.Status}}") == "healthy" })
	}
	for _, w := range workers {
		s.roots[w] = fmt.Sprintf("/proc/%s/root", s.inspect(t, w, "{{.State.Pid}}"))
	}
}

// compose runs a command of docker-compose.
func (s *stack) compose(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--file", "../docker-compose.yml", "--project-directory", "..", "--project-name", s.project}, args...)
	return runIn(t, s.env, nil, s.engine.compose, args...)
}

// inspect returns what the engine says of a service's container.
func (s *stack) inspect(t *testing.T, service, format string) string {
	t.Helper()
	id := strings.TrimSpace(s.compose(t, "ps", "--all", "--quiet", service))
	return s.engine.docker(t, nil, "inspect", "--format", format, id)
}

// An engine runs containers.
type engine struct {
	env     []string
	compose []string // the command
	own     bool     // it was started here, and keeps nothing
}

// newEngine returns the engine that runs, or starts one that is gone, with all
// that it kept, when the test is.
func newEngine(t *testing.T) *engine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: the stack is not tested: only root can look into containers")
	}
	e := &engine{env: append(os.Environ(), "DOCKER_BUILDKIT=0", "COMPOSE_IGNORE_ORPHANS=1")}
	for _, command := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		if _, err := exec.LookPath(command[0]); err == nil && exec.Command(command[0], append(command[1:], "version")...).Run() == nil {
			e.compose = command
			break
		}
	}
	if e.compose == nil {
		t.Skip("SKIPPED: the stack is not tested: neither docker-compose nor docker compose is installed")
	}
	if exec.Command("docker", "info").Run() == nil {
		return e
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Skip("SKIPPED: the stack is not tested: no engine runs, and dockerd is not installed")
	}
	e.start(t)
	return e
}

// start runs an engine on a socket and in directories of its own. Its network is
// the project's alone, and reaches nothing: it leaves the machine's firewall and
// routing as they are.
func (e *engine) start(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "skyagent-engine-") // short: it holds sockets
	must(t, err)
	socket := "unix://" + filepath.Join(dir, "socket")
	var said bytes.Buffer
	cmd := exec.Command("dockerd", "--host", socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			t.Logf("dockerd: %s", said.Bytes()[max(0, said.Len()-4000):])
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("engine's directory stays: %v", err)
		}
	})
	e.own = true
	e.env = append(e.env, "DOCKER_HOST="+socket)
	waitFor(t, "answer of dockerd", func() bool {
		info := exec.Command("docker", "info")
		info.Env = e.env
		return info.Run() == nil
	})
}

// docker runs a command of docker's.
func (e *engine) docker(t *testing.T, stdin io.Reader, args ...string) string {
	t.Helper()
	return strings.TrimSpace(runIn(t, e.env, stdin, []string{"docker"}, args...))
}

// makeImage makes a server's image of its program alone, unless the engine has
// the real one.
func (e *engine) makeImage(t *testing.T, image servers.Image) {
	t.Helper()
	have := exec.Command("docker", "image", "inspect", image.Name)
	have.Env = e.env
	if have.Run() == nil {
		return
	}
	e.docker(t, layer(t, image), "import", "--change", fmt.Sprintf("ENTRYPOINT [%q]", image.Entrypoint), "-", image.Name)
	if !e.own {
		t.Cleanup(func() { e.docker(t, nil, "image", "rm", image.Name) })
	}
}

// layer is a file system with one program.
func layer(t *testing.T, image servers.Image) io.Reader {
	t.Helper()
	program, err := os.ReadFile(image.Program)
	must(t, err)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(image.Entrypoint, "/"), Mode: 0o755, Size: int64(len(program))}))
	_, err = w.Write(program)
	must(t, err)
	must(t, w.Close())
	return &b
}

// buildAgent makes our own image by the last stage of the Dockerfile. What the
// stage before it does in an image that cannot be had is done here.
func (e *engine) buildAgent(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	must(t, os.MkdirAll(image, 0o755))
	for _, open := range []string{"data", "state"} {
		must(t, os.Mkdir(filepath.Join(image, open), 0o777))
		must(t, os.Chmod(filepath.Join(image, open), 0o777|os.ModeSticky))
	}
	runIn(t, append(os.Environ(), "CGO_ENABLED=0"), nil, []string{"go"}, "build", "-tags", "disable_grpc_modules", "-trimpath",
		"-o", filepath.Join(image, "skyagent"), "github.com/skyagent/skyagent/cmd/skyagent")
	_, stage, found := strings.Cut(read(t, "../Dockerfile"), "\nFROM scratch\n")
	if !found {
		t.Fatal("the Dockerfile does not end in a stage FROM scratch")
	}
	write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\n"+strings.ReplaceAll(stage, "--from=build /image", "image"))
	e.docker(t, nil, "build", "--tag", "skyagent:devel", dir)
}

// runIn runs a command that must end well, and returns its output.
func runIn(t *testing.T, env []string, stdin io.Reader, command []string, args ...string) string {
	t.Helper()
	args = append(command[1:len(command):len(command)], args...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", command[0], strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

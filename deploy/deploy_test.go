package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/skyagent/skyagent/integration/program"
	"github.com/skyagent/skyagent/storage"
)

const unit = "systemd/skyagent-agent.service"

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parse reads a task as a worker does, and returns the modes of its mounts.
func parse(t *testing.T, file, content string) map[string]storage.Mode {
	t.Helper()
	task, err := storage.Parse(file, []byte(content), storage.Options{
		Env: func(string) (string, bool) { return "", false }, Home: "/home/ada", Dir: "/", Buckets: "/buckets", Files: storage.Disk{}, Worker: true,
		Known: func(string) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(task.Warnings) > 0 {
		t.Errorf("%v", task.Warnings)
	}
	modes := make(map[string]storage.Mode)
	for _, m := range task.Mounts {
		modes[m.Path] = m.Mode
	}
	return modes
}

// TestSkyPilotTask wants our own parser to take the task and the storages, and
// the shell to take what the task runs.
func TestSkyPilotTask(t *testing.T) {
	got := parse(t, "storages.yaml", read(t, "skypilot/storages.yaml"))
	if got["~/code"] != storage.Copy || got["/mnt/datasets"] != storage.Live || got["/mnt/outputs"] != storage.Live || len(got) != 3 {
		t.Errorf("storages.yaml has %v", got)
	}
	content := read(t, "skypilot/task.yaml")
	for path, mode := range parse(t, "task.yaml", content) {
		if mode != storage.Rsync {
			t.Errorf("%s is %s: SkyPilot would mount it, too", path, mode)
		}
	}
	var task struct {
		Mounts     map[string]string `yaml:"file_mounts"`
		Setup, Run string
	}
	if err := yaml.Unmarshal([]byte(content), &task); err != nil {
		t.Fatal(err)
	}
	for to, from := range task.Mounts {
		if _, err := os.Stat(filepath.Join("skypilot", from)); err != nil && filepath.Base(to) != "skyagent" {
			t.Error(err)
		}
	}
	checkShell(t, "setup", task.Setup)
	checkShell(t, "run", task.Run)
}

// TestCloudInit checks what the snippet writes and runs.
func TestCloudInit(t *testing.T) {
	content := read(t, "skypilot/cloud-init.yaml")
	if !strings.HasPrefix(content, "#cloud-config\n") {
		t.Error("cloud-init would not know it")
	}
	var snippet struct {
		Files []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		Run   [][]string                                    `yaml:"runcmd"`
	}
	if err := yaml.Unmarshal([]byte(content), &snippet); err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, f := range snippet.Files {
		files[f.Path] = f.Content
	}
	if files["/etc/systemd/system/skyagent-agent.service"] != read(t, unit) {
		t.Error("the unit in it is not the one of " + unit)
	}
	parse(t, "task.yaml", files["/etc/skyagent/task.yaml"])
	checkShell(t, "fetch.sh", files["/etc/skyagent/fetch.sh"])
	for _, command := range snippet.Run {
		if command[0] == "sh" && files[command[1]] == "" {
			t.Errorf("%v runs what it does not write", command)
		}
	}
}

func checkShell(t *testing.T, name, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil || script == "" {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// TestInstall runs the installation below another root, twice.
func TestInstall(t *testing.T) {
	from, root := t.TempDir(), t.TempDir()
	for name, source := range map[string]string{
		"install.sh": "skypilot/install.sh", "task.yaml": "skypilot/storages.yaml", "skyagent-agent.service": unit,
	} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(read(t, source)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(from, "skyagent"), []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cmd := exec.Command("sh", filepath.Join(from, "install.sh"))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DESTDIR=" + root, "HOME=/home/a b", `SKYAGENT_ARGS=--exec "echo \n"`, "NATS_URL=nats://bus"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for name, mode := range map[string]os.FileMode{
		"usr/local/bin/skyagent": 0o755, "etc/skyagent/task.yaml": 0o600, "etc/skyagent/agent.env": 0o600, "etc/systemd/system/skyagent-agent.service": 0o644,
	} {
		fi, err := os.Stat(filepath.Join(root, name))
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %v", name, fi, err, mode)
		}
	}
	want := "HOME=\"/home/a b\"\nNATS_URL=\"nats://bus\"\nSKYAGENT_ARGS=\"--exec \\\"echo \\\\n\\\"\"\n"
	if got := read(t, filepath.Join(root, "etc/skyagent/agent.env")); got != want {
		t.Errorf("agent.env is %q, want %q", got, want)
	}
}

// namespaced are the settings that give a service mounts that nobody else sees.
var namespaced = regexp.MustCompile(`(?m)^(ProtectSystem|ProtectHome|ProtectKernel\w+|ProtectControlGroups|ProtectProc|Private\w+|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|TemporaryFileSystem|BindPaths|BindReadOnlyPaths|RootDirectory|RootImage|MountFlags|DynamicUser)=`)

// TestUnit wants the unit to start at boot, its mounts to be seen by all, and
// systemd to understand it.
func TestUnit(t *testing.T) {
	content := read(t, unit)
	if !strings.Contains(content, "\nWantedBy=multi-user.target\n") {
		t.Error("it does not start at boot")
	}
	if found := namespaced.FindString(content); found != "" {
		t.Errorf("%s hides its mounts from everybody else", found)
	}
	program.Short(t)
	analyze, err := exec.LookPath("systemd-analyze")
	if runtime.GOOS != "linux" {
		t.Skip("systemd-analyze is of Linux: the unit is not verified here")
	}
	if err != nil {
		t.Fatal("systemd-analyze is not installed, and the unit not verified; Debian has it in the package systemd")
	}
	// It wants the program to be there.
	content = strings.ReplaceAll(content, "/usr/local/bin/skyagent", program.Binary(t))
	file := filepath.Join(t.TempDir(), filepath.Base(unit))
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	security, err := exec.Command(analyze, "security", "--offline=true", file).CombinedOutput()
	t.Logf("systemd-analyze security: %v\n%s", err, lastLine(string(security)))
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

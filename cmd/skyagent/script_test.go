package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run the test binary as skyagent.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"skyagent": main})
}

// TestScript runs the cases of testdata/script, each on a machine of its own
// that has no configuration.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, ".home")
			env.Setenv("SKYAGENT_HOME", home)
			env.Setenv("HOME", home)
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return os.Mkdir(home, 0o755)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  exits,
			"fields": fields,
			"fakes3": fakeS3,
		},
	})
}

// exits runs skyagent and wants an exit code: exits CODE skyagent ARG...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code = exitCode(err)
	}
	if want := args[0]; want != strconv.Itoa(code) {
		ts.Fatalf("exit %d, want %s", code, want)
	}
}

func exitCode(err error) int {
	if e, ok := err.(interface{ ExitCode() int }); ok {
		return e.ExitCode()
	}
	return -1
}

// fields wants the last line of standard output to be an object with exactly
// these fields: fields NAME...
func fields(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	var object map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &object))
	var got []string
	for name := range object {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(args)
	if !slices.Equal(got, args) {
		ts.Fatalf("fields %s\nwant   %s", strings.Join(got, " "), strings.Join(args, " "))
	}
}

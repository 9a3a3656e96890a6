package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// TestExitCodes: scripts rely on them. 0 done, 1 failed, 2 wrong usage, 3
// refused, 4 unreachable.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", "/nowhere.git")
	task := must[taskView](n, "task", "run", "--project", "app", "hello")
	failed := n.until(task.ID, "failed", func(v taskView) bool { return v.State == chat.Failed })
	id := string(failed.ID)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"version", exitDone, ""},
		{"project list", exitDone, "app"},
		{"project show app", exitDone, "/nowhere.git"},
		{"task list", exitDone, id},
		{"task list --project app --state failed", exitDone, id},
		{"task show " + id, exitDone, "failed"},
		{"task show " + id[len(id)-8:], exitDone, id},
		{"task show nothing", exitFailed, "nothing"},
		{"task logs " + id, exitDone, "hello"},
		{"task export " + id, exitDone, "hello"},
		{"task run --project app --wait again", exitFailed, "nowhere.git"},
		{"secret list", exitDone, ""},
		{"nonsense", exitUsage, "nonsense"},
		{"task", exitUsage, "run"},
		{"task nonsense", exitUsage, "nonsense"},
		{"task show", exitUsage, "arg"},
		{"task run hello", exitUsage, "--project"},
		{"task run --project app --nonsense hello", exitUsage, "--nonsense"},
		{"task run --project app --mode wild hello", exitUsage, "wild"},
		{"task run --project nobody hello", exitFailed, "nobody"},
		{"project add app --repo /other.git", exitRefused, "already"},
		{"project add Bad_Name --repo /other.git", exitUsage, "Bad_Name"},
		{"project add x", exitUsage, "--repo"},
		{"project show nobody", exitFailed, "nobody"},
		{"project remove nobody", exitFailed, "nobody"},
		{"task answer " + id + " yes", exitRefused, ""},
		{"task merge " + id, exitRefused, ""},
		{"task release " + id, exitRefused, ""},
		{"secret rm NOTHING", exitFailed, "NOTHING"},
		{"task stop " + id, exitDone, ""},
		{"--api http://127.0.0.1:1 task list", exitUnreachable, "is `samnode dev` running?"},
		{"--api http://127.0.0.1:1 task run --project app --wait hello", exitUnreachable, "127.0.0.1:1"},
		{"--api http://127.0.0.1:1 task logs x", exitUnreachable, "127.0.0.1:1"},
		{"--api ::nonsense:: task list", exitUsage, "nonsense"},
	} {
		out, errs, code := n.cli(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.says) || (code != exitDone && errs == "" && !strings.Contains(c.args, "--wait")) {
			t.Errorf("samnode %s exits with %d, want %d and %q:\n%s%s", c.args, code, c.code, c.says, out, errs)
		}
	}
}

// TestEveryCommandHasJSON: with --json the standard output is JSON and nothing
// else, also of a command that has nothing to say.
func TestEveryCommandHasJSON(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", "/nowhere.git")
	must[chat.Project](n, "project", "add", "other", "--repo", "/nowhere.git")
	id := string(must[taskView](n, "task", "run", "--project", "app", "hello").ID)
	for _, args := range []string{
		"version", "project list", "project show app", "project remove other",
		"task list", "task show " + id, "task stop " + id, "task say " + id + " more", "task stop " + id, "task retry " + id, "task export " + id,
		"secret set TOKEN", "secret list", "secret rm TOKEN",
	} {
		var out, errs strings.Builder
		code := execute(t.Context(), append([]string{"--api", n.url, "--json"}, strings.Fields(args)...), strings.NewReader("value"), &out, &errs)
		if code != exitDone || !json.Valid([]byte(out.String())) {
			t.Errorf("samnode %s --json exits with %d and prints %q %q", args, code, out.String(), errs.String())
		}
	}
	out, errs, code := n.cli("task", "logs", id, "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, l := range lines {
		var item struct {
			Task, Kind string
			Seq, Index uint64
			At         string
		}
		if err := json.Unmarshal([]byte(l), &item); err != nil || code != exitDone || item.Task != id || item.Kind == "" || item.Seq == 0 || item.Index == 0 || item.At == "" {
			t.Errorf("task logs --json exits with %d, line %q: %v %s", code, l, err, errs)
		}
	}
}

// doctor runs samnode doctor in an environment of its own.
func doctor(t *testing.T, env []string, args ...string) (out string, code int) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), bin, append([]string{"doctor"}, args...)...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	data, err := c.Output()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(data), c.ProcessState.ExitCode()
}

// checks reads the doctor's JSON by name.
func checks(t *testing.T, out string) map[string]check {
	t.Helper()
	var list []check
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("doctor --json prints %q: %v", out, err)
	}
	m := map[string]check{}
	for _, c := range list {
		if c.Name == "" || c.Detail == "" || c.State != checkOK && c.Todo == "" && c.Name != "clock" {
			t.Errorf("check %+v: a state that is not ok says what to do", c)
		}
		m[c.Name] = c
	}
	return m
}

func TestDoctor(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	n.secret("ANTHROPIC_API_KEY", "sk-ant-of-the-doctor")
	t.Run("all is well", func(t *testing.T) {
		out, code := doctor(t, nil, "--json", "--api", n.url, "--state", n.state)
		got := checks(t, out)
		for _, name := range []string{"docker", "image", "git", "keys", "agent script"} {
			if got[name].State != checkOK {
				t.Errorf("%s = %+v", name, got[name])
			}
		}
		if code != exitDone || strings.Contains(out, "sk-ant") || !strings.Contains(got["keys"].Detail, "ANTHROPIC_API_KEY") {
			t.Errorf("doctor exits with %d: %s", code, out)
		}
		if got["agent claude"].State != checkWarn || !strings.Contains(got["agent claude"].Todo, "samnode agents install claude") {
			t.Errorf("an agent that is not installed = %+v", got["agent claude"])
		}
	})
	t.Run("nothing is there", func(t *testing.T) {
		env := []string{"DOCKER_HOST=unix:///nowhere.sock", "PATH=" + t.TempDir()}
		out, code := doctor(t, env, "--json", "--api", "http://127.0.0.1:1", "--state", filepath.Join(t.TempDir(), "state"))
		got := checks(t, out)
		for name, todo := range map[string]string{"docker": "systemctl start docker", "git": "Install git"} {
			if got[name].State != checkFail || !strings.Contains(got[name].Todo, todo) {
				t.Errorf("%s = %+v, want it failed with %q", name, got[name], todo)
			}
		}
		if k := got["keys"]; code != exitFailed || k.State != checkWarn || !strings.Contains(k.Todo, "samnode dev") {
			t.Errorf("doctor exits with %d, keys = %+v", code, k)
		}
	})
	t.Run("for a person", func(t *testing.T) {
		out, code := doctor(t, []string{"DOCKER_HOST=unix:///nowhere.sock"}, "--api", n.url, "--state", n.state)
		if code != exitFailed || !strings.Contains(out, "✗  docker") || !strings.Contains(out, "→ ") || !strings.Contains(out, "✓  git") {
			t.Errorf("doctor exits with %d:\n%s", code, out)
		}
	})
	t.Run("a wrong DOCKER_HOST", func(t *testing.T) {
		out, code := doctor(t, []string{"DOCKER_HOST=nonsense"}, "--json", "--api", n.url, "--state", n.state)
		if got := checks(t, out)["docker"]; code != exitFailed || got.State != checkFail || !strings.Contains(got.Todo, "DOCKER_HOST") {
			t.Errorf("doctor exits with %d: %+v", code, got)
		}
	})
	t.Run("no command line", func(t *testing.T) {
		if out, code := doctor(t, nil, "--nonsense"); code != exitUsage {
			t.Errorf("doctor --nonsense exits with %d: %s", code, out)
		}
	})
}

package agents

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// fakeNPM is an npm that makes the files a package has, and writes down how it
// was called. What is in $NPM_FAIL is its complaint instead.
const fakeNPM = `#!/bin/sh
echo "$*" >> "$NPM_LOG"
if [ -n "$NPM_FAIL" ]; then echo "npm error code $NPM_FAIL" >&2; echo "npm error network request failed" >&2; exit 1; fi
while [ $# -gt 0 ]; do
  case "$1" in
    --prefix) prefix="$2"; shift;;
    node-linux-*) mkdir -p "$prefix/node_modules/${1%@*}/bin" "$prefix/node_modules/${1%@*}/include"; printf '#!/bin/sh\necho v22.23.3\n' > "$prefix/node_modules/${1%@*}/bin/node";;
    @anthropic-ai/claude-code-linux-*) d="$prefix/node_modules/${1%@*}"; mkdir -p "$d"; echo elf > "$d/claude";;
    @agentclientprotocol/*|@openai/codex@*|@google/*) d="$prefix/node_modules/${1%@*}"; mkdir -p "$d/dist" "$d/bin" "$d/bundle"; echo js > "$d/dist/index.js"; echo js > "$d/bin/codex.js"; echo js > "$d/bundle/gemini.js";;
  esac
  shift
done
[ -z "$NPM_LACKS" ] || rm -r "$prefix/node_modules/@agentclientprotocol"
`

// withNPM puts the fake npm on the PATH and returns what it was called with.
func withNPM(t *testing.T) func() []string {
	t.Helper()
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(fakeNPM), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("NPM_LOG", log)
	return func() []string {
		b, err := os.ReadFile(log)
		if err != nil {
			return nil
		}
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func stateOf(t *testing.T, dir, name string) Status {
	t.Helper()
	all, err := Check(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return all[slices.IndexFunc(all, func(s Status) bool { return s.Agent == name })]
}

func TestInstallOnlyWhatIsAsked(t *testing.T) {
	calls, dir := withNPM(t), filepath.Join(t.TempDir(), "agents")
	var said []string
	if err := Install(t.Context(), dir, []string{"claude", "script"}, func(s string) { said = append(said, s) }); err != nil {
		t.Fatal(err)
	}
	if got := calls(); len(got) != 2 || !strings.Contains(got[1], "--omit=optional") || !strings.Contains(got[1], "--ignore-scripts") ||
		!strings.Contains(got[1], "@agentclientprotocol/claude-agent-acp@0.101.0 @anthropic-ai/claude-code-linux-"+arch()+"@2.1.330") {
		t.Errorf("npm was called with %q", got)
	}
	for name, want := range map[string]string{"script": StateBuiltIn, "claude": StateOK, "codex": StateMissing} {
		if s := stateOf(t, dir, name); s.State != want {
			t.Errorf("%s is %+v, want %s", name, s, want)
		}
	}
	if err := Ready(dir, "claude"); err != nil {
		t.Error(err)
	}
	if err := Ready(dir, "codex"); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "samnode agents install codex") {
		t.Errorf("Ready(codex) = %v", err)
	}
	// It is mounted elsewhere in a workspace, for another user.
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node", "claude", "claude-agent-acp"} {
		info, err := os.Stat(filepath.Join(moved, "bin", name))
		if err != nil || info.Mode()&0o005 != 0o005 {
			t.Errorf("bin/%s: %v, %v", name, info, err)
		}
	}
	if err := Install(t.Context(), moved, []string{"claude"}, nil); err != nil || len(calls()) != 2 {
		t.Errorf("installing again = %v, %d calls of npm", err, len(calls()))
	}
	if len(said) == 0 {
		t.Error("no progress was told")
	}
}

func TestInstallFailsWithAWord(t *testing.T) {
	t.Run("no network", func(t *testing.T) {
		withNPM(t)
		t.Setenv("NPM_FAIL", "ENOTFOUND")
		dir := t.TempDir()
		if err := Install(t.Context(), dir, []string{"codex"}, nil); !errors.Is(err, ErrNetwork) {
			t.Errorf("Install = %v", err)
		}
		left, err := os.ReadDir(filepath.Join(dir, "lib"))
		if err != nil || len(left) != 0 {
			t.Errorf("left %v, %v", left, err)
		}
		t.Setenv("NPM_FAIL", "")
		if err := Install(t.Context(), dir, []string{"codex"}, nil); err != nil {
			t.Errorf("the next try = %v", err)
		}
	})
	t.Run("a registry that refuses", func(t *testing.T) {
		withNPM(t)
		t.Setenv("NPM_FAIL", "E403")
		if err := Install(t.Context(), t.TempDir(), []string{"codex"}, nil); err == nil || errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "E403") {
			t.Errorf("Install = %v", err)
		}
	})
	t.Run("no npm", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if err := Install(t.Context(), t.TempDir(), []string{"claude"}, nil); !errors.Is(err, ErrNoNPM) {
			t.Errorf("Install = %v", err)
		}
	})
	t.Run("a package that lacks its program", func(t *testing.T) {
		withNPM(t)
		dir := t.TempDir()
		if err := Install(t.Context(), dir, []string{"gemini"}, nil); err != nil {
			t.Fatal(err)
		}
		t.Setenv("NPM_LACKS", "1")
		if err := Install(t.Context(), dir, []string{"claude"}, nil); err == nil || !strings.Contains(err.Error(), "lacks index.js") {
			t.Errorf("Install = %v", err)
		}
		if s := stateOf(t, dir, "claude"); s.State != StateMissing {
			t.Errorf("claude is %+v", s)
		}
	})
	t.Run("an agent nobody knows", func(t *testing.T) {
		if err := Install(t.Context(), t.TempDir(), []string{"clyde"}, nil); !errors.Is(err, chat.ErrNotFound) {
			t.Errorf("Install = %v", err)
		}
	})
}

func TestTwoInstallsAtOnce(t *testing.T) {
	calls, dir := withNPM(t), t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Install(context.Background(), dir, []string{"claude", "codex"}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := calls(); len(got) != 3 {
		t.Errorf("npm was called %d times, want 3: %q", len(got), got)
	}
}

func TestAnOlderVersionIsReplacedAndPruned(t *testing.T) {
	withNPM(t)
	dir := t.TempDir()
	if err := Install(t.Context(), dir, []string{"claude"}, nil); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "lib", "claude-0.1.0-"+arch())
	p, err := partsOf([]string{"claude"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "lib", p[1].folder(arch())), old); err != nil {
		t.Fatal(err)
	}
	if err := writeManifest(dir, Manifest{Version: 1, Arch: arch(), Parts: map[string]string{"node": p[0].folder(arch()), "claude": filepath.Base(old)}}); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(t, dir, "claude"); s.State != StateOutdated {
		t.Errorf("claude is %+v, want outdated", s)
	}
	if err := Install(t.Context(), dir, []string{"claude"}, nil); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(t, dir, "claude"); s.State != StateOK {
		t.Errorf("claude is %+v", s)
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("the old one is gone under a workspace that may run it: %v", err)
	}
	if err := Prune(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one is left: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "bin", "claude")); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(t, dir, "claude"); s.State != StateBroken {
		t.Errorf("claude is %+v, want broken", s)
	}
}

func TestStartInheritsNothing(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "sk-real")
	for _, a := range All() {
		t.Run(a.Name, func(t *testing.T) {
			s := a.Start(Place{Cwd: "/work", Model: "m1", Mode: chat.ModeEverything})
			all := strings.Join(append(s.Env, s.Argv...), "\n")
			for _, f := range s.Files {
				all += string(f.Data)
			}
			if strings.Contains(all, "sk-real") || strings.Contains(all, "{") && strings.Contains(all, "{root}") {
				t.Errorf("start holds what it should not:\n%s", all)
			}
			if len(s.Argv) == 0 || !slices.Contains(s.Env, "HOME=/home/agent") {
				t.Errorf("start = %+v", s)
			}
			if !a.BuiltIn() && !strings.HasPrefix(s.Argv[0], Root+"/bin/") {
				t.Errorf("%s is outside of %s", s.Argv[0], Root)
			}
			if a.Provider != "" && !strings.Contains(all, Broker+"/"+a.Provider) {
				t.Errorf("%s does not talk to the broker:\n%s", a.Name, all)
			}
			if a.Provider != "" && len(a.Secrets) == 0 {
				t.Errorf("nobody knows which key %s needs", a.Name)
			}
		})
	}
}

func TestCodexConfig(t *testing.T) {
	want := `model = "m \"1\""
model_provider = "samnode"
check_for_update_on_startup = false
developer_instructions = "` + codexHint + `"

[features]
plugins = false
apps = false

[analytics]
enabled = false

[model_providers.samnode]
name = "samnode"
base_url = "http://127.0.0.1:7101/openai/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"

[projects."/work"]
trust_level = "trusted"
`
	got := string(codexConfig(Place{Model: `m "1"`, Cwd: "/work", Broker: Broker}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config.toml (-want +got):\n%s", diff)
	}
}

package broker

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/modeltest"
)

// TestRealAgents runs the installed agents through a broker against the
// scripted model API. It needs SAMNODE_AGENTS, the agents' folder.
func TestRealAgents(t *testing.T) {
	root := os.Getenv("SAMNODE_AGENTS")
	if root == "" {
		t.Skip("SAMNODE_AGENTS is not set")
	}
	for _, tc := range []struct{ name, file string }{{"claude", "claude.txt"}, {"codex", "codex.txt"}} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(root, "bin", tc.name)); err != nil {
				t.Skip(err)
			}
			models := modeltest.New(t, modeltest.Options{Key: realKey})
			s := open(t, func(c *Config, _ *space) {
				c.Upstream = map[string]string{"anthropic": models.URL, "openai": models.URL, "gemini": models.URL}
			})
			addr, work := s.forward(t, ModelSocket), t.TempDir()
			out := runAgent(t, root, tc.name, addr, work, "SCENARIO=edit FILE="+tc.file+" TEXT=made-by-"+tc.name)
			got, err := os.ReadFile(filepath.Join(work, tc.file))
			if err != nil || strings.TrimSpace(string(got)) != "made-by-"+tc.name {
				t.Errorf("file = %q, %v\nagent said: %s\nlog: %s", got, err, out, s.log)
			}
			calls, spent, refused := s.told()
			if len(calls) < 2 || len(spent) != len(calls) || len(refused) != 0 {
				t.Errorf("calls = %+v, spent = %+v, refused = %+v", calls, spent, refused)
			}
			for _, c := range calls {
				t.Logf("call %+v", c)
			}
			for _, r := range models.Requests() {
				t.Logf("%s %s %s %d bytes, kind %s step %d status %d", r.Method, r.Path, r.Model, len(r.Body), r.Kind, r.Step, r.Status)
			}
			s.set(func() { s.limited, s.left = true, 0 })
			t.Logf("without budget: %s", runAgent(t, root, tc.name, addr, t.TempDir(), "SCENARIO=hello"))
		})
	}
}

// runAgent runs an agent's own command line once and returns what it printed.
func runAgent(t *testing.T, root, name, addr, work, prompt string) string {
	t.Helper()
	home := t.TempDir()
	env := []string{
		"HOME=" + home, "PATH=" + filepath.Join(root, "bin") + ":/usr/local/bin:/usr/bin:/bin", "CODEX_HOME=" + filepath.Join(home, ".codex"),
		"ANTHROPIC_BASE_URL=http://" + addr + "/anthropic", "ANTHROPIC_API_KEY=dummy", "OPENAI_API_KEY=dummy", "IS_SANDBOX=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1",
	}
	argv := []string{"-p", "--permission-mode", "acceptEdits", prompt}
	if name == "codex" {
		conf := "model_provider = \"samnode\"\n[model_providers.samnode]\nname = \"samnode\"\nbase_url = \"http://" + addr + "/openai/v1\"\nwire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n"
		if err := os.MkdirAll(filepath.Join(home, ".codex"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, ".codex", "config.toml"), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		argv = []string{"exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", prompt}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", name), argv...)
	cmd.Dir, cmd.Env = work, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Logf("%s: %v", name, err)
	}
	return out.String()
}

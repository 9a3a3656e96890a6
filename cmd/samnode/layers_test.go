package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/samnode/samnode/"

// allowed is the import graph between our packages. A new edge is a decision:
// make it here, or not at all.
var allowed = map[string][]string{
	"chat":                    {},
	"chat/chattest":           {"chat"},
	"chat/remote":             {"chat"},
	"chat/seal":               {},
	"chat/store":              {"chat"},
	"consensus":               {},
	"consensus/backup":        {},
	"consensus/backup/s3test": {},
	"consensus/chaos":         {"consensus", "provision"},
	"mesh":                    {"chat"},
	"mesh/follow":             {"mesh", "mesh/loopback"},
	"mesh/keys":               {},
	"mesh/loopback":           {"chat", "mesh"},
	"mesh/meshtest":           {"mesh", "mesh/tailnet"},
	"mesh/meshtest/control":   {"mesh/follow", "mesh/meshtest"},
	"mesh/tailnet":            {"chat", "mesh"},
	"provision":               {},
	"provision/cloudinit":     {},
	"provision/keeper":        {"provision"},
	"provision/simulate":      {"provision"},
	"ui":                      {"chat", "ui/api"},
	"ui/api":                  {"chat"},
	"ui/metrics":              {},
	"ui/preview":              {},
	"workspace":               {"chat", "workspace/acp", "workspace/agents", "workspace/broker", "workspace/devcontainer", "workspace/docker", "workspace/git", "workspace/shim"},
	"workspace/acp":           {"chat"},
	"workspace/agents":        {"chat"},
	"workspace/broker":        {"chat"},
	"workspace/devcontainer":  {"workspace/docker"},
	"workspace/docker":        {},
	"workspace/files":         {"workspace/shim"},
	"workspace/forge":         {"chat", "workspace/git"},
	"workspace/git":           {},
	"workspace/modeltest":     {},
	"workspace/remote":        {"chat", "workspace", "workspace/shim"},
	"workspace/scriptagent":   {},
	"workspace/shim":          {},
	"workspace/sshd":          {"workspace/shim"},

	"provision/hetzner":                  {"provision"},
	"provision/hetzner/hetznertest":      {"provision"},
	"provision/hetzner/hetznertest/fake": {"provision/hetzner/hetznertest"},

	"workspace/forge/githubtest": {"workspace/git/gittest"},
	"workspace/git/gittest":      {},

	"cmd/samnode": {
		"chat", "chat/remote", "chat/seal", "chat/store", "consensus", "consensus/backup",
		"mesh", "mesh/follow", "mesh/keys", "mesh/loopback", "mesh/tailnet",
		"provision", "provision/cloudinit", "provision/hetzner", "provision/keeper", "provision/simulate", "ui", "ui/api", "ui/metrics", "ui/preview",
		"workspace", "workspace/agents", "workspace/devcontainer", "workspace/docker", "workspace/files", "workspace/forge", "workspace/git", "workspace/remote", "workspace/scriptagent", "workspace/shim", "workspace/sshd",
	},
}

// owner is the one package that may import a heavyweight.
var owner = map[string][]string{
	"github.com/hashicorp/raft":               {"consensus"},
	"github.com/docker/docker":                {"workspace/docker"},
	"github.com/hetznercloud/hcloud-go":       {"provision/hetzner"},
	"github.com/google/go-github":             {"workspace/forge"},
	"github.com/bradleyfalzon/ghinstallation": {"workspace/forge"},
	"github.com/a-h/templ":                    {"ui"},
	"github.com/creack/pty":                   {"workspace/shim"},
	"github.com/coder/websocket":              {"ui", "workspace/remote"},
	"tailscale.com":                           {"mesh/tailnet", "mesh/meshtest"},
	"github.com/prometheus/client_golang":     {"ui/metrics"},
	"filippo.io/age":                          {"consensus/backup"},
	"github.com/minio/minio-go":               {"consensus/backup"},
	"github.com/coder/acp-go-sdk":             {"workspace/acp"},
	"github.com/pkg/sftp":                     {"workspace/sshd"},
	"golang.org/x/crypto/ssh":                 {"workspace/sshd"},
	"modernc.org/sqlite":                      {"chat/store"},
	"github.com/spf13/cobra":                  {"cmd/samnode"},
}

// pure packages import the standard library only.
var pure = []string{"chat", "chat/seal", "provision"}

func TestLayers(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		want, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the picture: add it to allowed", name)
			continue
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, module); ok {
				if !slices.Contains(want, ours) {
					t.Errorf("%s imports %s", name, ours)
				}
				continue
			}
			if slices.Contains(pure, name) && strings.Contains(strings.Split(imp, "/")[0], ".") {
				t.Errorf("%s imports %s, but is to import the standard library only", name, imp)
			}
			for heavy, owners := range owner {
				if strings.HasPrefix(imp, heavy) && !slices.Contains(owners, name) {
					t.Errorf("%s imports %s, which belongs to %v", name, imp, owners)
				}
			}
		}
	}
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

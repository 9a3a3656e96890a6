package agents

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrNotInstalled means that the agent is not in the folder in the version
// that this samnode wants.
var ErrNotInstalled = errors.New("not installed")

// The states of an agent on this machine.
const (
	StateOK       = "ok"
	StateBuiltIn  = "built_in"
	StateMissing  = "missing"  // never installed here
	StateOutdated = "outdated" // another version is
	StateBroken   = "broken"   // files are missing or do not run
)

// Status is how an agent stands on this machine.
type Status struct {
	Agent   string `json:"agent"`
	State   string `json:"state"`
	Version string `json:"version,omitempty"` // folder of what this samnode wants
	Detail  string `json:"detail,omitempty"`  // what is wrong and what to do
}

// Ready checks that the agent can be started from dir: a few file look-ups.
// The error wraps ErrNotInstalled and says what to do.
func Ready(dir, name string) error {
	s, err := status(dir, name)
	if err != nil {
		return err
	}
	if s.State == StateOK || s.State == StateBuiltIn {
		return nil
	}
	return fmt.Errorf("%s is %w on this machine (%s). Run: samnode agents install %s", name, ErrNotInstalled, s.State, name)
}

// Check says how every agent stands, and that Node runs.
func Check(ctx context.Context, dir string) ([]Status, error) {
	var all []Status
	for _, name := range Names() {
		s, err := status(dir, name)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if !slices.ContainsFunc(all, func(s Status) bool { return s.State == StateOK }) {
		return all, nil
	}
	if err := nodeRuns(ctx, dir); err != nil {
		for i := range all {
			if all[i].State == StateOK {
				all[i].State, all[i].Detail = StateBroken, err.Error()
			}
		}
	}
	return all, nil
}

func nodeRuns(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "bin", "node"), "--version").CombinedOutput()
	got := strings.TrimSpace(string(out))
	if err != nil {
		return fmt.Errorf("node does not run: %w: %s", err, got)
	}
	if got != "v"+nodeVersion {
		return fmt.Errorf("node is %s, wanted v%s", got, nodeVersion)
	}
	return nil
}

func status(dir, name string) (Status, error) {
	parts, err := partsOf([]string{name})
	if err != nil {
		return Status{}, err
	}
	s := Status{Agent: name, State: StateBuiltIn}
	if len(parts) == 0 {
		return s, nil
	}
	m, err := readManifest(dir)
	if err != nil {
		return Status{}, err
	}
	s.State, s.Version = StateOK, parts[len(parts)-1].folder(arch())
	for _, p := range parts {
		have := m.Parts[p.name]
		switch {
		case have == "":
			s.State = StateMissing
		case have != p.folder(arch()):
			s.State, s.Detail = StateOutdated, have+" is installed"
		default:
			if err := intact(dir, p); err != nil {
				s.State, s.Detail = StateBroken, err.Error()
			}
		}
		if s.State != StateOK {
			return s, nil
		}
	}
	return s, nil
}

// intact follows the part's links.
func intact(dir string, p part) error {
	for _, name := range slices.Sorted(maps.Keys(p.links)) {
		info, err := os.Stat(filepath.Join(dir, "bin", name))
		if err != nil {
			return fmt.Errorf("%s is missing: %w", name, err)
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s cannot be run by a workspace", name)
		}
	}
	return nil
}

// Prune removes parts of versions that this samnode does not start. Call it
// when no workspace runs an older one.
func Prune(ctx context.Context, dir string) error {
	unlock, err := lock(ctx, filepath.Join(dir, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	m, err := readManifest(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "lib"))
	if err != nil {
		return fmt.Errorf("reading the folder of agents: %w", err)
	}
	used := slices.Collect(maps.Values(m.Parts))
	for _, e := range entries {
		if !slices.Contains(used, e.Name()) {
			if err := os.RemoveAll(filepath.Join(dir, "lib", e.Name())); err != nil {
				return fmt.Errorf("removing %s: %w", e.Name(), err)
			}
		}
	}
	return nil
}

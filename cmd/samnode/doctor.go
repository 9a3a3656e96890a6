package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/ui/api"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/docker"
)

// check is one line of the doctor.
type check struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, warn, fail
	Detail string `json:"detail"`
	Todo   string `json:"todo,omitempty"`
}

const (
	checkOK   = "ok"
	checkWarn = "warn" // samnode works, but not everything does
	checkFail = "fail" // no task can run
)

func (c *cli) doctor() *cobra.Command {
	var state, agentDir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check Docker, disk, image, agents, keys and clock, and say what to do",
		Args:  args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&state, "state", "", "directory of the node's state")
	cmd.Flags().StringVar(&agentDir, "agents", "", "folder of the installed agents")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		defer cancel()
		if state == "" {
			dir, err := dataDir()
			if err != nil {
				return err
			}
			state = dir
		}
		dir, err := agentsDir(agentDir)
		if err != nil {
			return err
		}
		var all []check
		all = append(all, checkDocker(ctx)...)
		all = append(all, checkGit(ctx), checkDisk(state), checkClock())
		all = append(all, checkAgents(ctx, dir)...)
		all = append(all, c.checkKeys(ctx))
		all = append(all, c.checkMesh(ctx)...)
		all = append(all, c.checkBuying(ctx)...)
		return c.diagnose(all)
	}
	return cmd
}

func (c *cli) diagnose(all []check) error {
	failed := false
	err := c.print(all, func(w io.Writer) {
		for _, k := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\n", map[string]string{checkOK: "✓", checkWarn: "!", checkFail: "✗"}[k.State], k.Name, k.Detail)
			if k.Todo != "" {
				fmt.Fprintf(w, "\t\t→ %s\n", k.Todo)
			}
		}
	})
	for _, k := range all {
		failed = failed || k.State == checkFail
	}
	if err == nil && failed {
		return &exitError{code: exitFailed}
	}
	return err
}

// agentsDir is the folder of the agents: as given, SAMNODE_AGENTS, or the one
// in a person's own node.
func agentsDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("SAMNODE_AGENTS")
	}
	if dir != "" {
		return filepath.Abs(dir)
	}
	state, err := dataDir()
	return filepath.Join(state, "agents"), err
}

func checkDocker(ctx context.Context) []check {
	engine, err := docker.Open(ctx, docker.Config{})
	if err != nil {
		return []check{{"docker", checkFail, err.Error(), "Set DOCKER_HOST to the engine's socket, or unset it."}}
	}
	defer engine.Close()
	info, err := engine.Ping(ctx)
	if err != nil {
		return []check{{"docker", checkFail, err.Error(), "Install Docker (apt-get install docker.io) and start it (systemctl start docker)."}}
	}
	out := []check{{"docker", checkOK, fmt.Sprintf("engine %s, API %s, %s", info.Version, info.API, info.Driver), ""}}
	if info.Free >= 0 {
		out = append(out, space("docker disk", info.Root, info.Free))
	}
	has, image, err := engine.HasImage(ctx, defaultImage)
	switch {
	case err != nil:
		out = append(out, check{"image", checkFail, err.Error(), ""})
	case !has:
		out = append(out, check{"image", checkFail, defaultImage + " is not on this machine", "Run scripts/image."})
	default:
		out = append(out, check{"image", checkOK, fmt.Sprintf("%s, %d MB", defaultImage, image.Size>>20), ""})
	}
	return out
}

func checkGit(ctx context.Context) check {
	out, err := exec.CommandContext(ctx, "git", "--version").Output()
	if err != nil {
		return check{"git", checkFail, "git does not run: " + err.Error(), "Install git 2.38 or newer."}
	}
	return check{"git", checkOK, strings.TrimSpace(string(out)), ""}
}

// Less free space than this stops or worries a node: a clone, an image and a
// few workspaces need some gigabytes.
const (
	leastSpace = 1 << 30
	goodSpace  = 10 << 30
)

func space(name, dir string, free int64) check {
	detail := fmt.Sprintf("%.1f GB free at %s", float64(free)/1e9, dir)
	switch {
	case free < leastSpace:
		return check{name, checkFail, detail, "Free some space: docker system df, and remove old tasks."}
	case free < goodSpace:
		return check{name, checkWarn, detail, "Less than 10 GB is soon used up by clones and images."}
	default:
		return check{name, checkOK, detail, ""}
	}
}

// checkDisk looks at the disk of the state directory, or of where it will be.
func checkDisk(dir string) check {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return space("state disk", dir, int64(st.Bavail)*st.Bsize)
		}
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return check{"state disk", checkFail, fmt.Sprintf("%s: %v", dir, err), "Choose a directory that this user can write with --state."}
		}
		dir = filepath.Dir(dir)
	}
}

// checkClock asks the kernel whether something keeps its clock right.
func checkClock() check {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	now := time.Now().UTC().Format(time.RFC3339)
	switch {
	case err != nil:
		return check{"clock", checkWarn, "the kernel does not tell: " + err.Error(), ""}
	case state == unix.TIME_ERROR:
		return check{"clock", checkWarn, now + ", not synchronised", "Run a time service (systemd-timesyncd or chrony): tokens and certificates are refused by a wrong clock."}
	default:
		return check{"clock", checkOK, now + ", synchronised", ""}
	}
}

func checkAgents(ctx context.Context, dir string) []check {
	all, err := agents.Check(ctx, dir)
	if err != nil {
		return []check{{"agents", checkWarn, err.Error(), "Run: samnode agents install claude"}}
	}
	var out []check
	for _, s := range all {
		k := check{"agent " + s.Agent, checkOK, strings.TrimSpace(s.State + " " + s.Version), ""}
		if s.State != agents.StateOK && s.State != agents.StateBuiltIn {
			k.State, k.Detail = checkWarn, strings.TrimSpace(s.State+" "+s.Detail)
			k.Todo = "Run: samnode agents install " + s.Agent
		}
		out = append(out, k)
	}
	return out
}

// checkKeys asks the running node which secrets it has.
func (c *cli) checkKeys(ctx context.Context) check {
	var out struct {
		Secrets []struct {
			Name string `json:"name"`
		} `json:"secrets"`
	}
	err := c.client().call(ctx, "GET", "secrets", nil, &out)
	switch {
	case errors.Is(err, errUnreachable):
		return check{"keys", checkWarn, "no node runs at " + c.api + ", so its keys are not known", "Start it with: samnode dev"}
	case err != nil:
		return check{"keys", checkWarn, err.Error(), ""}
	case len(out.Secrets) == 0:
		return check{"keys", checkWarn, "none is set: only the script agent can work", "Set one: samnode secret set ANTHROPIC_API_KEY < key.txt"}
	}
	var names []string
	for _, s := range out.Secrets {
		names = append(names, s.Name)
	}
	return check{"keys", checkOK, strings.Join(names, ", "), ""}
}

// checkMesh asks the running node how its mesh is: majority, backup, versions,
// and what the network warns of.
func (c *cli) checkMesh(ctx context.Context) []check {
	var m api.MeshInfo
	err := c.client().call(ctx, "GET", "mesh", nil, &m)
	switch {
	case errors.Is(err, errUnreachable):
		return nil // checkKeys has said so
	case err != nil:
		return []check{{"mesh", checkWarn, err.Error(), ""}}
	case !m.Quorum:
		return []check{{"mesh", checkFail, "no majority of its voters: it is read-only", "Start the other core nodes. If most of them are lost for ever: samnode recover, on a survivor."}}
	}
	out := []check{{"mesh", checkOK, fmt.Sprintf("%d nodes, %d voters, %s leads", len(m.Versions), m.Voters, m.Leader), ""}}
	for _, w := range m.Warnings {
		if !strings.HasPrefix(w, "there is no backup") {
			out = append(out, check{"mesh", checkWarn, w, ""})
		}
	}
	return append(out, checkBackups(m.Backup))
}

func checkBackups(b *api.Backup) check {
	const todo = "samnode backup keygen > KEY; samnode backup set --to PLACE --key-file KEY; samnode backup now"
	switch {
	case b == nil || b.Destination == "":
		return check{"backup", checkWarn, "there is none: a lost disk is a lost mesh", todo}
	case b.Failed != nil:
		return check{"backup", checkWarn, "the last one failed: " + b.Failed.Text, "Mend it, then: samnode backup now"}
	case b.Last == nil:
		return check{"backup", checkWarn, "none has been made yet", "samnode backup now"}
	case time.Since(b.Last.At) > 8*24*time.Hour:
		return check{"backup", checkWarn, "the last one is of " + b.Last.At.Format(time.DateOnly), "samnode backup now; see its schedule: samnode backup show"}
	default:
		return check{"backup", checkOK, b.Last.At.Format(time.RFC3339) + " at " + b.Last.Where, ""}
	}
}

// checkBuying asks the running node whether machines can be bought.
func (c *cli) checkBuying(ctx context.Context) []check {
	var out struct {
		Checks []api.PoolCheck `json:"checks"`
	}
	switch err := c.client().call(ctx, "GET", "pool/check", nil, &out); {
	case errors.Is(err, errUnreachable):
		return nil // checkKeys has said so
	case err != nil:
		return []check{{"buying", checkWarn, err.Error(), "Run the doctor on a core node, as an owner of the mesh."}}
	}
	var list []check
	for _, k := range out.Checks {
		line := check{k.Name, checkOK, k.Detail, ""}
		if !k.OK {
			line.State, line.Todo = checkWarn, k.Todo
		}
		list = append(list, line)
	}
	return list
}

package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/samnode/samnode/chat"
)

func (c *cli) project() *cobra.Command {
	return group("project", "Projects: repositories with their defaults",
		c.projectAdd(), c.projectList(), c.projectShow(), c.projectRemove())
}

func (c *cli) projectAdd() *cobra.Command {
	in := map[string]*string{"repo": nil, "branch": nil, "agent": nil, "mode": nil, "publish": nil, "egress": nil}
	for k := range in {
		in[k] = new(string)
	}
	var allow []string
	cmd := &cobra.Command{Use: "add NAME --repo URL", Short: "Make a project from a git URL or a local path", Args: args(cobra.ExactArgs(1))}
	f := cmd.Flags()
	f.StringVar(in["repo"], "repo", "", "git URL (https, ssh) or path of the repository")
	f.StringVar(in["branch"], "branch", "", "base branch (default: the remote's own)")
	f.StringVar(in["agent"], "agent", "", "default agent: script, claude, codex, gemini")
	f.StringVar(in["mode"], "mode", "", "what agents may do unasked: plan, ask, acceptEdits, everything")
	f.StringVar(in["publish"], "publish", "", "at the end of a turn: branch, draft, ready")
	f.StringVar(in["egress"], "egress", "", "web access of workspaces: none, packages, listed, open")
	f.StringSliceVar(&allow, "allow", nil, "hosts for --egress listed")
	machine := machineFlags(f)
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		body := map[string]any{"name": a[0]}
		for k, v := range in {
			if *v != "" {
				body[k] = *v
			}
		}
		if *in["repo"] == "" {
			return &exitError{exitUsage, "--repo is needed: a git URL or a path"}
		}
		if isPath(*in["repo"]) {
			abs, err := filepath.Abs(*in["repo"])
			if err != nil {
				return fmt.Errorf("resolving the repository's path: %w", err)
			}
			body["repo"] = abs
		}
		if allow != nil {
			body["allow"] = allow
		}
		if needs := machine(); !reflect.ValueOf(needs).IsZero() {
			body["machine"] = needs
		}
		var p chat.Project
		if err := c.client().call(cmd.Context(), http.MethodPost, "projects", body, &p); err != nil {
			return err
		}
		return c.print(p, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", p.Name, p.Repo) })
	}
	return cmd
}

// machineFlags are those that say what machine a project's tasks need.
func machineFlags(f *pflag.FlagSet) func() chat.Needs {
	var n chat.Needs
	f.IntVar(&n.CPUs, "cpus", 0, "processors of the machine that a task gets, at least")
	memory := f.Int64("memory", 0, "its memory, at least, in GB")
	disk := f.Int64("disk", 0, "its disk, at least, in GB")
	f.StringSliceVar(&n.Labels, "label", nil, "what it must have (samnode node label, and the sizes of the pool)")
	f.StringVar(&n.Location, "location", "", "where it must be, by the provider's name")
	return func() chat.Needs {
		n.Memory, n.Disk = *memory<<30, *disk<<30
		return n
	}
}

// isPath tells a path from a URL the way git does: no scheme, no host before a
// colon.
func isPath(repo string) bool {
	colon := strings.Index(repo, ":")
	slash := strings.Index(repo, "/")
	return colon < 0 || slash >= 0 && slash < colon
}

func (c *cli) projectList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the projects", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var out struct {
			Projects []chat.Project `json:"projects"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, "projects", nil, &out); err != nil {
			return err
		}
		return c.print(out.Projects, func(w io.Writer) {
			for _, p := range out.Projects {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Name, p.Agent, p.Mode, p.Repo)
			}
		})
	}}
}

func (c *cli) projectShow() *cobra.Command {
	return &cobra.Command{Use: "show PROJECT", Short: "Show one project", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		var p chat.Project
		if err := c.client().call(cmd.Context(), http.MethodGet, path("projects", a[0]), nil, &p); err != nil {
			return err
		}
		return c.print(p, func(w io.Writer) {
			fmt.Fprintf(w, "name\t%s\nid\t%s\nrepository\t%s\nbase branch\t%s\nagent\t%s\nmode\t%s\npublish\t%s\negress\t%s %s\n",
				p.Name, p.ID, p.Repo, orDefault(p.Branch, "the remote's own"), p.Agent, p.Mode, p.Publish, p.Egress, strings.Join(p.Allow, " "))
			tellNeeds(w, p.Machine)
		})
	}}
}

func tellNeeds(w io.Writer, n chat.Needs) {
	if text := n.String(); text != "" {
		fmt.Fprintf(w, "machine\t%s\n", text)
	}
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func (c *cli) projectRemove() *cobra.Command {
	return &cobra.Command{Use: "remove PROJECT", Short: "Hide a project; its tasks stay readable", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		if err := c.client().call(cmd.Context(), http.MethodDelete, path("projects", a[0]), nil, nil); err != nil {
			return err
		}
		return c.done("removed", a[0])
	}}
}

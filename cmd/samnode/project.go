package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/samnode/samnode/chat"
)

func (c *cli) project() *cobra.Command {
	return group("project", "Projects: repositories with their defaults",
		c.projectAdd(), c.projectSet(), c.projectList(), c.projectShow(), c.projectRemove())
}

func (c *cli) projectAdd() *cobra.Command {
	cmd := &cobra.Command{Use: "add NAME --repo URL", Short: "Make a project from a git URL or a local path", Args: args(cobra.ExactArgs(1))}
	fields := projectFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		body, err := fields()
		if err != nil {
			return err
		}
		if body["repo"] == nil {
			return &exitError{exitUsage, "--repo is needed: a git URL or a path"}
		}
		body["name"] = a[0]
		return c.putProject(cmd.Context(), http.MethodPost, "projects", body)
	}
	return cmd
}

func (c *cli) projectSet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set PROJECT", Short: "Change a project; what is not named stays as it is", Args: args(cobra.ExactArgs(1)),
		Long: "Change a project; what is not named stays as it is. Of the machine that its tasks need (--cpus, --memory, --disk, --label,\n" +
			"--location) all is set at once: what is not named is not asked for any more.",
	}
	fields := projectFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		body, err := fields()
		if err != nil {
			return err
		}
		if len(body) == 0 {
			return &exitError{exitUsage, "name what is to change, such as --egress listed --allow example.com"}
		}
		return c.putProject(cmd.Context(), http.MethodPatch, path("projects", a[0]), body)
	}
	return cmd
}

func (c *cli) putProject(ctx context.Context, method, path string, body map[string]any) error {
	var p chat.Project
	if err := c.client().call(ctx, method, path, body, &p); err != nil {
		return err
	}
	return c.print(p, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", p.Name, p.Repo) })
}

// projectFlags are what a person may set of a project; fields has those that
// were named, as the API takes them.
func projectFlags(f *pflag.FlagSet) (fields func() (map[string]any, error)) {
	texts := map[string]*string{}
	for _, t := range [][2]string{
		{"repo", "git URL (https, ssh) or path of the repository"},
		{"branch", "base branch (default: the remote's own)"},
		{"agent", "default agent: script, claude, codex, gemini"},
		{"mode", "what agents may do unasked: plan, ask, acceptEdits, everything"},
		{"publish", "at the end of a turn: branch, draft, ready"},
		{"egress", "web access of workspaces: none, packages, listed, open"},
	} {
		texts[t[0]] = f.String(t[0], "", t[1])
	}
	allow := f.StringSlice("allow", nil, "hosts for --egress listed")
	agent := f.Bool("ssh-agent", false, "let people take their ssh agent into workspaces (ssh -A), where the coding agent can use it too")
	record := f.Bool("record", false, "record what shells that begin from now on show, on the machine that has the workspace")
	machine := machineFlags(f)
	return func() (map[string]any, error) {
		body := map[string]any{}
		for k, v := range texts {
			if f.Changed(k) {
				body[k] = *v
			}
		}
		if isPath(*texts["repo"]) && *texts["repo"] != "" {
			abs, err := filepath.Abs(*texts["repo"])
			if err != nil {
				return nil, fmt.Errorf("resolving the repository's path: %w", err)
			}
			body["repo"] = abs
		}
		if f.Changed("allow") {
			body["allow"] = *allow
		}
		if f.Changed("ssh-agent") {
			body["ssh_agent"] = *agent
		}
		if f.Changed("record") {
			body["record"] = *record
		}
		if needs, named := machine(); named {
			body["machine"] = needs
		}
		return body, nil
	}
}

// machineFlags are those that say what machine a project's tasks need.
func machineFlags(f *pflag.FlagSet) func() (n chat.Needs, named bool) {
	var n chat.Needs
	f.IntVar(&n.CPUs, "cpus", 0, "processors of the machine that a task gets, at least")
	memory := f.Int64("memory", 0, "its memory, at least, in GB")
	disk := f.Int64("disk", 0, "its disk, at least, in GB")
	f.StringSliceVar(&n.Labels, "label", nil, "what it must have (samnode node label, and the sizes of the pool)")
	f.StringVar(&n.Location, "location", "", "where it must be, by the provider's name")
	return func() (chat.Needs, bool) {
		n.Memory, n.Disk = *memory<<30, *disk<<30
		return n, slices.ContainsFunc([]string{"cpus", "memory", "disk", "label", "location"}, f.Changed)
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
			if p.SSHAgent {
				fmt.Fprintln(w, "ssh agents\tmay come in")
			}
			if p.Record {
				fmt.Fprintln(w, "shells\tare recorded")
			}
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

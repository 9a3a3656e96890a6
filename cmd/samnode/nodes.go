package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/ui/api"
)

func (c *cli) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "How the mesh is, as this node sees it", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var m api.MeshInfo
			if err := c.client().call(cmd.Context(), http.MethodGet, "mesh", nil, &m); err != nil {
				return err
			}
			var list nodeList
			if err := c.client().call(cmd.Context(), http.MethodGet, "nodes", nil, &list); err != nil {
				return err
			}
			err := c.print(map[string]any{"mesh": m, "nodes": list.Nodes}, func(w io.Writer) {
				printMesh(w, m)
				printNodes(w, list.Nodes)
			})
			if err == nil && !m.Quorum {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
}

type nodeList struct {
	Nodes []api.Node `json:"nodes"`
}

func printMesh(w io.Writer, m api.MeshInfo) {
	fmt.Fprintf(w, "mesh\t%s\n", m.ID)
	fmt.Fprintf(w, "this node\t%s, %s\n", m.Node, m.Version)
	switch {
	case !m.Quorum:
		fmt.Fprintf(w, "majority\tnone: the mesh is read-only until most of its voters are back\n")
	default:
		fmt.Fprintf(w, "leader\t%s, %d voters\n", m.Leader, m.Voters)
	}
	for _, warning := range m.Warnings {
		fmt.Fprintf(w, "warning\t%s\n", warning)
	}
	fmt.Fprintln(w)
}

func printNodes(w io.Writer, nodes []api.Node) {
	fmt.Fprintln(w, "NODE\tKIND\tSTATE\tSLOTS\tVERSION\tPAGES")
	for _, n := range nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%s\t%s\n", n.Name, kindOf(n), stateOf(n), n.Used, n.Slots, n.Version, n.URL)
	}
}

func kindOf(n api.Node) string {
	switch {
	case n.Leader:
		return "core, leader"
	case n.Voter:
		return "core, voter"
	case n.Core:
		return "core, spare"
	default:
		return "worker"
	}
}

func stateOf(n api.Node) string {
	switch {
	case !n.Online:
		return "silent"
	case n.Draining:
		return "draining"
	default:
		return "ready"
	}
}

func (c *cli) node() *cobra.Command {
	return group("node", "The mesh's nodes",
		c.nodeList(), c.nodeDrain("drain", "Give a node no new tasks", true), c.nodeDrain("undrain", "Give a node tasks again", false), c.nodeLabel(),
		c.nodeRemove(), c.nodeInvite(), c.nodeInvitations(), c.nodeWithdraw())
}

func (c *cli) nodeList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the nodes", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var list nodeList
		if err := c.client().call(cmd.Context(), http.MethodGet, "nodes", nil, &list); err != nil {
			return err
		}
		return c.print(list.Nodes, func(w io.Writer) { printNodes(w, list.Nodes) })
	}}
}

func (c *cli) nodeLabel() *cobra.Command {
	return &cobra.Command{
		Use: "label NODE [LABEL ...]", Short: "Say what a node has that projects may ask for, such as gpu",
		Long: "Say what a node has that projects may ask for (project add --label gpu). The labels given replace those it had;\nwith none it has none.",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var out api.Node
			err := c.client().call(cmd.Context(), http.MethodPut, path("nodes", a[0], "labels"), map[string][]string{"labels": a[1:]}, &out)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s\t%s\n", out.Name, orDefault(strings.Join(out.Labels, " "), "no labels"))
			})
		},
	}
}

func (c *cli) nodeDrain(use, short string, on bool) *cobra.Command {
	return &cobra.Command{Use: use + " NODE", Short: short, Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		body := map[string]bool{"on": on}
		if err := c.client().call(cmd.Context(), http.MethodPost, path("nodes", a[0], "drain"), body, nil); err != nil {
			return err
		}
		return c.done(use+"ed", a[0])
	}}
}

func (c *cli) nodeRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the mesh for ever",
		Long: "Take a node out of the mesh: its leases end, its tasks start again elsewhere from their last pushed commit,\n" +
			"and it is no member any more. Its state directory is of no use afterwards. Its device goes from the tailnet where\n" +
			"the mesh has credentials of the control server's API; where not, that is said.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var out api.Removed
			if err := c.client().call(cmd.Context(), http.MethodDelete, path("nodes", a[0]), nil, &out); err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				if out.Trace != "" {
					fmt.Fprintln(w, out.Trace)
				}
			})
		},
	}
}

func (c *cli) nodeInvite() *cobra.Command {
	var core bool
	var valid time.Duration
	cmd := &cobra.Command{
		Use: "invite", Short: "Print a command that adds one machine to the mesh",
		Long: "Print an invitation. It works once. A worker runs tasks; a core node (--core) also holds the chat, the\n" +
			"secrets and a vote: make those of machines that stay on.",
		Args: args(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&core, "core", false, "for a core node")
	cmd.Flags().DurationVar(&valid, "valid", time.Hour, "how long it can be used")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var out api.Invitation
		body := map[string]any{"core": core, "valid": valid.String()}
		if err := c.client().call(cmd.Context(), http.MethodPost, "invitations", body, &out); err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) {
			fmt.Fprintf(w, "On the new machine, until %s:\n\n    %s\n", out.Expires.Local().Format(time.Kitchen), out.Command)
		})
	}
	return cmd
}

func (c *cli) nodeInvitations() *cobra.Command {
	return &cobra.Command{Use: "invitations", Short: "List the open invitations", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var out struct {
			Invitations []api.Invitation `json:"invitations"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, "invitations", nil, &out); err != nil {
			return err
		}
		return c.print(out.Invitations, func(w io.Writer) {
			for _, v := range out.Invitations {
				kind := "worker"
				if v.Core {
					kind = "core"
				}
				fmt.Fprintf(w, "%s\t%s\tby %s\tuntil %s\n", v.ID, kind, v.By, v.Expires.Local().Format(time.DateTime))
			}
		})
	}}
}

func (c *cli) nodeWithdraw() *cobra.Command {
	return &cobra.Command{Use: "withdraw ID", Short: "Withdraw an invitation", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		if err := c.client().call(cmd.Context(), http.MethodDelete, path("invitations", a[0]), nil, nil); err != nil {
			return err
		}
		return c.done("withdrawn", a[0])
	}}
}

func (c *cli) people() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List people with their roles", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var out struct {
			People []api.Person `json:"people"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, "people", nil, &out); err != nil {
			return err
		}
		return c.print(out.People, func(w io.Writer) {
			for _, p := range out.People {
				fmt.Fprintf(w, "%s\t%s\n", p.Person, p.Role)
			}
		})
	}}
	role := &cobra.Command{Use: "role LOGIN owner|member|viewer|none", Short: "Say what a person may do", Args: args(cobra.ExactArgs(2)), RunE: func(cmd *cobra.Command, a []string) error {
		body := map[string]string{"role": strings.TrimSuffix(a[1], "none")}
		if err := c.client().call(cmd.Context(), http.MethodPut, path("people", a[0]), body, nil); err != nil {
			return err
		}
		return c.done("role", a[1])
	}}
	return group("people", "Who may do what in this mesh", list, role)
}

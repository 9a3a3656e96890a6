package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// cli is what every subcommand shares.
type cli struct {
	in       io.Reader
	out, err io.Writer
	api      string
	json     bool
}

func (c *cli) client() *client { return newClient(c.api) }

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	c := &cli{in: in, out: out, err: errw}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err != nil && err.Error() != "" {
		fmt.Fprintln(errw, "samnode:", err)
	}
	return exitCode(err)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "samnode",
		Short:         "A self-hosted mesh that runs AI coding agents",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // or cobra's own error, which has no exit code
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) > 0 {
				return &exitError{exitUsage, fmt.Sprintf("there is no command %q; samnode --help lists them", a[0])}
			}
			return cmd.Help()
		},
	}
	api := os.Getenv("SAMNODE_API")
	if api == "" {
		api = defaultAPI
	}
	root.PersistentFlags().StringVar(&c.api, "api", api, "URL of a node (or SAMNODE_API)")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &exitError{exitUsage, err.Error()}
	})
	root.AddCommand(c.initMesh(), c.join(), c.leave(), c.run(), c.install(), c.status(), c.node(), c.pool(), c.people(), c.open(),
		c.backupCommand(), c.restore(), c.recover(), c.dev(), c.project(), c.task(), c.files(), c.ssh(), c.sshConfig(), c.forward(), c.secret(), c.doctor(), c.agents(), c.version(), c.shim(), c.sftpServer(), c.fileServer(), c.agent())
	return root
}

// args wraps cobra's argument checks so that a wrong number exits with 2.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return &exitError{exitUsage, err.Error() + "\n\n" + cmd.UsageString()}
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return &exitError{exitUsage, cmd.UsageString()}
	}}
	g.AddCommand(subs...)
	return g
}

// print shows v as JSON with --json, else as text says.
func (c *cli) print(v any, text func(w io.Writer)) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(v)
	}
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// done is the answer of a command that has nothing to show.
func (c *cli) done(what, name string) error {
	return c.print(map[string]string{what: name}, func(io.Writer) {})
}

func (c *cli) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
		return c.print(map[string]string{"version": version}, func(w io.Writer) { fmt.Fprintln(w, version) })
	}}
}

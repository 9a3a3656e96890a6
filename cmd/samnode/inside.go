package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/files"
	"github.com/samnode/samnode/workspace/scriptagent"
	"github.com/samnode/samnode/workspace/shim"
	"github.com/samnode/samnode/workspace/sshd"
)

// shim is a container's init. People never call it.
func (c *cli) shim() *cobra.Command {
	var cfg shim.Config
	var forward []string
	cmd := &cobra.Command{Use: "shim", Short: "Run as a workspace's init", Hidden: true, Args: args(cobra.NoArgs)}
	f := cmd.Flags()
	f.StringVar(&cfg.Socket, "socket", "", "unix socket to serve")
	f.StringVar(&cfg.Journal, "journal", "", "file or folder of the journal")
	f.StringVar(&cfg.Home, "home", "/home/agent", "home of all processes")
	f.StringArrayVar(&forward, "forward", nil, "ADDRESS=SOCKET: a loopback port that leads to a socket")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, fw := range forward {
			listen, socket, ok := strings.Cut(fw, "=")
			if !ok {
				return &exitError{exitUsage, fmt.Sprintf("--forward %q is not ADDRESS=SOCKET", fw)}
			}
			cfg.Forward = append(cfg.Forward, shim.Forward{Listen: listen, Socket: socket})
		}
		return shim.Main(cmd.Context(), cfg)
	}
	return cmd
}

// sftpServer serves a workspace's files, for ssh. People never call it.
func (c *cli) sftpServer() *cobra.Command {
	var shortcut string
	cmd := &cobra.Command{Use: "sftp-server", Short: "Serve files over stdio", Hidden: true, Args: args(cobra.NoArgs)}
	cmd.Flags().StringVar(&shortcut, "shortcut", "", "folder to leave a link to in this one")
	cmd.RunE = func(*cobra.Command, []string) error {
		if shortcut != "" {
			if err := sshd.Shortcut(shortcut); err != nil {
				fmt.Fprintln(os.Stderr, "samnode:", err) // the files are served nevertheless
			}
		}
		return sshd.ServeFiles(os.Stdin, os.Stdout)
	}
	return cmd
}

// fileServer answers one call of a node about a workspace's files. People never
// call it.
func (c *cli) fileServer() *cobra.Command {
	var root string
	cmd := &cobra.Command{Use: "file-server", Short: "Answer one call about files", Hidden: true, Args: args(cobra.NoArgs)}
	cmd.Flags().StringVar(&root, "root", "", "folder that no call leaves")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if root == "" {
			return &exitError{exitUsage, "--root is needed"}
		}
		return files.Serve(cmd.Context(), root, c.in, c.out)
	}
	return cmd
}

// agent runs a built-in agent over stdio, inside a workspace.
func (c *cli) agent() *cobra.Command {
	g := group("agent", "Run a built-in agent over stdio", &cobra.Command{
		Use: "script", Short: "Run the shell blocks of each prompt", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return scriptagent.Main(cmd.Context(), c.in, c.out)
		},
	})
	g.Hidden = true
	return g
}

func (c *cli) agents() *cobra.Command {
	var dir string
	install := &cobra.Command{
		Use:   "install [AGENT ...]",
		Short: "Install agents on this machine, once for all workspaces (default: claude)",
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				names = []string{"claude"}
			}
			dir, err := agentsDir(dir)
			if err != nil {
				return err
			}
			if err := agents.Install(cmd.Context(), dir, names, func(line string) { fmt.Fprintln(c.err, "•", line) }); err != nil {
				return err
			}
			return c.done("installed", strings.Join(names, " "))
		},
	}
	g := group("agents", "The agents of this machine", install)
	g.PersistentFlags().StringVar(&dir, "dir", "", "folder to install into (default: SAMNODE_AGENTS, else in the node's state)")
	return g
}

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (c *cli) dev() *cobra.Command {
	var cfg Config
	var verbose bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run one node on this machine's loopback interface",
		Args:  args(cobra.NoArgs),
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:7070", "address to serve on; port 0 picks one")
	f.StringVar(&cfg.State, "state", "", "directory of the node's state (default: samnode in the user's data folder)")
	f.StringVar(&cfg.Node, "name", "", "name of the node, for ever (default: the host's)")
	f.IntVar(&cfg.Slots, "slots", 0, "workspaces at once (default: one per two processors, at least two)")
	f.Float64Var(&cfg.CPUs, "cpus", 0, "processors of one workspace (default: no limit)")
	f.Int64Var(&cfg.Memory, "memory", 0, "bytes of memory of one workspace (default: no limit)")
	f.StringVar(&cfg.Image, "image", "", "base image of workspaces (default: "+defaultImage+")")
	f.StringVar(&cfg.Agents, "agents", os.Getenv("SAMNODE_AGENTS"), "folder of the installed agents, or SAMNODE_AGENTS (default: in the state)")
	f.StringToStringVar(&cfg.Upstream, "model-api", nil, "base URL of a model provider's gateway: anthropic=URL")
	f.StringToStringVar(&cfg.GitHub, "github-api", nil, "API of a GitHub Enterprise host: HOST=URL")
	f.DurationVar(&cfg.PollPulls, "poll-pulls", 0, "how often open pull requests are looked at (default: 1m)")
	f.DurationVar(&cfg.Silence, "silence", 0, "how long a turn may say nothing before the chat tells it (default: 5m)")
	f.BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		level := slog.LevelInfo
		if verbose {
			level = slog.LevelDebug
		}
		cfg.Gallery = true
		cfg.Logger = slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
		if cfg.State == "" {
			dir, err := dataDir()
			if err != nil {
				return err
			}
			cfg.State = dir
		}
		return run(cmd.Context(), cfg, func(url string) {
			fmt.Fprintf(c.out, "samnode is ready: %s\n", url)
		})
	}
	return cmd
}

// dataDir is where a person's own node keeps its state (XDG base directories).
func dataDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "samnode"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the home folder; use --state: %w", err)
	}
	return filepath.Join(home, ".local", "share", "samnode"), nil
}

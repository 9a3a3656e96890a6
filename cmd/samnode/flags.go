package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runFlags are those of every command that runs a node.
func runFlags(f *pflag.FlagSet, cfg *Config) {
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:7070", "loopback address of the pages on this machine; port 0 picks one")
	f.StringVar(&cfg.State, "state", "", "directory of the node's state (default: samnode in the user's data folder)")
	f.IntVar(&cfg.Slots, "slots", 0, "workspaces at once (default: one per two processors, at least two)")
	f.Float64Var(&cfg.CPUs, "cpus", 0, "processors of one workspace (default: no limit)")
	f.Int64Var(&cfg.Memory, "memory", 0, "bytes of memory of one workspace (default: no limit)")
	f.StringVar(&cfg.Image, "image", "", "base image of workspaces (default: "+defaultImage+")")
	f.StringVar(&cfg.Agents, "agents", os.Getenv("SAMNODE_AGENTS"), "folder of the installed agents, or SAMNODE_AGENTS (default: in the state)")
	f.StringToStringVar(&cfg.Upstream, "model-api", nil, "base URL of a model provider's gateway: anthropic=URL")
	f.StringToStringVar(&cfg.GitHub, "github-api", nil, "API of a GitHub Enterprise host: HOST=URL")
	f.DurationVar(&cfg.PollPulls, "poll-pulls", 0, "how often open pull requests are looked at (default: 1m)")
	f.DurationVar(&cfg.Silence, "silence", 0, "how long a turn may say nothing before the chat tells it (default: 5m)")
	f.DurationVar(&cfg.LeaseFor, "lease", 0, "how long a lease outlives its node's last sign of life; the same on all nodes (default: 30s)")
	f.DurationVar(&cfg.BeatEvery, "beat", 0, "how often signs of life go into the log; the same on all nodes (default: 5s)")
	f.DurationVar(&cfg.Heartbeat, "election", 0, "silence of the log's leader before another is elected (default: 500ms)")
	f.StringVar(&cfg.HetznerAPI, "hetzner-api", "", "URL of Hetzner's API, for what stands in its place (default: Hetzner's)")
	f.StringVar(&cfg.KeysAPI, "keys-api", "", "URL of the API that makes keys for bought machines (default: Tailscale's, or headscale's control server)")
	f.StringVar(&cfg.BinaryURL, "binary-url", "", "where bought machines fetch this very samnode (default: its release)")
	f.StringVar(&cfg.ServeBinary, "serve-binary", "", "address on which this node serves itself to the machines it buys, such as 10.0.0.2:7072")
	f.DurationVar(&cfg.DeadMan, "dead-man", 0, "how long a worker may be cut off from the mesh before it powers its machine off (default: never)")
	f.DurationVar(&cfg.ReplaceAfter, "replace-after", 0, "silence of a voter before a spare takes its place (default: 1m)")
}

// prepare fills in what the flags left open.
func (c *cli) prepare(cmd *cobra.Command, cfg *Config, verbose bool) error {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	cfg.Recent = new(recent)
	cfg.Logger = slog.New(watchLog{Handler: slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}), to: cfg.Recent})
	cfg.Login = func(url string) {
		fmt.Fprintf(c.err, "sign this node in to your tailnet, in a browser: %s\n", url)
	}
	var err error
	cfg.State, err = stateDir(cfg.State)
	return err
}

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// Config says how to run one node. The zero value with State set works.
type Config struct {
	// State is the node's directory: the log, the chat, mirrors, workspaces,
	// agents, the mesh key. One node at a time may have it open.
	State string
	// Listen is a loopback address; empty: 127.0.0.1:7070. Port 0 picks one.
	Listen string
	// Node is this node's name, for ever; empty: the host's name.
	Node string
	// Slots is how many workspaces this machine runs at once; 0: one per two
	// processors and at least two.
	Slots int
	// CPUs and Memory limit one workspace; 0: none.
	CPUs   float64
	Memory int64
	// Image is the base image; empty: the one that scripts/image builds.
	Image string
	// Agents is the folder of the installed agents; empty: one in State. It
	// may be shared by nodes of one machine.
	Agents string
	// Upstream replaces the base URL of a model provider (anthropic, openai,
	// gemini) by a gateway's.
	Upstream map[string]string
	// GitHub maps the host of a GitHub Enterprise server to its API's URL.
	GitHub map[string]string
	// PollPulls is how often an open pull request is looked at; 0: a minute.
	// The forge answers an unchanged one for free.
	PollPulls time.Duration
	// Silence is how long a turn may be without output before the chat says
	// so; 0: 5 minutes.
	Silence time.Duration
	// Gallery serves /gallery: every component of the pages in every state.
	Gallery bool
	Logger  *slog.Logger
}

const defaultImage = "samnode/base:latest"

func (c Config) withDefaults() (Config, error) {
	if c.State == "" {
		return c, &exitError{exitUsage, "a state directory is needed (--state)"}
	}
	abs, err := filepath.Abs(c.State)
	if err != nil {
		return c, fmt.Errorf("resolving the state directory: %w", err)
	}
	c.State = abs
	if c.Listen == "" {
		c.Listen = "127.0.0.1:7070"
	}
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("finding this machine's name: %w", err)
		}
		c.Node, _, _ = strings.Cut(host, ".")
	}
	if c.Slots == 0 {
		c.Slots = max(2, runtime.NumCPU()/2)
	}
	if c.Image == "" {
		c.Image = defaultImage
	}
	if c.Agents == "" {
		c.Agents = filepath.Join(c.State, "agents")
	}
	if c.PollPulls == 0 {
		c.PollPulls = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// dir is a place in the state directory.
func (c Config) dir(name string) string { return filepath.Join(c.State, name) }

func (c Config) author() chat.Author { return chat.Author{Node: chat.Node(c.Node)} }

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
	"github.com/samnode/samnode/provision"
)

// Config says how to run one node. The zero value with State set works.
type Config struct {
	// State is the node's directory: the log, the chat, mirrors, workspaces,
	// agents, the mesh key. One node at a time may have it open.
	State string
	// Listen is the loopback address of the pages for the person at this
	// machine; empty: 127.0.0.1:7070. Port 0 picks one. On a tailnet "off" is
	// none.
	Listen string
	// Node is this node's name, for ever. It is read from the state directory.
	Node string
	// Alone is a mesh of one that nobody can join: it needs no ports for other
	// nodes.
	Alone bool
	// AuthKey lets a new node onto its tailnet; with none a person signs in.
	AuthKey string
	// Login is told the URL where a person signs this node in; nil: it is
	// logged.
	Login func(url string)
	// BeatEvery is how often signs of life go into the log, LeaseFor how long a
	// lease outlives its node's last one: the same on all nodes. 0: 5 s and 30 s.
	BeatEvery, LeaseFor time.Duration
	// Heartbeat is how long the leader of the log may be silent before another
	// is elected; 0: 500 ms. Slow or busy machines want more.
	Heartbeat time.Duration
	// ReplaceAfter is how long a voter may be silent before a spare takes its
	// place; 0: a minute.
	ReplaceAfter time.Duration
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
	// DeadMan is how long this worker may be cut off from the mesh before it
	// powers its machine off; 0: it never does. It is for bought machines.
	DeadMan time.Duration
	// HetznerAPI and KeysAPI replace the addresses of Hetzner's API, and of the
	// control server's that makes keys for new machines.
	HetznerAPI, KeysAPI string
	// BinaryURL is where bought machines fetch this samnode; empty: its release.
	// ServeBinary is an address on which this node serves it to them instead,
	// on a network of the provider that is theirs alone.
	BinaryURL, ServeBinary string
	// Gallery serves /gallery: every component of the pages in every state.
	Gallery bool
	// Recent holds the newest warnings of the log, for the node's page; may be nil.
	Recent *recent
	Logger *slog.Logger
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
	if c.Slots == 0 {
		c.Slots = max(2, runtime.NumCPU()/2)
	}
	if c.Image == "" {
		c.Image = defaultImage
	}
	if c.Agents == "" {
		c.Agents = filepath.Join(c.State, "agents")
	}
	setDefault(&c.PollPulls, time.Minute)
	setDefault(&c.BeatEvery, provision.DefaultEvery)
	setDefault(&c.LeaseFor, provision.DefaultLeaseFor)
	setDefault(&c.ReplaceAfter, time.Minute)
	if c.LeaseFor < 3*c.BeatEvery {
		return c, &exitError{exitUsage, fmt.Sprintf("a lease of %s is too short for signs of life every %s: three must fit", c.LeaseFor, c.BeatEvery)}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func setDefault(field *time.Duration, value time.Duration) {
	if *field == 0 {
		*field = value
	}
}

// hostName is this machine's name as a node's: lower case, letters, digits and
// hyphens.
func hostName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding this machine's name: %w", err)
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, host)
	host = strings.Trim(host[:min(len(host), 60)], "-")
	if host == "" {
		return "", &exitError{exitUsage, "this machine has no name that could be a node's; give one with --name"}
	}
	return host, nil
}

// dir is a place in the state directory.
func (c Config) dir(name string) string { return filepath.Join(c.State, name) }

func (c Config) author() chat.Author { return chat.Author{Node: chat.Node(c.Node)} }

// Package agents knows the agents: which versions, how they are installed
// once per machine, and how one is started in a workspace.
//
// An agent is data, a row of [All]. The programs live in one folder per
// machine that [Install] fills and every workspace sees read-only at [Root];
// a project's image needs nothing but glibc. No credential is part of a start:
// agents talk to the broker on the workspace's loopback with a dummy key.
package agents

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/samnode/samnode/chat"
)

// Where things are in a workspace.
const (
	Root   = "/opt/samnode"          // the installed agents, read-only
	Broker = "http://127.0.0.1:7101" // model APIs, one path per provider
	Key    = "samnode"               // stands where a key is expected; the broker puts the real one
)

// Agent is one agent and how it is run.
type Agent struct {
	Name     string               // script, claude, codex, gemini, opencode, qwen
	Title    string               // for people: "Claude Code"
	Provider string               // whose models the broker must serve: anthropic, openai, gemini; "" none
	Secrets  []string             // names that may hold its key, best first; empty: needs none
	Modes    map[chat.Mode]string // our permission modes to the agent's own

	packages []string                 // of npm, exact; {arch} is x64 or arm64
	optional bool                     // its optional dependencies are needed
	links    map[string]string        // bin/<name> to a path in its folder; {arch} as above
	argv     []string                 // {root}, {samnode} are replaced
	env      map[string]string        // {root}, {broker}, {home} are replaced
	files    func(Place) []ConfigFile // written below HOME before the start; nil: none
}

// ConfigFile is a file that an agent reads at its start.
type ConfigFile struct {
	Path string // below HOME
	Data []byte
}

// Place is where an agent is started. Empty fields take what a workspace has.
type Place struct {
	Root    string // of the installed agents; empty: Root
	Home    string // the agent's own, writable; one per session
	Cwd     string // the repository
	Samnode string // the samnode program; empty: "samnode" on the PATH
	Broker  string // empty: Broker
	Mode    chat.Mode
	Model   string   // empty: the agent's default
	Path    []string // folders to find programs in, before the usual ones
}

// Start is a process to start. Env is complete: nothing is inherited.
type Start struct {
	Argv  []string
	Env   []string
	Files []ConfigFile
}

// Lookup finds an agent by name; the error wraps chat.ErrNotFound.
func Lookup(name string) (Agent, error) {
	all := All()
	i := slices.IndexFunc(all, func(a Agent) bool { return a.Name == name })
	if i < 0 {
		return Agent{}, fmt.Errorf("%w: agent %q; there are %s", chat.ErrNotFound, name, strings.Join(Names(), ", "))
	}
	return all[i], nil
}

// Names are the names of all agents.
func Names() []string {
	var names []string
	for _, a := range All() {
		names = append(names, a.Name)
	}
	return names
}

// BuiltIn says that the agent is part of samnode and needs no installation.
func (a Agent) BuiltIn() bool { return len(a.packages) == 0 }

// Start is how the agent is started at p.
func (a Agent) Start(p Place) Start {
	p = p.filled()
	r := strings.NewReplacer("{root}", p.Root, "{broker}", p.Broker, "{home}", p.Home, "{samnode}", p.Samnode, "{model}", p.Model)
	var s Start
	for _, arg := range a.argv {
		s.Argv = append(s.Argv, r.Replace(arg))
	}
	dirs := append(slices.Clone(p.Path), path.Join(p.Root, "bin"),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	env := map[string]string{
		"HOME": p.Home, "PATH": strings.Join(dirs, ":"), "LANG": "C.UTF-8", "TERM": "dumb", "SHELL": "/bin/sh",
		"USER": "agent", "LOGNAME": "agent", "NO_UPDATE_NOTIFIER": "1", "DO_NOT_TRACK": "1",
	}
	for k, v := range a.env {
		if v = r.Replace(v); v != "" {
			env[k] = v
		}
	}
	for k, v := range env {
		s.Env = append(s.Env, k+"="+v)
	}
	slices.Sort(s.Env)
	if a.files != nil {
		s.Files = a.files(p)
	}
	return s
}

func (p Place) filled() Place {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&p.Root, Root)
	def(&p.Broker, Broker)
	def(&p.Samnode, "samnode")
	def(&p.Home, "/home/agent")
	if p.Mode == "" {
		p.Mode = chat.ModeAsk
	}
	return p
}

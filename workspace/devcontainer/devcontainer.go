// Package devcontainer makes a workspace's image from what a repository says
// in its devcontainer.json, and tells which hooks and variables go with it.
//
// The repository is not trusted. Its configuration is read, never obeyed as a
// whole: what would reach the host (initializeCommand, mounts, runArgs,
// privileged and their like, also out of features and image labels) is left
// out and returned as a [Refusal] for a person to read. The container itself
// is made elsewhere, with a profile that has no room for any of it. Files are
// read through the checkout's root, so a link cannot lead out of it, and the
// host's environment is not there to be substituted.
//
// The reference CLI runs for features only, on a folder of our own that holds
// a sanitised configuration and copies of the repository's local features.
// A Dockerfile is built by docker build, an image is taken as it is. The CLI's
// "up" is never called, and hooks are returned rather than run: the runner
// starts them through the shim, inside the finished container, as uid 1000.
package devcontainer

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of this package. A [Failure] wraps one of them.
var (
	ErrInvalid = errors.New("the devcontainer.json is not valid")
	ErrCompose = errors.New("docker compose in a devcontainer.json is not supported yet; give it an image or a Dockerfile instead")
	ErrBuild   = errors.New("building the dev container failed")
	ErrNoBase  = errors.New("the base image cannot be fetched from here")
	ErrNoTool  = errors.New("dev container features need Node 20 and the docker command on this machine")
)

// Failure is an error with the tool's own last lines, for a sunken box.
type Failure struct {
	Err    error  // one of the errors above
	Reason string // one sentence: what happened and what to do
	Out    string // at most 20 lines of the tool; may be empty
}

// Error is the reason.
func (f *Failure) Error() string { return f.Reason }

// Unwrap is the sentinel.
func (f *Failure) Unwrap() error { return f.Err }

// Detail returns the tool's own last lines.
func (f *Failure) Detail() string { return f.Out }

// Retryable says whether building again can help without a person changing
// anything: what is fetched may be there later.
func (f *Failure) Retryable() bool {
	return !errors.Is(f.Err, ErrInvalid) && !errors.Is(f.Err, ErrCompose) && !errors.Is(f.Err, ErrNoTool)
}

func invalid(path, format string, args ...any) error {
	return &Failure{Err: ErrInvalid, Reason: path + ": " + fmt.Sprintf(format, args...)}
}

// Refusal is one thing that was asked for and left out. The rest was used.
type Refusal struct {
	What string `json:"what"` // "mounts", "privileged", ...
	Why  string `json:"why"`  // half a sentence
	From string `json:"from"` // "devcontainer.json", "feature ./docker", "image"
}

// Hook is one lifecycle command. Its commands may run in parallel; the next
// hook begins when all have ended, and not at all when one has failed.
type Hook struct {
	Name     string // onCreateCommand, updateContentCommand, postCreateCommand, postStartCommand
	From     string // "devcontainer.json", "feature ./docker", "image"
	Once     bool   // only in a workspace's first container; otherwise at each start
	Commands []Command
}

// Command is one process of a hook.
type Command struct {
	Name string   // of a parallel one; else empty
	Argv []string // as it is, no shell on top
}

// HostRequirements is the smallest machine that the repository wants.
type HostRequirements struct {
	CPUs    int
	Memory  int64 // bytes
	Storage int64 // bytes
	GPU     bool
}

// Found is a configuration in a checkout.
type Found struct {
	Path string // relative to the checkout, with slashes
	Name string // its "name", else the folder's
}

// Definition is what we take of a devcontainer.json. Variables in it are not
// substituted yet.
type Definition struct {
	Path             string // relative to the checkout
	Name             string
	Image            string // exclusive with Build
	Build            *Build
	Features         []Feature // in the file's order
	InstallOrder     []string  // overrideFeatureInstallOrder
	ContainerEnv     map[string]string
	RemoteEnv        map[string]*string // nil: unset
	RemoteUser       string             // who features install for; the agent is uid 1000 regardless
	Hooks            []Hook
	ForwardPorts     []int
	HostRequirements HostRequirements
	WorkspaceFolder  string
	Refused          []Refusal
}

// Build is a Dockerfile to build from.
type Build struct {
	Dockerfile string            // relative to the checkout
	Context    string            // relative to the checkout
	Args       map[string]string // may hold variables
	Target     string
}

// Feature is one entry of "features".
type Feature struct {
	ID      string
	Options []byte // JSON, as it stood
}

func (f Feature) local() bool {
	return strings.HasPrefix(f.ID, "./") || strings.HasPrefix(f.ID, "../")
}

package devcontainer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/samnode/samnode/workspace/docker"
)

// Config of a Builder.
type Config struct {
	Engine  *docker.Engine // needed
	Dir     string         // where Install put the CLI; only features need it
	Node    string         // the node program; empty: the one on the PATH
	Network string         // of build containers: "container:NAME" to share one's, "none" for offline; empty: "none"
	Proxy   string         // URL of the HTTP proxy that Network offers; empty: none

	// Ready makes Network before something is built; nil: it is there. It is
	// not called when the image is found.
	Ready func(context.Context) error

	Logger *slog.Logger // nil: discard
}

// Builder builds dev container images on one machine. Its methods may be
// called concurrently.
type Builder struct{ c Config }

// New checks the configuration.
func New(c Config) (*Builder, error) {
	if c.Engine == nil {
		return nil, errors.New("devcontainer: no engine")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	// Build containers run a stranger's commands as root. On the engine's own
	// bridge they would reach every port of this machine and its networks.
	c.Network = cmp.Or(c.Network, "none")
	return &Builder{c}, nil
}

// Request is one configuration to build.
type Request struct {
	Checkout string // of the repository on this machine; nothing else may write there meanwhile
	Config   string // a path from Find
	Folder   string // of the repository in the container, e.g. /workspaces/app
	ID       string // ${devcontainerId}; stable for a workspace
	Rebuild  bool   // build although an image of the same sources is there
}

// Result is a finished image and what goes with it.
type Result struct {
	Image            string // fit for docker.Spec: uid 1000 has a name and its folders
	Name             string
	Cached           bool     // nothing was built
	Env              []string // for the container, "K=V", over the image's own
	RemoteEnv        []string // for hooks, agent and terminals, over Env
	Hooks            []Hook   // in the order in which to run them
	ForwardPorts     []int
	HostRequirements HostRequirements
	Refused          []Refusal
}

// Build makes the image, or finds the one made before from the same sources,
// and merges what the image, its features and the configuration ask for.
// Progress gets the tools' lines as they come; nil is fine. Errors wrap
// ErrInvalid, ErrCompose, ErrBuild, ErrNoBase, ErrNoTool or the engine's.
func (b *Builder) Build(ctx context.Context, r Request, progress func(line string)) (Result, error) {
	if progress == nil {
		progress = func(string) {}
	}
	checkout, err := filepath.Abs(r.Checkout)
	if err != nil {
		return Result{}, fmt.Errorf("finding the checkout: %w", err)
	}
	r.Checkout = checkout
	d, err := Read(r.Checkout, r.Config)
	if err != nil {
		return Result{}, err
	}
	v := vars{folder: r.Folder, id: r.ID}
	image, cached, refused, err := b.image(ctx, r, d, v, progress)
	if err != nil {
		return Result{}, err
	}
	d.Refused = append(d.Refused, refused...)
	fit, err := b.c.Engine.Adapt(ctx, image)
	if err != nil {
		return Result{}, fmt.Errorf("adapting the dev container's image: %w", err)
	}
	for _, used := range []string{image, fit} {
		if err := b.c.Engine.Keep(ctx, used); err != nil {
			return Result{}, fmt.Errorf("keeping the dev container's image: %w", err)
		}
	}
	_, info, err := b.c.Engine.HasImage(ctx, fit)
	if err != nil {
		return Result{}, fmt.Errorf("reading the dev container's image: %w", err)
	}
	res, err := merge(d, info, v)
	if err != nil {
		return Result{}, &Failure{Err: ErrInvalid, Reason: err.Error()}
	}
	res.Image, res.Cached = fit, cached
	if cached {
		progress("Using the image built before: " + fit)
	}
	b.c.Logger.InfoContext(ctx, "dev container ready", "config", r.Config, "image", fit, "cached", cached, "refused", len(res.Refused))
	return res, nil
}

// image builds or fetches the image that d asks for.
func (b *Builder) image(ctx context.Context, r Request, d Definition, v vars, progress func(string)) (ref string, cached bool, refused []Refusal, err error) {
	if d.Build == nil && len(d.Features) == 0 {
		cached, err = b.fetch(ctx, v.in(d.Image), r.Rebuild, progress)
		return v.in(d.Image), cached, nil, err
	}
	s, err := newStage(r.Checkout, d, v, b.options())
	if err != nil {
		return "", false, nil, err
	}
	defer s.remove()
	key, err := s.key(d, b.c.Network)
	if err != nil {
		return "", false, nil, err
	}
	ref = "samnode/dev:" + key
	if has, _, err := b.c.Engine.HasImage(ctx, ref); err != nil || has && !r.Rebuild {
		return ref, has, s.refused, err
	}
	argv, err := b.argv(s, d, v, ref, r.Rebuild)
	if err != nil {
		return "", false, nil, err
	}
	if len(d.Features) > 0 {
		unlock, err := lock(ctx, b.c.Dir)
		if err != nil {
			return "", false, nil, err
		}
		defer unlock()
	}
	if b.c.Ready != nil {
		if err := b.c.Ready(ctx); err != nil {
			return "", false, nil, err
		}
	}
	progress("Building " + r.Config)
	out, err := command(ctx, s.dir, b.env(s), progress, argv...)
	if err != nil {
		return "", false, nil, failure(ctx, r.Config, out, err)
	}
	return ref, false, s.refused, nil
}

// fetch makes sure that an image is here; it was there before when cached.
func (b *Builder) fetch(ctx context.Context, ref string, again bool, progress func(string)) (cached bool, err error) {
	has, _, err := b.c.Engine.HasImage(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("looking for the dev container's image: %w", err)
	}
	if has && !again {
		return true, nil
	}
	var last []string
	err = b.c.Engine.Pull(ctx, ref, func(line string) {
		if last = append(last, line); len(last) > tailLines {
			last = last[1:]
		}
		progress(line)
	})
	switch {
	case err == nil:
		return false, nil
	case has && !errors.Is(err, docker.ErrNoEngine) && ctx.Err() == nil:
		progress("Could not look for a newer " + ref + "; using the one that is here")
		return true, nil
	case ctx.Err() != nil || errors.Is(err, docker.ErrNoEngine) || errors.Is(err, docker.ErrLost) || errors.Is(err, docker.ErrDiskFull):
		return false, fmt.Errorf("fetching the dev container's image: %w", err)
	}
	return false, &Failure{
		Err:    fmt.Errorf("%w: %w", ErrNoBase, err),
		Reason: "The image " + ref + " cannot be fetched from here; check its name, and that this machine reaches its registry",
		Out:    strings.Join(append(last, err.Error()), "\n"),
	}
}

// argv is the build command: the reference CLI where features need it.
func (b *Builder) argv(s *stage, d Definition, v vars, ref string, rebuild bool) ([]string, error) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		return nil, &Failure{Err: ErrNoTool, Reason: "There is no docker command on this machine; install Docker's command line client"}
	}
	if len(d.Features) > 0 {
		node, err := exec.LookPath(cmp.Or(b.c.Node, "node"))
		if err != nil || !Installed(b.c.Dir) {
			return nil, &Failure{Err: ErrNoTool, Reason: d.Path + " uses features: " + ErrNoTool.Error()}
		}
		argv := []string{
			node, filepath.Join(toolDir(b.c.Dir), toolScript), "build", "--docker-path", docker,
			"--workspace-folder", filepath.Join(s.dir, "repo"), "--config", s.config(d),
			"--user-data-folder", filepath.Join(s.dir, "home"), "--image-name", ref, "--no-lockfile",
			"--buildkit", "never",
		}
		if rebuild {
			argv = append(argv, "--no-cache")
		}
		return argv, nil
	}
	argv := append([]string{docker, "build", "--file", s.dockerfile, "--tag", ref}, b.options()...)
	args := d.args(v)
	for _, k := range slices.Sorted(maps.Keys(args)) {
		argv = append(argv, "--build-arg="+k+"="+args[k])
	}
	if d.Build.Target != "" {
		argv = append(argv, "--target="+d.Build.Target)
	}
	if rebuild {
		argv = append(argv, "--no-cache", "--pull")
	}
	return append(argv, s.context), nil
}

// options of every docker build: its network, and a failed one leaves no
// container behind. The engine knows these arguments: they are in the
// environment of each step and in no image.
func (b *Builder) options() []string {
	o := []string{"--force-rm", "--network=" + b.c.Network}
	if b.c.Proxy != "" {
		for _, k := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
			o = append(o, "--build-arg="+k+"="+b.c.Proxy)
		}
		for _, k := range []string{"no_proxy", "NO_PROXY"} {
			o = append(o, "--build-arg="+k+"=localhost,127.0.0.1,::1")
		}
	}
	return o
}

// env is all that a build tool sees of this process: where programs, the
// engine and a proxy are. Nothing of it can reach an image by substitution,
// for the sanitised configuration has no variables left.
//
// The classic builder runs the steps: BuildKit knows no network of another
// container, and lets a Dockerfile ask for git remotes and caches by itself.
func (b *Builder) env(s *stage) []string {
	env := []string{
		"HOME=" + filepath.Join(s.dir, "home"), "TMPDIR=" + filepath.Join(s.dir, "tmp"),
		"DOCKER_HOST=" + b.c.Engine.Host(), "DOCKER_BUILDKIT=0",
	}
	for _, k := range []string{"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

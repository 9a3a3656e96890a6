package agents

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Install.
var (
	ErrNoNPM   = errors.New("npm is needed to install agents: install Node.js with npm (on Debian and Ubuntu: apt-get install npm)")
	ErrNetwork = errors.New("the npm registry could not be reached: check the network, the proxy settings and the registry that `npm config get registry` names")
)

// Manifest says what the folder of agents holds.
type Manifest struct {
	Version int               `json:"version"` // of this format: 1
	Arch    string            `json:"arch"`    // x64 or arm64
	Parts   map[string]string `json:"parts"`   // node and agents, to their folder below lib
}

// Install puts the named agents, and the Node they run on, into dir. What is
// there in the right version is left alone. Each part appears whole or not at
// all: it is made beside its place and renamed. Parts of other versions stay,
// for workspaces that still run them; Prune removes those. Two calls at once
// wait for each other. progress gets a line per step and may be nil.
func Install(ctx context.Context, dir string, names []string, progress func(string)) error {
	parts, err := partsOf(names)
	if err != nil {
		return err
	}
	return bring(ctx, dir, parts, progress, installer.npm)
}

// source fills stage with a part.
type source func(in installer, ctx context.Context, stage string, p part) error

// bring puts the parts into dir, those that are not there from the source.
func bring(ctx context.Context, dir string, parts []part, progress func(string), from source) error {
	if progress == nil {
		progress = func(string) {}
	}
	if err := os.MkdirAll(filepath.Join(dir, "lib"), 0o755); err != nil {
		return fmt.Errorf("making the folder of agents: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	m, err := readManifest(dir)
	if err != nil {
		return err
	}
	in := installer{dir: dir, arch: arch(), progress: progress}
	in.sweep()
	for _, p := range parts {
		if err := in.install(ctx, p, from); err != nil {
			return fmt.Errorf("installing %s: %w", p.name, err)
		}
		m.Version, m.Arch = 1, in.arch
		m.Parts[p.name] = p.folder(in.arch)
	}
	return writeManifest(dir, m)
}

// part is one thing to install: Node or an agent.
type part struct {
	name     string
	packages []string
	optional bool
	links    map[string]string
	trim     []string // what nothing needs
}

// folder is named after all that is in it, so a new version is a new folder.
func (p part) folder(arch string) string {
	words := []string{p.name}
	for _, pkg := range p.packages {
		words = append(words, pkg[strings.LastIndex(pkg, "@")+1:])
	}
	return strings.Join(append(words, arch), "-")
}

func node() part {
	return part{
		name: "node", packages: []string{"node-linux-{arch}@" + nodeVersion},
		links: map[string]string{"node": "node_modules/node-linux-{arch}/bin/node"},
		trim:  []string{"node_modules/node-linux-{arch}/include", "node_modules/node-linux-{arch}/share"},
	}
}

// partsOf lists what the agents need, Node first.
func partsOf(names []string) ([]part, error) {
	var parts []part
	for _, name := range names {
		a, err := Lookup(name)
		if err != nil {
			return nil, err
		}
		if !a.BuiltIn() && !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			parts = append(parts, part{name: a.Name, packages: a.packages, optional: a.optional, links: a.links})
		}
	}
	if len(parts) > 0 {
		parts = slices.Insert(parts, 0, node())
	}
	return parts, nil
}

// arch is this machine's as npm packages spell it.
func arch() string {
	if runtime.GOARCH == "amd64" {
		return "x64"
	}
	return runtime.GOARCH
}

type installer struct {
	dir, arch string
	progress  func(string)
}

// fill puts the machine's kind into a path or the name of a package.
func (in installer) fill(pattern string) string {
	return strings.ReplaceAll(pattern, "{arch}", in.arch)
}

const staging = ".staging-"

// sweep removes what interrupted installations left. The lock is held.
func (in installer) sweep() {
	left, _ := filepath.Glob(filepath.Join(in.dir, staging+"*")) // the pattern is good
	for _, path := range left {
		os.RemoveAll(path)
	}
}

func (in installer) install(ctx context.Context, p part, from source) error {
	folder := p.folder(in.arch)
	place := filepath.Join(in.dir, "lib", folder)
	if _, err := os.Stat(place); err == nil {
		in.progress(p.name + " is installed")
		return in.link(p, folder)
	}
	stage, err := os.MkdirTemp(in.dir, staging)
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(stage)
	began := time.Now()
	in.progress("downloading " + p.name)
	if err := from(in, ctx, stage, p); err != nil {
		return err
	}
	if err := in.verify(stage, p); err != nil {
		return err
	}
	if err := readable(stage); err != nil {
		return fmt.Errorf("making it readable: %w", err)
	}
	if err := os.Rename(stage, place); err != nil {
		return fmt.Errorf("putting it in place: %w", err)
	}
	in.progress(fmt.Sprintf("%s installed in %s", p.name, time.Since(began).Round(100*time.Millisecond)))
	return in.link(p, folder)
}

// npm downloads the packages into stage. No script of a package runs: none of
// them needs one, and they would run as this user.
func (in installer) npm(ctx context.Context, stage string, p part) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return ErrNoNPM
	}
	args := []string{
		"install", "--prefix", stage, "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier",
		"--save-exact", "--os=linux", "--cpu=" + in.arch, "--libc=glibc", "--loglevel=error",
	}
	if !p.optional {
		args = append(args, "--omit=optional")
	}
	for _, pkg := range p.packages {
		args = append(args, in.fill(pkg))
	}
	cmd := exec.CommandContext(ctx, npm, args...)
	cmd.Dir = stage
	cmd.Env = os.Environ()
	if p.name != "node" { // npm chooses versions for the Node it runs on
		cmd.Env = append(cmd.Env, "PATH="+filepath.Join(in.dir, "bin")+":"+os.Getenv("PATH"))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return npmError(ctx, err, out.String())
	}
	for _, path := range p.trim {
		if err := os.RemoveAll(filepath.Join(stage, in.fill(path))); err != nil {
			return fmt.Errorf("trimming: %w", err)
		}
	}
	return nil
}

// npmError puts npm's words into ours.
func npmError(ctx context.Context, err error, out string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	tail := strings.Join(lines[max(0, len(lines)-8):], "\n")
	for _, word := range []string{"ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "CERT_", "SELF_SIGNED"} {
		if strings.Contains(out, word) {
			return fmt.Errorf("%w\n%s", ErrNetwork, tail)
		}
	}
	return fmt.Errorf("npm: %w\n%s", err, tail)
}

// verify checks that every program is there.
func (in installer) verify(stage string, p part) error {
	for _, target := range p.links {
		path := filepath.Join(stage, in.fill(target))
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("the package lacks %s", filepath.Base(path))
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// readable lets every user of a workspace read and run what is there.
func readable(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// link points bin/<name> to the part's programs, by relative links, for the
// folder is mounted elsewhere in a workspace.
func (in installer) link(p part, folder string) error {
	bin := filepath.Join(in.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", bin, err)
	}
	for _, name := range slices.Sorted(maps.Keys(p.links)) {
		target := filepath.Join("..", "lib", folder, in.fill(p.links[name]))
		link := filepath.Join(bin, name)
		if now, err := os.Readlink(link); err == nil && now == target {
			continue
		}
		tmp := filepath.Join(in.dir, staging+"link")
		if err := os.Symlink(target, tmp); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
		if err := os.Rename(tmp, link); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	return nil
}

// lock waits for the folder's lock. It is released with the process, too.
func lock(ctx context.Context, path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the folder of agents: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking the folder of agents: %w", err)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("waiting for another installation: %w", context.Cause(ctx))
		}
	}
}

const manifestName = "manifest.json"

// readManifest is empty where nothing is installed.
func readManifest(dir string) (Manifest, error) {
	m := Manifest{Parts: map[string]string{}}
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("reading the manifest: %w", err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("reading the manifest: %w", err)
	}
	if m.Parts == nil {
		m.Parts = map[string]string{}
	}
	return m, nil
}

func writeManifest(dir string, m Manifest) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}
	tmp := filepath.Join(dir, staging+"manifest")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, manifestName)); err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	return nil
}

package devcontainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// The reference CLI, pinned by its content.
const (
	toolVersion   = "0.89.0"
	toolIntegrity = "sha512-LzaoOGKQ/Zql6PsiZ4hVIYVZagzWkD65aG/1ou5/Kly5Y1PtjLg1yn7qu+LZCzVoAl6DZZ/pbz8qOO4RLNlqMg=="

	toolScript = "node_modules/@devcontainers/cli/devcontainer.js"
	tailLines  = 20
	lineLimit  = 4 << 10 // bytes kept of one line of output
)

func toolDir(dir string) string { return filepath.Join(dir, "devcontainers-cli-"+toolVersion) }

// Installed says whether Install has nothing to do.
func Installed(dir string) bool {
	_, err := os.Stat(filepath.Join(toolDir(dir), toolScript))
	return err == nil
}

// Install puts the reference CLI into dir, once per machine, with the npm on
// the PATH, whose lines progress gets; nil is fine. It is staged and moved into
// place, so a crash or a second installer leaves either nothing or all of it.
func Install(ctx context.Context, dir string, progress func(line string)) error {
	if Installed(dir) {
		return nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return &Failure{Err: ErrNoTool, Reason: "The dev container uses features, and there is no npm on this machine to install their tool with: install Node 20 or newer with npm"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("installing the dev container CLI: %w", err)
	}
	stage, err := os.MkdirTemp(dir, ".stage-")
	if err != nil {
		return fmt.Errorf("installing the dev container CLI: %w", err)
	}
	defer os.RemoveAll(stage)
	for name, text := range map[string]string{
		"package.json": `{"name":"samnode-devcontainers","version":"1.0.0","private":true,"dependencies":{"@devcontainers/cli":"` + toolVersion + `"}}`,
		"package-lock.json": `{"name":"samnode-devcontainers","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{
"":{"name":"samnode-devcontainers","version":"1.0.0","dependencies":{"@devcontainers/cli":"` + toolVersion + `"}},
"node_modules/@devcontainers/cli":{"version":"` + toolVersion + `","integrity":"` + toolIntegrity + `","bin":{"devcontainer":"devcontainer.js"}}}}`,
	} {
		if err := os.WriteFile(filepath.Join(stage, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("installing the dev container CLI: %w", err)
		}
	}
	out, err := command(ctx, stage, os.Environ(), progress, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("installing the dev container CLI: %w", err)
		}
		return &Failure{Err: err, Reason: "The tool for the dev container's features could not be installed; check that this machine reaches the npm registry", Out: out.tail()}
	}
	if err := os.Chmod(stage, 0o755); err != nil {
		return fmt.Errorf("installing the dev container CLI: %w", err)
	}
	if err := os.Rename(stage, toolDir(dir)); err != nil && !Installed(dir) {
		return fmt.Errorf("installing the dev container CLI: %w", err)
	}
	return nil
}

// output is what a tool printed, both streams as one, in lines for a person.
type output struct {
	hide     string // a prefix of paths that says nothing to a person
	progress func(string)
	lines    []string // the last ones
	partial  []byte
}

var (
	noise = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|^\\[[0-9]{4}-[0-9]{2}-[0-9T:.Z-]+\\] ?|^\\[[0-9]+ ms\\] ?")
	// Stack traces, the CLI's own result, its question whether a feature was
	// withdrawn, the client's advertisement for another builder.
	dull = regexp.MustCompile(`^\s+at .*[:(]|^\{"outcome"|control manifest|^DEPRECATED: The legacy builder|^\s+Install the buildx component|docs\.docker\.com/go/buildx|BuildKit is currently disabled|^\s+environment-variable\.$`)
)

// Write takes what the tool prints.
func (o *output) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			o.flush()
		case len(o.partial) < lineLimit:
			o.partial = append(o.partial, b)
		}
	}
	return len(p), nil
}

func (o *output) flush() {
	// Twice: a stamp may stand behind a colour.
	line := strings.TrimRight(noise.ReplaceAllString(noise.ReplaceAllString(string(o.partial), ""), ""), " \t")
	o.partial = o.partial[:0]
	if line == "" || dull.MatchString(line) {
		return
	}
	line = strings.ToValidUTF8(line, "?")
	if o.hide != "" {
		line = strings.ReplaceAll(line, o.hide, "")
	}
	if o.lines = append(o.lines, line); len(o.lines) > tailLines {
		o.lines = o.lines[1:]
	}
	if o.progress != nil {
		o.progress(line)
	}
}

func (o *output) tail() string { return strings.Join(o.lines, "\n") }

// command runs a program in dir and in its own process group, which ends with
// ctx. Paths in dir's repo folder read as the repository's.
func command(ctx context.Context, dir string, env []string, progress func(string), argv ...string) (*output, error) {
	o := &output{progress: progress, hide: filepath.Join(dir, "repo") + "/"}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir, c.Env = dir, env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	// One goroutine copies both, so the lines need no lock.
	c.Stdout, c.Stderr = o, o
	err := c.Run()
	o.flush()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		err = fmt.Errorf("running %s: %w", filepath.Base(argv[0]), err)
	}
	return o, err
}

package devcontainer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/tailscale/hujson"
)

// maxFeature bounds what is copied of a repository's local features, in bytes.
const maxFeature = 64 << 20

// stage is a folder of ours with what a build tool may read: a sanitised
// configuration, the Dockerfile, copies of local features. Only the build
// context is the repository's own folder.
type stage struct {
	dir        string
	dockerfile string
	context    string
	refused    []Refusal
}

func newStage(checkout string, d Definition, v vars, options []string) (*stage, error) {
	dir, err := os.MkdirTemp("", "samnode-devcontainer-")
	if err != nil {
		return nil, fmt.Errorf("making a build folder: %w", err)
	}
	s := &stage{dir: dir}
	if err := s.fill(checkout, d, v, options); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *stage) fill(checkout string, d Definition, v vars, options []string) error {
	for _, sub := range []string{"home", "tmp", "repo"} {
		if err := os.Mkdir(filepath.Join(s.dir, sub), 0o700); err != nil {
			return fmt.Errorf("making a build folder: %w", err)
		}
	}
	root, err := os.OpenRoot(checkout)
	if err != nil {
		return fmt.Errorf("opening the checkout: %w", err)
	}
	defer root.Close()
	if err := s.takeDockerfile(root, checkout, d, v); err != nil {
		return err
	}
	taken := make(map[string]bool)
	for _, f := range d.Features {
		if err := s.takeFeature(root, d, f, taken); err != nil {
			return err
		}
	}
	return s.writeConfig(d, v, options)
}

func (s *stage) remove() { _ = os.RemoveAll(s.dir) } // in the temporary folder; nothing depends on it

func (s *stage) config(d Definition) string {
	return filepath.Join(s.dir, "repo", filepath.FromSlash(d.Path))
}

// takeDockerfile copies the Dockerfile and finds the context. Both are opened
// through the root first, which refuses links that lead out of the checkout.
// An image becomes a Dockerfile of one line, so that there is one way to build.
func (s *stage) takeDockerfile(root *os.Root, checkout string, d Definition, v vars) error {
	s.dockerfile = filepath.Join(s.dir, "Dockerfile")
	if d.Build == nil {
		s.context = filepath.Join(s.dir, "tmp")
		return s.write("Dockerfile", []byte("FROM "+v.in(d.Image)+"\n"))
	}
	text, err := readFile(root, d.Build.Dockerfile, maxConfig)
	if err != nil {
		return invalid(d.Path, "build.dockerfile %s: %v", d.Build.Dockerfile, bare(err))
	}
	st, err := root.Stat(d.Build.Context)
	if err == nil && !st.IsDir() {
		err = errors.New("it is not a folder")
	}
	if err != nil {
		return invalid(d.Path, "build.context %s: %v", d.Build.Context, bare(err))
	}
	if line := remoteAdd(text); line != "" {
		return invalid(d.Path, "%s: %q is refused: the engine itself would fetch it, from this machine's network; use RUN curl instead", d.Build.Dockerfile, line)
	}
	s.context = filepath.Join(checkout, filepath.FromSlash(d.Build.Context))
	if ignore, err := readFile(root, d.Build.Dockerfile+".dockerignore", maxConfig); err == nil {
		if err := s.write("Dockerfile.dockerignore", ignore); err != nil {
			return err
		}
	}
	return s.write("Dockerfile", text)
}

func (s *stage) write(name string, text []byte) error {
	p := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, text, 0o600)); err != nil {
		return fmt.Errorf("filling a build folder: %w", err)
	}
	return nil
}

// takeFeature copies a local feature and the local ones that it depends on:
// folders and regular files. The CLI would follow a link and put what it finds
// on the host into the image.
func (s *stage) takeFeature(root *os.Root, d Definition, f Feature, taken map[string]bool) error {
	rel := path.Join(path.Dir(d.Path), f.ID)
	if !f.local() || taken[rel] {
		return nil
	}
	taken[rel] = true
	left := int64(maxFeature)
	err := fs.WalkDir(root.FS(), rel, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(s.dir, "repo", filepath.FromSlash(name))
		switch {
		case e.IsDir():
			return os.MkdirAll(to, 0o700)
		case !e.Type().IsRegular():
			s.refused = append(s.refused, Refusal{"link " + name, "links in a feature are not followed", "feature " + f.ID})
			return nil
		}
		text, err := readFile(root, name, left)
		if err != nil {
			return err
		}
		left -= int64(len(text))
		return os.WriteFile(to, text, 0o700)
	})
	if err != nil {
		return invalid(d.Path, "feature %s: %v", f.ID, bare(err))
	}
	for _, dep := range s.dependencies(rel) {
		if err := s.takeFeature(root, d, dep, taken); err != nil {
			return err
		}
	}
	return nil
}

// dependencies reads what a copied feature depends on. One that cannot be read
// has none here; the CLI says what is wrong with it.
func (s *stage) dependencies(rel string) []Feature {
	text, err := os.ReadFile(filepath.Join(s.dir, "repo", filepath.FromSlash(rel), "devcontainer-feature.json"))
	if err != nil {
		return nil
	}
	var f struct{ DependsOn json.RawMessage }
	if text, err = hujson.Standardize(text); err != nil || json.Unmarshal(text, &f) != nil {
		return nil
	}
	list, err := features(f.DependsOn)
	if err != nil {
		return nil
	}
	return list
}

// bare drops the operation and the path of a file error: both are in the
// sentence already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// writeConfig writes the sanitised devcontainer.json: what to build, and
// nothing else. Every variable is substituted, so the CLI has none to look up.
func (s *stage) writeConfig(d Definition, v vars, options []string) error {
	build := map[string]any{"dockerfile": s.dockerfile, "context": s.context, "args": d.args(v), "options": options}
	if d.Build != nil && d.Build.Target != "" {
		build["target"] = d.Build.Target
	}
	c := map[string]any{"name": v.in(d.Name), "build": build}
	features := make(map[string]any, len(d.Features))
	for _, f := range d.Features {
		var options any
		if err := json.Unmarshal(f.Options, &options); err != nil {
			return invalid(d.Path, "feature %s: %v", f.ID, err)
		}
		features[f.ID] = v.any(options)
	}
	c["features"] = features
	if len(d.InstallOrder) > 0 {
		c["overrideFeatureInstallOrder"] = d.InstallOrder
	}
	if d.RemoteUser != "" {
		c["remoteUser"] = v.in(d.RemoteUser)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("writing the sanitised configuration: %w", err)
	}
	return s.write(path.Join("repo", d.Path), text)
}

// args are the build arguments with their variables substituted.
func (d Definition) args(v vars) map[string]string {
	args := make(map[string]string)
	if d.Build == nil {
		return args
	}
	for k, val := range d.Build.Args {
		args[k] = v.in(val)
	}
	return args
}

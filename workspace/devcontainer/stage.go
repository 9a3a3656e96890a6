package devcontainer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// maxFeature bounds what is copied of a repository's local features, in bytes.
const maxFeature = 64 << 20

// stage is a folder of ours with what a build tool may read: a sanitised
// configuration, the Dockerfile, copies of local features. Only the build
// context is the repository's own folder.
type stage struct {
	dir        string
	dockerfile string // empty: the definition has an image
	context    string
	refused    []Refusal
}

func newStage(checkout string, d Definition, v vars, network string) (s *stage, err error) {
	dir, err := os.MkdirTemp("", "samnode-devcontainer-")
	if err != nil {
		return nil, fmt.Errorf("making a build folder: %w", err)
	}
	s = &stage{dir: dir}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	for _, sub := range []string{"home", "tmp", "repo"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("making a build folder: %w", err)
		}
	}
	root, err := os.OpenRoot(checkout)
	if err != nil {
		return nil, fmt.Errorf("opening the checkout: %w", err)
	}
	defer root.Close()
	if err := s.takeDockerfile(root, checkout, d); err != nil {
		return nil, err
	}
	for _, f := range d.Features {
		if !f.local() {
			continue
		}
		if err := s.takeFeature(root, d, f); err != nil {
			return nil, err
		}
	}
	return s, s.writeConfig(d, v, network)
}

func (s *stage) remove() { _ = os.RemoveAll(s.dir) } // in the temporary folder; nothing depends on it

func (s *stage) config(d Definition) string {
	return filepath.Join(s.dir, "repo", filepath.FromSlash(d.Path))
}

// takeDockerfile copies the Dockerfile and finds the context. Both are opened
// through the root first, which refuses links that lead out of the checkout.
func (s *stage) takeDockerfile(root *os.Root, checkout string, d Definition) error {
	if d.Build == nil {
		return nil
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
	s.dockerfile = filepath.Join(s.dir, "Dockerfile")
	s.context = filepath.Join(checkout, filepath.FromSlash(d.Build.Context))
	if err := os.WriteFile(s.dockerfile, text, 0o600); err != nil {
		return fmt.Errorf("making a build folder: %w", err)
	}
	if ignore, err := readFile(root, d.Build.Dockerfile+".dockerignore", maxConfig); err == nil {
		return os.WriteFile(s.dockerfile+".dockerignore", ignore, 0o600)
	}
	return nil
}

// takeFeature copies a local feature: folders and regular files. The CLI would
// follow a link and put what it finds on the host into the image.
func (s *stage) takeFeature(root *os.Root, d Definition, f Feature) error {
	rel := path.Join(path.Dir(d.Path), f.ID)
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
	return nil
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
func (s *stage) writeConfig(d Definition, v vars, network string) error {
	c := map[string]any{"name": v.in(d.Name)}
	if d.Build == nil {
		c["image"] = v.in(d.Image)
	} else {
		b := map[string]any{"dockerfile": s.dockerfile, "context": s.context, "args": d.args(v)}
		if d.Build.Target != "" {
			b["target"] = d.Build.Target
		}
		if network != "" {
			b["options"] = []string{"--network=" + network}
		}
		c["build"] = b
	}
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
	if err := os.MkdirAll(filepath.Dir(s.config(d)), 0o700); err != nil {
		return fmt.Errorf("writing the sanitised configuration: %w", err)
	}
	if err := os.WriteFile(s.config(d), text, 0o600); err != nil {
		return fmt.Errorf("writing the sanitised configuration: %w", err)
	}
	return nil
}

// args are the build arguments with their variables substituted.
func (d Definition) args(v vars) map[string]string {
	args := make(map[string]string, len(d.Build.Args))
	for k, val := range d.Build.Args {
		args[k] = v.in(val)
	}
	return args
}

package devcontainer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
)

// keyVersion is part of every key; raise it when builds change their result.
const keyVersion = "2"

// readsContext finds what makes a Dockerfile depend on its context.
var readsContext = regexp.MustCompile(`(?im)^\s*(?:ONBUILD\s+)?(?:COPY|ADD)\s|--mount`)

// key names the image that a stage would build: equal keys, equal images, as
// far as the repository decides. A moving base tag or feature tag is not seen;
// that is what Request.Rebuild is for.
func (s *stage) key(d Definition, network string) (string, error) {
	h := sha256.New()
	shared, isShared := strings.CutPrefix(network, "container:")
	if isShared { // its name differs from task to task
		network = "container"
	}
	fmt.Fprintf(h, "%s\n%s\n%s\n", keyVersion, toolVersion, network)
	config, err := os.ReadFile(s.config(d))
	if err != nil {
		return "", fmt.Errorf("hashing the build: %w", err)
	}
	// The stage's own name differs each time, and so does the checkout's.
	text := strings.NewReplacer(s.dir, "", s.context, "", "--network=container:"+shared, "").Replace(string(config))
	fmt.Fprintln(h, text)
	repo, err := os.OpenRoot(s.dir)
	if err != nil {
		return "", fmt.Errorf("hashing the build: %w", err)
	}
	defer repo.Close()
	for _, f := range d.Features {
		if f.local() {
			if err := hashTree(h, repo, "repo", path.Join("repo", d.Path)); err != nil {
				return "", err
			}
			break
		}
	}
	if err := s.hashBuild(h, d, repo); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

func (s *stage) hashBuild(h hash.Hash, d Definition, stage *os.Root) error {
	text, err := readFile(stage, "Dockerfile", maxConfig)
	if err != nil {
		return fmt.Errorf("hashing the build: %w", err)
	}
	fmt.Fprintf(h, "%d\n%s\n", len(text), text)
	if d.Build == nil || !readsContext.Match(text) {
		return nil
	}
	context, err := os.OpenRoot(s.context)
	if err != nil {
		return fmt.Errorf("hashing the build: %w", err)
	}
	defer context.Close()
	return hashTree(h, context, ".", "")
}

// hashTree hashes names, modes and contents, of all but one file. Git's own
// folder changes with every fetch and is left out too.
func hashTree(h hash.Hash, root *os.Root, dir, but string) error {
	err := fs.WalkDir(root.FS(), dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && e.Name() == ".git" {
			return fs.SkipDir
		}
		if name == but {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %o %d\n", name, info.Mode()&(fs.ModeType|0o111), info.Size())
		switch {
		case info.Mode().IsRegular():
			f, err := root.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := root.Readlink(name)
			fmt.Fprintf(h, "%q\n", to)
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("hashing the build: %w", err)
	}
	return nil
}

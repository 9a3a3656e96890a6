package devcontainer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxConfig bounds a devcontainer.json, in bytes.
const maxConfig = 1 << 20

// Find lists the configurations of a checkout, the default one first:
// .devcontainer/devcontainer.json, .devcontainer.json, and those in the
// folders of .devcontainer in alphabetical order. One that does not parse is
// listed too, for choosing it is how its error is seen.
func Find(checkout string) ([]Found, error) {
	root, err := os.OpenRoot(checkout)
	if err != nil {
		return nil, fmt.Errorf("opening the checkout: %w", err)
	}
	defer root.Close()
	candidates := []string{".devcontainer/devcontainer.json", ".devcontainer.json"}
	// The folder is the repository's: a link out of the checkout is "not there".
	if entries, err := fs.ReadDir(root.FS(), ".devcontainer"); err == nil {
		for _, e := range entries {
			if e.IsDir() {
				candidates = append(candidates, ".devcontainer/"+e.Name()+"/devcontainer.json")
			}
		}
	}
	var found []Found
	for _, c := range candidates {
		if st, err := root.Stat(c); err != nil || !st.Mode().IsRegular() {
			continue
		}
		f := Found{Path: c, Name: path.Base(path.Dir(c))}
		if cfg, err := read(root, c); err == nil && cfg.Name != "" {
			f.Name = cfg.Name
		} else if strings.HasPrefix(f.Name, ".") {
			f.Name = "default"
		}
		found = append(found, f)
	}
	return found, nil
}

// Read parses the configuration at a path that Find returned. Errors are
// ErrInvalid with the line and column, or ErrCompose.
func Read(checkout, config string) (Definition, error) {
	root, err := os.OpenRoot(checkout)
	if err != nil {
		return Definition{}, fmt.Errorf("opening the checkout: %w", err)
	}
	defer root.Close()
	return read(root, config)
}

func read(root *os.Root, config string) (Definition, error) {
	text, err := readFile(root, config, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return Definition{}, invalid(config, "there is no such file")
	}
	if err != nil {
		return Definition{}, invalid(config, "%v", err)
	}
	return parse(config, text)
}

func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d KiB", limit>>10)
	}
	return text, err
}

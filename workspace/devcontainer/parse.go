package devcontainer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

const fromConfig = "devcontainer.json"

// file mirrors the parts of a devcontainer.json that we read. What may be of
// several shapes stays raw.
type file struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	Build *struct {
		Dockerfile string            `json:"dockerfile"`
		Context    string            `json:"context"`
		Args       map[string]string `json:"args"`
		Target     string            `json:"target"`
		Options    []string          `json:"options"`
	} `json:"build"`
	DockerFile    string             `json:"dockerFile"` // the older spelling of build.dockerfile
	Context       string             `json:"context"`
	Compose       json.RawMessage    `json:"dockerComposeFile"`
	Features      json.RawMessage    `json:"features"`
	Order         []string           `json:"overrideFeatureInstallOrder"`
	ContainerEnv  map[string]string  `json:"containerEnv"`
	RemoteEnv     map[string]*string `json:"remoteEnv"`
	RemoteUser    string             `json:"remoteUser"`
	ContainerUser string             `json:"containerUser"`
	Folder        string             `json:"workspaceFolder"`
	ForwardPorts  []json.RawMessage  `json:"forwardPorts"`
	Host          struct {
		CPUs    json.Number     `json:"cpus"`
		Memory  string          `json:"memory"`
		Storage string          `json:"storage"`
		GPU     json.RawMessage `json:"gpu"`
	} `json:"hostRequirements"`
	lifecycle
	policed
}

// lifecycle holds the hooks, in the order in which they run.
type lifecycle struct {
	OnCreate      json.RawMessage `json:"onCreateCommand"`
	UpdateContent json.RawMessage `json:"updateContentCommand"`
	PostCreate    json.RawMessage `json:"postCreateCommand"`
	PostStart     json.RawMessage `json:"postStartCommand"`
}

// parse reads a devcontainer.json: JSON with comments and trailing commas.
func parse(config string, text []byte) (Definition, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	std, err := hujson.Standardize(text)
	if err != nil { // "hujson: line 3, column 5: ..."
		return Definition{}, invalid(config, "%s", strings.TrimPrefix(err.Error(), "hujson: "))
	}
	var f file
	if err := json.Unmarshal(std, &f); err != nil {
		var t *json.UnmarshalTypeError
		if errors.As(err, &t) { // Standardize keeps every byte in its place
			line, column := place(text, t.Offset)
			return Definition{}, invalid(config, "line %d, column %d: %q is a %s, it must be a %s", line, column, t.Field, t.Value, kind(t.Type.String()))
		}
		return Definition{}, invalid(config, "%v", err)
	}
	if isSet(f.Compose) {
		return Definition{}, &Failure{Err: ErrCompose, Reason: config + ": " + ErrCompose.Error()}
	}
	c := Definition{
		Path: config, Name: f.Name, Image: f.Image, InstallOrder: f.Order,
		ContainerEnv: f.ContainerEnv, RemoteEnv: f.RemoteEnv,
		RemoteUser: f.RemoteUser, WorkspaceFolder: f.Folder,
		Refused: f.refused(fromConfig),
	}
	if c.RemoteUser == "" {
		c.RemoteUser = f.ContainerUser
	}
	if err := c.takeBuild(f); err != nil {
		return Definition{}, err
	}
	if c.Features, err = features(f.Features); err != nil {
		return Definition{}, invalid(config, "features: %v", err)
	}
	if c.Hooks, err = f.hooks(fromConfig); err != nil {
		return Definition{}, invalid(config, "%v", err)
	}
	if c.HostRequirements, err = f.requirements(); err != nil {
		return Definition{}, invalid(config, "hostRequirements: %v", err)
	}
	for _, p := range f.ForwardPorts { // "db:5432" is another container's, of compose
		if n, err := strconv.Atoi(string(p)); err == nil && n > 0 && n < 1<<16 {
			c.ForwardPorts = append(c.ForwardPorts, n)
		}
	}
	return c, nil
}

// takeBuild fills Image or Build; paths become relative to the checkout.
func (c *Definition) takeBuild(f file) error {
	b := Build{Dockerfile: f.DockerFile, Context: f.Context}
	if f.Build != nil {
		b.Args, b.Target = f.Build.Args, f.Build.Target
		if f.Build.Dockerfile != "" {
			b.Dockerfile = f.Build.Dockerfile
		}
		if f.Build.Context != "" {
			b.Context = f.Build.Context
		}
		if len(f.Build.Options) > 0 {
			c.Refused = append(c.Refused, Refusal{"build.options", "they can read and write files of the host", fromConfig})
		}
	}
	switch {
	case b.Dockerfile == "" && c.Image == "":
		return invalid(c.Path, `it names neither "image" nor "build.dockerfile"`)
	case b.Dockerfile == "":
		if strings.HasPrefix(c.Image, "-") || strings.ContainsAny(c.Image, " \t\r\n") {
			return invalid(c.Path, "%q is not the name of an image", c.Image)
		}
		return nil
	}
	c.Image = "" // the build wins, as in the reference CLI
	here := path.Dir(c.Path)
	b.Dockerfile, b.Context = path.Join(here, b.Dockerfile), path.Join(here, b.Context)
	for _, p := range []string{b.Dockerfile, b.Context} {
		if p == ".." || strings.HasPrefix(p, "../") || path.IsAbs(p) {
			return invalid(c.Path, "build: %s is outside the repository", p)
		}
	}
	c.Build = &b
	return nil
}

// features keeps the order of the file, which a map would lose.
func features(raw json.RawMessage) ([]Feature, error) {
	if !isSet(raw) {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it must be an object")
	}
	var list []Feature
	for dec.More() {
		id, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var options json.RawMessage
		if err := dec.Decode(&options); err != nil {
			return nil, err
		}
		list = append(list, Feature{ID: id.(string), Options: options})
	}
	return list, nil
}

// hooks reads the lifecycle commands. postAttachCommand has no counterpart:
// nobody attaches an editor before the agent starts.
func (l lifecycle) hooks(from string) ([]Hook, error) {
	var hooks []Hook
	for _, h := range []struct {
		name string
		raw  json.RawMessage
		once bool
	}{
		{"onCreateCommand", l.OnCreate, true},
		{"updateContentCommand", l.UpdateContent, true},
		{"postCreateCommand", l.PostCreate, true},
		{"postStartCommand", l.PostStart, false},
	} {
		if !isSet(h.raw) {
			continue
		}
		cmds, err := commands(h.raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.name, err)
		}
		if len(cmds) > 0 {
			hooks = append(hooks, Hook{Name: h.name, From: from, Once: h.once, Commands: cmds})
		}
	}
	return hooks, nil
}

// commands reads a string (for a shell), a list (an argv), or an object of
// either (in parallel).
func commands(raw json.RawMessage) ([]Command, error) {
	if argv, err := argv(raw); err == nil {
		if len(argv) == 0 {
			return nil, nil
		}
		return []Command{{Argv: argv}}, nil
	}
	var named map[string]json.RawMessage
	if err := json.Unmarshal(raw, &named); err != nil {
		return nil, errors.New("it must be a string, a list of strings, or an object of those")
	}
	var list []Command
	for name, r := range named {
		argv, err := argv(r)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if len(argv) > 0 {
			list = append(list, Command{Name: name, Argv: argv})
		}
	}
	slices.SortFunc(list, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func argv(raw json.RawMessage) ([]string, error) {
	var line string
	if json.Unmarshal(raw, &line) == nil {
		if strings.TrimSpace(line) == "" {
			return nil, nil
		}
		return []string{"/bin/sh", "-c", line}, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list, nil
	}
	return nil, errors.New("it must be a string or a list of strings")
}

func (f file) requirements() (HostRequirements, error) {
	var h HostRequirements
	var err error
	if f.Host.CPUs != "" {
		if h.CPUs, err = strconv.Atoi(f.Host.CPUs.String()); err != nil {
			return h, fmt.Errorf("cpus: %q is not a whole number", f.Host.CPUs)
		}
	}
	if h.Memory, err = size(f.Host.Memory); err != nil {
		return h, fmt.Errorf("memory: %w", err)
	}
	if h.Storage, err = size(f.Host.Storage); err != nil {
		return h, fmt.Errorf("storage: %w", err)
	}
	gpu := strings.Trim(string(f.Host.GPU), `"`)
	h.GPU = gpu != "" && gpu != "false" && gpu != "null" && gpu != "optional"
	return h, nil
}

// size reads "8gb" and its like; the specification's units are powers of 1024.
func size(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	low := strings.ToLower(strings.TrimSpace(s))
	shift := 0
	for unit, sh := range map[string]int{"tb": 40, "gb": 30, "mb": 20, "kb": 10} {
		if n, ok := strings.CutSuffix(low, unit); ok {
			low, shift = n, sh
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(low), 10, 64)
	if err != nil || n < 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is not a size like 8gb", s)
	}
	return n << shift, nil
}

func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// place turns an offset into a line and column, both from 1.
func place(text []byte, offset int64) (line, column int) {
	before := text[:min(int(offset), len(text))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// kind names a Go type the way JSON does.
func kind(goType string) string {
	switch {
	case strings.HasPrefix(goType, "map["), strings.HasPrefix(goType, "struct"), strings.HasPrefix(goType, "*struct"):
		return "object"
	case strings.HasPrefix(goType, "[]"):
		return "list"
	case goType == "int" || goType == "json.Number":
		return "number"
	}
	return strings.TrimPrefix(goType, "*")
}

package devcontainer

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var variable = regexp.MustCompile(`\$\{([A-Za-z]+)(?::([^:}]*))?(?::([^}]*))?\}`)

// vars substitutes a configuration's variables. The host's environment is
// empty here: what the repository names it would otherwise read.
type vars struct {
	folder string            // of the repository in the container
	id     string            // ${devcontainerId}
	env    map[string]string // of the container; nil: not known yet
}

func (v vars) in(s string) string {
	return variable.ReplaceAllStringFunc(s, func(m string) string {
		p := variable.FindStringSubmatch(m)
		name, key, fallback := p[1], p[2], p[3]
		switch name {
		case "localEnv", "env":
			return fallback
		case "containerEnv":
			if v.env == nil {
				return m
			}
			if val, ok := v.env[key]; ok {
				return val
			}
			return fallback
		case "localWorkspaceFolder", "containerWorkspaceFolder":
			return v.folder
		case "localWorkspaceFolderBasename", "containerWorkspaceFolderBasename":
			return path.Base(v.folder)
		case "devcontainerId":
			return v.id
		}
		return m
	})
}

// hooks returns a copy with every argument substituted.
func (v vars) hooks(hooks []Hook) []Hook {
	out := slices.Clone(hooks)
	for i, h := range out {
		cmds := slices.Clone(h.Commands)
		for j, c := range cmds {
			argv := make([]string, len(c.Argv))
			for k, a := range c.Argv {
				argv[k] = v.in(a)
			}
			cmds[j].Argv = argv
		}
		out[i].Commands = cmds
	}
	return out
}

// any substitutes the strings of a decoded JSON value.
func (v vars) any(x any) any {
	switch x := x.(type) {
	case string:
		return v.in(x)
	case []any:
		for i := range x {
			x[i] = v.any(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = v.any(x[k])
		}
	}
	return x
}

// environ makes a map of "K=V".
func environ(list []string) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		k, val, _ := strings.Cut(kv, "=")
		m[k] = val
	}
	return m
}

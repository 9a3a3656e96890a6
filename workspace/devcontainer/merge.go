package devcontainer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/samnode/samnode/workspace/docker"
)

// merge joins what the image's label (its own settings, then those of the
// features) and the configuration ask for, in this order.
func merge(d Definition, image docker.ImageInfo, v vars) (Result, error) {
	labels, err := layers(image.Labels[LabelMetadata])
	if err != nil {
		return Result{}, err
	}
	r := Result{
		Name: d.Name, ForwardPorts: d.ForwardPorts, HostRequirements: d.HostRequirements, Refused: d.Refused,
	}
	user, hooks := "", []Hook(nil)
	env, remote := map[string]string{}, map[string]*string{}
	for _, l := range labels {
		h, err := l.hooks(l.from())
		if err != nil {
			return Result{}, fmt.Errorf("%s: %w", l.from(), err)
		}
		hooks = append(hooks, h...)
		maps.Copy(env, l.ContainerEnv)
		maps.Copy(remote, l.RemoteEnv)
		r.Refused = append(r.Refused, l.refused(l.from())...)
		for _, u := range []string{l.ContainerUser, l.RemoteUser} {
			if u != "" {
				user = u
			}
		}
	}
	hooks = append(hooks, d.Hooks...)
	maps.Copy(env, d.ContainerEnv)
	maps.Copy(remote, d.RemoteEnv)
	if d.RemoteUser != "" {
		user = d.RemoteUser
	}
	if user == "root" || user == "0" {
		r.Refused = append(r.Refused, Refusal{"remoteUser root", "everything in a workspace runs as uid 1000", fromConfig})
	}
	if d.WorkspaceFolder != "" && v.in(d.WorkspaceFolder) != v.folder {
		r.Refused = append(r.Refused, Refusal{"workspaceFolder", "the repository is at " + v.folder, fromConfig})
	}
	v.env = environ(image.Env)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		val := v.in(env[k])
		r.Env = append(r.Env, k+"="+val)
		v.env[k] = val
	}
	for _, k := range slices.Sorted(maps.Keys(remote)) {
		if remote[k] != nil {
			r.RemoteEnv = append(r.RemoteEnv, k+"="+v.in(*remote[k]))
		}
	}
	// All of one kind before the next kind; within a kind the order above.
	order := []string{"onCreateCommand", "updateContentCommand", "postCreateCommand", "postStartCommand"}
	slices.SortStableFunc(hooks, func(a, b Hook) int {
		return slices.Index(order, a.Name) - slices.Index(order, b.Name)
	})
	r.Hooks = v.hooks(hooks)
	return r, nil
}

var (
	ranFailed  = regexp.MustCompile(`returned a non-zero code|did not complete successfully`)
	registryNo = regexp.MustCompile(`pull access denied|manifest unknown|manifest for .* not found|no such host|failed to resolve|` +
		`[Tt]emporary failure in name resolution|connection refused|i/o timeout|request canceled|TLS handshake|network is unreachable|` +
		`No manifest found|Error fetching image details|Could not resolve [Ff]eature|Error response from daemon: Get |ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EAI_AGAIN`)
	telling = regexp.MustCompile(`(?i)returned a non-zero code| failed: |did not complete successfully|^error|dockerfile parse error|unknown instruction|failed to|could not`)
)

// failure makes a sentence of a build that ended badly.
func failure(ctx context.Context, config string, out *output, err error) error {
	tail := out.tail()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("building %s: %w", config, err)
	case strings.Contains(tail, "no space left on device"):
		return &Failure{Err: docker.ErrDiskFull, Reason: "Building " + config + ": " + docker.ErrDiskFull.Error(), Out: tail}
	case strings.Contains(tail, "Cannot connect to the Docker daemon"):
		return &Failure{Err: docker.ErrNoEngine, Reason: "Building " + config + ": " + docker.ErrNoEngine.Error(), Out: tail}
	case registryNo.MatchString(tail) && !ranFailed.MatchString(tail):
		return &Failure{Err: ErrNoBase, Out: tail, Reason: config +
			" needs an image or a feature that cannot be fetched from here; check its name, and that this machine reaches its registry"}
	}
	return &Failure{Err: ErrBuild, Reason: "Building " + config + " failed: " + cmp.Or(tellingLine(out.lines), err.Error()), Out: tail}
}

// tellingLine is the last line that says why. That the CLI's own command failed
// is the least of it, and may come before or after the rest.
func tellingLine(lines []string) (least string) {
	for _, l := range slices.Backward(lines) {
		switch {
		case !telling.MatchString(l):
		case !strings.HasPrefix(l, "Error: Command failed: "):
			return l
		case least == "":
			least = l
		}
	}
	return least
}

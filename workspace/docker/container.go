package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
)

// State of a container.
type State struct {
	ID, Name   string
	Image      string // its id
	Labels     map[string]string
	Running    bool
	ExitCode   int    // of the last run; 137 also after a kill for memory
	OOMKilled  bool   // on cgroup v1 it stays false while PID 1 lives
	Error      string // why the engine could not start it
	Created    time.Time
	StartedAt  time.Time // zero: never
	FinishedAt time.Time // zero: never
}

// Create makes the container of s, with the hardened profile, and leaves it
// stopped. A container of that name and the same mesh, task and workspace is
// adopted when it runs or was made from an equal Spec, and made anew
// otherwise; any other is ErrForeign. A missing image is ErrNoImage. Missing
// volumes are made, with the container's labels.
func (e *Engine) Create(ctx context.Context, s Spec) (id string, err error) {
	if err := s.validate(); err != nil {
		return "", err
	}
	labels := e.labels(s.Labels)
	if id, err = e.adopt(ctx, s, labels); id != "" || err != nil {
		return id, err
	}
	for _, v := range []string{s.Volume, s.Home} {
		if v == "" || strings.HasPrefix(v, "/") {
			continue
		}
		if err := e.CreateVolume(ctx, v, labels); err != nil {
			return "", err
		}
	}
	config := s.config(labels) // the digest is of what was asked for, before the machine's bounds
	if s.CPUs, err = e.limitCPUs(ctx, s.CPUs); err != nil {
		return "", err
	}
	c, err := e.api.ContainerCreate(ctx, config, s.host(), nil, nil, s.Name)
	if cerrdefs.IsConflict(err) { // made in the meantime, or by a call whose answer was lost
		id, err = e.adopt(ctx, s, labels)
		if id == "" && err == nil {
			err = ErrLost
		}
		return id, err
	}
	if err != nil {
		return "", wrap("creating container "+s.Name, err)
	}
	for _, w := range c.Warnings {
		e.log.WarnContext(ctx, "engine warns about a container", "container", s.Name, "warning", w)
	}
	if err := e.giveVolumes(ctx, c.ID, s); err != nil {
		_ = e.Remove(context.WithoutCancel(ctx), c.ID) // the next Create makes it anew
		return "", err
	}
	return c.ID, nil
}

// adopt finds the container that a Create for s would collide with. An empty
// id without an error: there is none (any more).
func (e *Engine) adopt(ctx context.Context, s Spec, labels map[string]string) (string, error) {
	c, err := e.api.ContainerInspect(ctx, s.Name)
	if cerrdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", wrap("looking for container "+s.Name, err)
	}
	for _, l := range []string{LabelOwner, LabelMesh, LabelTask, LabelWorkspace} {
		if have, ok := c.Config.Labels[l]; !ok || have != labels[l] {
			return "", fmt.Errorf("container %s: label %s is %q, not %q: %w", s.Name, l, have, labels[l], ErrForeign)
		}
	}
	if c.State.Running || c.Config.Labels[labelSpec] == s.digest() {
		return c.ID, nil
	}
	e.log.InfoContext(ctx, "making a container anew, its settings changed", "container", s.Name)
	return "", e.Remove(ctx, c.ID)
}

// ours inspects a container and refuses one without our labels.
func (e *Engine) ours(ctx context.Context, id string) (container.InspectResponse, error) {
	c, err := e.api.ContainerInspect(ctx, id)
	if err != nil {
		return c, wrap("looking for container "+id, err)
	}
	if !e.owned(c.Config.Labels) {
		return c, fmt.Errorf("container %s: %w", id, ErrForeign)
	}
	return c, nil
}

// Start starts a container by id or name; one that runs stays as it is.
func (e *Engine) Start(ctx context.Context, id string) error {
	if _, err := e.ours(ctx, id); err != nil {
		return err
	}
	return wrap("starting container "+id, e.api.ContainerStart(ctx, id, container.StartOptions{}))
}

// Stop sends SIGTERM and, after grace, SIGKILL. It returns when the container
// has stopped; one that is stopped or gone is no error.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	c, err := e.ours(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || !c.State.Running {
		return err
	}
	seconds := int(math.Ceil(grace.Seconds()))
	err = wrap("stopping container "+id, e.api.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Remove kills and removes a container and its anonymous volumes; named ones
// stay. One that is gone is no error.
func (e *Engine) Remove(ctx context.Context, id string) error {
	_, err := e.ours(ctx, id)
	if err == nil {
		err = wrap("removing container "+id, e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true}))
	}
	if errors.Is(err, ErrNotFound) || cerrdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		return nil
	}
	return err
}

// Inspect tells a container's State by id or name, or ErrNotFound.
func (e *Engine) Inspect(ctx context.Context, id string) (State, error) {
	c, err := e.ours(ctx, id)
	if err != nil {
		return State{}, err
	}
	if c.State.Status == "removing" { // as good as gone; what it says of its run is not true
		return State{}, fmt.Errorf("container %s is being removed: %w", id, ErrNotFound)
	}
	return State{
		ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Image: c.Image, Labels: c.Config.Labels,
		Running: c.State.Running, ExitCode: c.State.ExitCode, OOMKilled: c.State.OOMKilled, Error: c.State.Error,
		Created: moment(c.Created), StartedAt: moment(c.State.StartedAt), FinishedAt: moment(c.State.FinishedAt),
	}, nil
}

// moment reads the engine's timestamps; its "never" is the year 1.
func moment(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// Wait blocks until the container does not run and returns its State.
// ErrNotFound when it is removed meanwhile, ErrLost when the engine restarts.
func (e *Engine) Wait(ctx context.Context, id string) (State, error) {
	s, err := e.Inspect(ctx, id)
	if err != nil || !s.Running {
		return s, err
	}
	done, failed := e.api.ContainerWait(ctx, s.ID, container.WaitConditionNotRunning)
	select {
	case <-done:
	case err := <-failed:
		return State{}, wrap("waiting for container "+id, err)
	}
	return e.Inspect(ctx, s.ID)
}

// List returns the State of every container of ours that carries all the
// labels given, running or not, without exit codes and times of runs.
func (e *Engine) List(ctx context.Context, labels map[string]string) ([]State, error) {
	found, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: e.filter(labels)})
	if err != nil {
		return nil, wrap("listing containers", err)
	}
	list := make([]State, 0, len(found))
	for _, c := range found {
		s := State{ID: c.ID, Image: c.ImageID, Labels: c.Labels, Running: c.State == "running", Created: time.Unix(c.Created, 0).UTC()}
		if len(c.Names) > 0 {
			s.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		list = append(list, s)
	}
	return list, nil
}

// filter matches what is ours and carries the labels.
func (e *Engine) filter(labels map[string]string) filters.Args {
	f := filters.NewArgs(filters.Arg("label", LabelOwner+"=1"))
	if e.mesh != "" {
		f.Add("label", LabelMesh+"="+e.mesh)
	}
	for k, v := range labels {
		f.Add("label", k+"="+v)
	}
	return f
}

// Logs returns the last lines that the container's command printed.
func (e *Engine) Logs(ctx context.Context, id string, lines int) (string, error) {
	if _, err := e.ours(ctx, id); err != nil {
		return "", err
	}
	r, err := e.api.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return "", wrap("reading the log of container "+id, err)
	}
	defer r.Close()
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, r); err != nil {
		return "", wrap("reading the log of container "+id, err)
	}
	return text.String(), nil
}

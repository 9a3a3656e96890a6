package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
)

// Event is something that happened to a container of ours.
type Event struct {
	ID, Name string
	Labels   map[string]string
	Action   string // "create", "start", "oom", "die", "destroy" and the engine's others
	ExitCode int    // of "die"
	At       time.Time
}

// Events calls fn for everything that happens to containers of ours that carry
// all the labels, from now on. It blocks until ctx ends (context.Cause) or the
// engine goes away (ErrLost, ErrNoEngine); events in between are lost, so List
// after each new call.
func (e *Engine) Events(ctx context.Context, labels map[string]string, fn func(Event)) error {
	f := e.filter(labels)
	f.Add("type", string(events.ContainerEventType))
	msgs, errs := e.api.Events(ctx, events.ListOptions{Filters: f})
	for {
		select {
		case m := <-msgs:
			ev := Event{ID: m.Actor.ID, Name: m.Actor.Attributes["name"], Labels: m.Actor.Attributes, Action: string(m.Action), At: time.Unix(0, m.TimeNano).UTC()}
			if code, err := strconv.Atoi(m.Actor.Attributes["exitCode"]); err == nil {
				ev.ExitCode = code
			}
			fn(ev)
		case err := <-errs:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return wrap("watching containers", err)
		}
	}
}

package remote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
)

// Config makes a Room.
type Config struct {
	Client *http.Client
	Node   chat.Node // this one
	// Base is the URL of a core node's server, and is asked before each call.
	Base func() string
	// Lost is told that the node at Base did not answer; nil: nobody is told.
	Lost   func()
	Logger *slog.Logger // nil: none
}

// Room is the part of the chat that concerns this node's leases. Its methods
// may be called from any goroutine; what they return belongs to the caller.
type Room struct {
	c Config

	mu       sync.Mutex
	seen     uint64                    // newest log index of an answer
	tasks    map[chat.TaskID]chat.Task // newest that is known of tasks that are or were this node's
	told     map[chat.TaskID]bool      // tasks that TasksSince gave with a lease
	projects map[chat.ProjectID]project
	polled   time.Time // when TasksSince last asked
	warned   time.Time // when it was last logged that nobody answers
}

// project is one as it was known some time ago.
type project struct {
	chat.Project
	asked time.Time
}

// The pace of a client.
const (
	pollPause    = 50 * time.Millisecond // least time between two calls for changes
	firstPause   = 50 * time.Millisecond // before a call is tried again
	mostPause    = 2 * time.Second
	warnEvery    = 30 * time.Second
	projectFresh = 2 * time.Second // what is known for less is not asked again
	projectWait  = time.Second     // for an answer, where an older one is known
	maxStubs     = 1000            // ended tasks that are remembered
)

// New returns a Room that asks when it is asked.
func New(c Config) *Room {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Lost == nil {
		c.Lost = func() {}
	}
	return &Room{c: c, tasks: map[chat.TaskID]chat.Task{}, told: map[chat.TaskID]bool{}, projects: map[chat.ProjectID]project{}}
}

// TasksSince waits until a task changed after that log index of which this node
// has the lease, or had it when TasksSince last gave it, and returns those that
// did with the next cursor. Of a task whose lease has ended there is no more
// than its id, its index and the number of its workspace.
func (r *Room) TasksSince(ctx context.Context, after uint64) ([]chat.Task, uint64, error) {
	for {
		if err := r.pace(ctx); err != nil {
			return nil, after, err
		}
		r.mu.Lock()
		in := tasksCall{seen: seen{r.seen}, After: after, Known: slices.Sorted(maps.Keys(r.told))}
		r.mu.Unlock()
		out, err := r.ask(ctx, pathTasks, in, pollFor+margin)
		if err == nil {
			err = out.Outcome.Err()
		}
		if err != nil {
			return nil, after, fmt.Errorf("waiting for tasks: %w", err)
		}
		after = max(after, out.Next)
		if len(out.Tasks) > 0 {
			r.tellAll(out.Tasks)
			return out.Tasks, after, nil
		}
	}
}

// pace keeps calls for changes apart: while an agent talks, there is always a
// change.
func (r *Room) pace(ctx context.Context) error {
	r.mu.Lock()
	wait := time.Until(r.polled.Add(pollPause))
	r.polled = time.Now().Add(max(wait, 0))
	r.mu.Unlock()
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Room) tellAll(tasks []chat.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tasks {
		if t.Lease != nil {
			r.told[t.ID] = true
		} else {
			delete(r.told, t.ID)
		}
	}
}

// Do proposes an op and waits until a core node has applied it, which it tries
// with the same id until ctx ends. A refusal is chat's, as of [chat.Room.Do].
func (r *Room) Do(ctx context.Context, by chat.Author, id string, op chat.Op) (uint64, error) {
	if id == "" {
		id = chat.NewID()
	}
	if _, err := chat.Encode(chat.Command{ID: id, Author: by, Op: op}); err != nil {
		return 0, err // what the log would refuse is not sent
	}
	out, err := r.ask(ctx, pathDo, doCall{seen: r.sight(), ID: id, By: by, Op: op}, doFor+margin)
	if err != nil {
		return 0, fmt.Errorf("proposing command %s: %w", id, err)
	}
	return out.Outcome.Index, out.Outcome.Err()
}

// Task returns a task by its id. One whose lease this node has is as of the
// newest answer, without a call; another is read anew, and is a stub as in
// TasksSince.
func (r *Room) Task(id string) (chat.Task, error) {
	t, known := r.known(chat.TaskID(id))
	if known && t.Lease != nil {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), boundFor)
	defer cancel()
	out, err := r.ask(ctx, pathTask, taskCall{r.sight(), chat.TaskID(id)}, readFor)
	switch {
	case err != nil && known:
		return t, nil // a lease that has ended does not come back unheard of
	case err != nil:
		return chat.Task{}, fmt.Errorf("reading task %.40q: %w", id, err)
	case out.Outcome.Err() != nil:
		return chat.Task{}, out.Outcome.Err()
	}
	t, _ = r.known(chat.TaskID(id))
	return t, nil
}

// known is the newest that is known of a task.
func (r *Room) known(id chat.TaskID) (chat.Task, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tasks[id]
	return t.Clone(), ok
}

// Project returns the project of a task that this node has a lease of, by its
// id, as it was at most 2 s ago, or as it was last known while nobody answers.
func (r *Room) Project(id string) (chat.Project, error) {
	key := chat.ProjectID(id)
	r.mu.Lock()
	old, known := r.projects[key]
	fresh := known && time.Since(old.asked) < projectFresh
	if known && !fresh { // others use what is known meanwhile
		r.projects[key] = project{old.Project, time.Now()}
	}
	r.mu.Unlock()
	if fresh {
		return old.Clone(), nil
	}
	wait := boundFor
	if known {
		wait = projectWait
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	out, err := r.ask(ctx, pathProject, projectCall{r.sight(), key}, readFor)
	switch {
	case err == nil && out.Outcome.Err() == nil && len(out.Projects) == 1:
		return out.Projects[0].Clone(), nil
	case known:
		return old.Clone(), nil // the lease has ended, or nobody answers
	case err != nil:
		return chat.Project{}, fmt.Errorf("reading project %.40q: %w", id, err)
	}
	return chat.Project{}, out.Outcome.Err()
}

// Message returns a message of a task that this node has a lease of.
func (r *Room) Message(ctx context.Context, task chat.TaskID, id string) (chat.Message, error) {
	out, err := r.ask(ctx, pathMessage, messageCall{r.sight(), task, id}, readFor)
	switch {
	case err != nil:
		return chat.Message{}, fmt.Errorf("reading message %.40q: %w", id, err)
	case out.Outcome.Err() != nil:
		return chat.Message{}, out.Outcome.Err()
	case len(out.Messages) != 1:
		return chat.Message{}, fmt.Errorf("reading message %.40q: the answer has %d", id, len(out.Messages))
	}
	return out.Messages[0], nil
}

// Messages returns a page of the messages of a task that this node has a lease
// of, below the seq before (0: the newest), ascending. Of long messages there
// may be fewer than the limit.
func (r *Room) Messages(ctx context.Context, task chat.TaskID, before uint64, limit int) ([]chat.Message, error) {
	out, err := r.ask(ctx, pathMessages, messagesCall{r.sight(), task, before, limit}, readFor)
	if err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}
	return out.Messages, out.Outcome.Err()
}

func (r *Room) sight() seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return seen{r.seen}
}

// ask makes a call until it is answered or ctx ends. A node that does not
// answer for so long is lost.
func (r *Room) ask(ctx context.Context, path string, in any, wait time.Duration) (answer, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return answer{}, fmt.Errorf("encoding the call: %w", err)
	}
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		base := r.c.Base()
		out, err := r.try(ctx, base+path, body, wait)
		if err == nil {
			r.learn(out)
			return out, nil
		}
		if ctx.Err() != nil {
			return answer{}, errors.Join(context.Cause(ctx), fmt.Errorf("%w: %w", ErrAway, err))
		}
		r.warn(path, err)
		if r.c.Base() == base { // nobody else has said so meanwhile
			r.c.Lost()
		}
		if sleep(ctx, pause) != nil {
			return answer{}, errors.Join(context.Cause(ctx), fmt.Errorf("%w: %w", ErrAway, err))
		}
	}
}

func (r *Room) warn(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.warned) < warnEvery {
		return
	}
	r.warned = time.Now()
	r.c.Logger.Warn("asking a core node; trying again", "path", path, "err", err)
}

// try makes a call once.
func (r *Room) try(ctx context.Context, url string, body []byte, wait time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.c.Client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	case len(data) > maxAnswer:
		return answer{}, fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	case resp.StatusCode != http.StatusOK:
		var f failure
		if json.Unmarshal(data, &f) != nil || f.Error == "" {
			f.Error = strings.TrimSpace(string(data[:min(len(data), 200)]))
		}
		return answer{}, fmt.Errorf("%s: %s", resp.Status, f.Error)
	}
	var out answer
	if err := json.Unmarshal(data, &out); err != nil {
		return answer{}, fmt.Errorf("the answer makes no sense (is it of another version?): %w", err)
	}
	return out, nil
}

// learn keeps what an answer says. What is older than what is known is of a
// call that took longer.
func (r *Room) learn(out answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = max(r.seen, out.At)
	for _, t := range out.Tasks {
		if old, ok := r.tasks[t.ID]; !ok || t.Index >= old.Index {
			r.tasks[t.ID] = t.Clone()
		}
	}
	for _, p := range out.Projects {
		r.projects[p.ID] = project{p.Clone(), time.Now()}
	}
	if len(r.tasks) > maxStubs {
		maps.DeleteFunc(r.tasks, func(_ chat.TaskID, t chat.Task) bool { return t.Lease == nil })
	}
}

package workspace

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/shim"
)

// What recordings may take of a machine's disk.
const (
	maxTape  = 32 << 20  // bytes of one; what comes after is not kept
	maxTapes = 256 << 20 // of one workspace: the oldest make room
	keepTape = 30 * 24 * time.Hour
	tapeLook = 5 * time.Second // between two looks at whether the project wants it
)

// Tape is the recording of a shell, in asciicast's version 2.
type Tape struct {
	Name  string    `json:"name"`  // "t1-20260102T150405Z.cast", after the shell and its begin
	Size  int64     `json:"size"`  // bytes until now
	Ended time.Time `json:"ended"` // when something was written last
}

// recordShells keeps what shells show while the project wants that, in a folder
// that is no part of the workspace. Shells that began before it was wanted are
// not recorded: nobody in them was told.
func (n *run) recordShells(ctx context.Context) error {
	for {
		c, err := n.await(ctx)
		if err != nil {
			return err
		}
		err = n.recordFrom(ctx, c)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n.log.Warn("recording shells; trying again", "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tapeLook):
		}
	}
}

func (n *run) recordFrom(ctx context.Context, c *shim.Client) error {
	on := n.latestProject().Record
	if err := c.SetRecording(ctx, on); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		tick := time.NewTicker(tapeLook)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now := n.latestProject().Record; now != on {
				if err := c.SetRecording(ctx, now); err != nil {
					cancel(err)
					return
				}
				on = now
			}
		}
	}()
	r := &recorder{dir: filepath.Join(n.dir, "tapes"), open: map[string]*tape{}}
	err := c.Record(ctx, r.take)
	return errors.Join(err, r.close())
}

// recorder writes the recordings of one workspace.
type recorder struct {
	dir  string
	open map[string]*tape // by name
}

// tape is one that is being written.
type tape struct {
	file    *os.File
	size    int64
	started time.Time
	rest    []byte // the begin of a character
	full    bool
}

func tapeName(e shim.CastEvent) string {
	shell := strings.Map(func(r rune) rune {
		if r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, e.Shell)
	return strings.TrimLeft(shell[:min(len(shell), 80)], ".") + "-" + e.Started.UTC().Format("20060102T150405Z") + ".cast"
}

func (r *recorder) take(e shim.CastEvent) error {
	name := tapeName(e)
	if e.Kind == shim.CastBegin && r.open[name] == nil {
		t, err := r.begin(name, e)
		if err != nil {
			return err
		}
		r.open[name] = t
	}
	t := r.open[name]
	if t == nil {
		return nil
	}
	switch e.Kind {
	case shim.CastOutput:
		return t.output(e)
	case shim.CastResize:
		return t.event(e.At, "r", fmt.Sprintf("%dx%d", e.Cols, e.Rows))
	case shim.CastEnd:
		delete(r.open, name)
		return t.close(e.At)
	}
	return nil
}

// begin opens a file, or goes on with one of before this node restarted.
func (r *recorder) begin(name string, e shim.CastEvent) (*tape, error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of recordings: %w", err)
	}
	if err := r.makeRoom(e.At); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a recording: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening a recording: %w", err), f.Close())
	}
	t := &tape{file: f, size: info.Size(), started: e.Started, full: info.Size() >= maxTape}
	if t.size > 0 {
		return t, nil
	}
	title := e.Name
	if e.Maker != "" {
		title += ", " + e.Maker
	}
	head := map[string]any{"version": 2, "width": e.Cols, "height": e.Rows, "timestamp": e.Started.Unix(), "title": title, "env": map[string]string{"TERM": "xterm-256color"}}
	if err := t.line(head); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

// makeRoom removes what is too old or too much.
func (r *recorder) makeRoom(now time.Time) error {
	list, err := tapesIn(r.dir)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Tape) int { return a.Ended.Compare(b.Ended) })
	var sum int64
	for _, t := range list {
		sum += t.Size
	}
	for _, t := range list {
		if r.open[t.Name] != nil || sum <= maxTapes && now.Sub(t.Ended) <= keepTape {
			continue
		}
		if err := os.Remove(filepath.Join(r.dir, t.Name)); err != nil {
			return fmt.Errorf("removing an old recording: %w", err)
		}
		sum -= t.Size
	}
	return nil
}

// output writes text; a character whose end is yet to come waits for it.
func (t *tape) output(e shim.CastEvent) error {
	b := append(t.rest, e.Data...)
	cut := len(b)
	for i := 1; i <= min(utf8.UTFMax-1, len(b)); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				cut = len(b) - i
			}
			break
		}
	}
	t.rest = slices.Clone(b[cut:])
	if cut == 0 {
		return nil
	}
	return t.event(e.At, "o", string(b[:cut]))
}

func (t *tape) event(at time.Time, kind, data string) error {
	if t.full {
		return nil
	}
	seconds := max(at.Sub(t.started), 0).Round(time.Millisecond).Seconds()
	if t.size >= maxTape {
		t.full = true
		kind, data = "o", "\r\n[samnode: the recording ends here, it is too long]\r\n"
	}
	return t.line([]any{seconds, kind, strings.ToValidUTF8(data, "\uFFFD")})
}

// line is one write, so that who reads along sees whole lines.
func (t *tape) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	n, err := t.file.Write(append(b, '\n'))
	t.size += int64(n)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	return nil
}

func (t *tape) close(at time.Time) error {
	var err error
	if len(t.rest) > 0 {
		err = t.event(at, "o", string(t.rest))
	}
	return errors.Join(err, t.file.Close())
}

func (r *recorder) close() error {
	var errs []error
	for _, t := range r.open {
		errs = append(errs, t.file.Close())
	}
	return errors.Join(errs...)
}

// tapesIn lists a folder; one that is not there has none.
func tapesIn(dir string) ([]Tape, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listing recordings: %w", err)
	}
	var list []Tape
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || filepath.Ext(e.Name()) != ".cast" {
			continue // it was removed meanwhile, or is not ours
		}
		list = append(list, Tape{Name: e.Name(), Size: info.Size(), Ended: info.ModTime().UTC()})
	}
	return list, nil
}

// Tapes lists the recordings of the task's shells that are on this machine, the
// newest first.
func (r *Runner) Tapes(_ context.Context, task chat.TaskID) ([]Tape, error) {
	t, err := r.c.Board.Task(string(task))
	if err != nil {
		return nil, err
	}
	all := []Tape{}
	for i := range t.Workspace {
		t.Workspace = i + 1
		list, err := tapesIn(filepath.Join(r.dir(t), "tapes"))
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b Tape) int { return cmp.Or(b.Ended.Compare(a.Ended), strings.Compare(a.Name, b.Name)) })
	return all, nil
}

// Tape reads a recording as far as it is.
func (r *Runner) Tape(_ context.Context, task chat.TaskID, name string) (io.ReadCloser, error) {
	t, err := r.c.Board.Task(string(task))
	if err != nil {
		return nil, err
	}
	if name != filepath.Base(name) || filepath.Ext(name) != ".cast" {
		return nil, fmt.Errorf("%w: that is no name of a recording", chat.ErrInvalid)
	}
	for i := range t.Workspace {
		t.Workspace = i + 1
		f, err := os.Open(filepath.Join(r.dir(t), "tapes", name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("opening a recording: %w", err)
		}
		return f, nil
	}
	return nil, fmt.Errorf("there is no recording of that name on %s: %w", r.c.Node, chat.ErrNotFound)
}

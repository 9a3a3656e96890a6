package files

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/samnode/samnode/workspace/shim"
)

// Exec runs a program in the workspace, as shim.Client.Exec does.
type Exec func(context.Context, shim.ExecSpec) (exit int, err error)

// Client looks at and changes the files of one workspace. Each call runs the
// server there once; nothing is kept between. Safe for concurrent use.
type Client struct {
	exec Exec
	args []string
	dir  string
}

// NewClient makes a client; args run Serve in the workspace, whose working copy
// is dir there.
func NewClient(exec Exec, dir string, args ...string) *Client {
	return &Client{exec: exec, args: args, dir: dir}
}

// Content is what is being read. Reading it to io.EOF gives all of it, or an
// error; Close ends the program that reads.
type Content io.ReadCloser

// Look tells what is at a path, with length bytes of a file from the byte from
// on (0: none, negative: all), and at most limit entries of a folder (0:
// MaxEntries). A path that is no file or folder, or leads to none, is told of
// only without content.
func (c *Client) Look(ctx context.Context, p string, from, length int64, limit int) (*View, error) {
	if limit <= 0 || limit > MaxEntries {
		limit = MaxEntries
	}
	run, a, err := c.start(ctx, request{Op: "look", Path: Bytes(p), From: from, Length: length, Limit: limit}, nil)
	if err != nil {
		return nil, err
	}
	v := &View{Info: a.Info, Entries: a.Entries, Total: a.Total, More: a.More, Length: a.Length}
	if a.Info.Kind != File || length == 0 {
		return v, run.Close()
	}
	v.Body = &exactly{run, a.Length}
	return v, nil
}

// Archive streams a folder as tar.gz, without git's own folder. Name is that of
// the folder, which all that is in the archive is below of.
func (c *Client) Archive(ctx context.Context, p string) (name string, _ Content, err error) {
	run, a, err := c.start(ctx, request{Op: "archive", Path: Bytes(p)}, nil)
	if err != nil {
		return "", nil, err
	}
	return string(a.Info.Name), run, nil
}

// Write puts what it reads at a path: whole, or not at all. Folders that lack
// are made. Without replace an existing file is an ErrExists; with it the file
// keeps its rights. Mode is a new file's; 0: 0644. Nothing is read when it is
// refused.
func (c *Client) Write(ctx context.Context, p string, from io.Reader, replace bool, mode uint32) (Info, error) {
	in, feed := io.Pipe()
	run, _, err := c.start(ctx, request{Op: "write", Path: Bytes(p), Replace: replace, Mode: mode}, in)
	if err != nil {
		return Info{}, err
	}
	defer run.Close()
	broke := make(chan error, 1)
	go func() { // it may wait for from long after the program has ended
		if err := writeBlocks(feed, from); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			broke <- err
			run.cancel() // what was sent is dropped
		}
	}()
	var a answer
	err = readLine(run.out, maxAnswer, &a)
	if err == nil {
		err = a.err()
	}
	select {
	case err = <-broke: // why it ended
	default:
	}
	return a.Info, err
}

// Mkdir makes a folder, and those above that lack.
func (c *Client) Mkdir(ctx context.Context, p string) (Info, error) {
	return c.change(ctx, request{Op: "mkdir", Path: Bytes(p)})
}

// Remove removes a file, a link, or a folder: one that is not empty only with
// all.
func (c *Client) Remove(ctx context.Context, p string, all bool) (Info, error) {
	return c.change(ctx, request{Op: "remove", Path: Bytes(p), All: all})
}

// Rename moves what is at a path; something at the new one is an ErrExists.
func (c *Client) Rename(ctx context.Context, p, to string) (Info, error) {
	return c.change(ctx, request{Op: "rename", Path: Bytes(p), To: Bytes(to)})
}

// change makes a call that answers when it is done.
func (c *Client) change(ctx context.Context, q request) (Info, error) {
	run, a, err := c.start(ctx, q, nil)
	if err != nil {
		return Info{}, err
	}
	return a.Info, run.Close()
}

// spec is the program there. Many may run at once in a container that has not
// many threads.
func (c *Client) spec(in io.Reader, out, errs io.Writer) shim.ExecSpec {
	return shim.ExecSpec{Args: c.args, Dir: c.dir, Env: []string{"GOMAXPROCS=2"}, Stdin: in, Stdout: out, Stderr: errs}
}

func (c *Client) broken(code int, errs *tail) error {
	return fmt.Errorf("the program in the workspace that reads and writes files ended with code %d: %s", code, errs.String())
}

// tail keeps the begin of a program's complaints.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), maxText-len(t.b))]...)
	return len(p), nil
}

func (t *tail) String() string { return Quote(string(t.b)) }

// running is a call whose answer goes on.
type running struct {
	out    *bufio.Reader
	pipe   *io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
}

func (r *running) Read(p []byte) (int, error) { return r.out.Read(p) }

// Close ends the call, and returns when it has ended.
func (r *running) Close() error {
	r.once.Do(func() {
		r.cancel()
		r.pipe.Close()
		<-r.done
	})
	return nil
}

// start makes a call and reads the begin of its answer. What in gives goes to
// the program after the request; in is closed when the program has ended.
func (c *Client) start(ctx context.Context, q request, in *io.PipeReader) (*running, answer, error) {
	var line bytes.Buffer
	if err := writeLine(&line, q); err != nil {
		return nil, answer{}, err
	}
	var stdin io.Reader = &line
	if in != nil {
		stdin = io.MultiReader(&line, in)
	}
	ctx, cancel := context.WithCancel(ctx)
	from, to := io.Pipe()
	r := &running{out: bufio.NewReaderSize(from, block), pipe: from, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		var errs tail
		code, err := c.exec(ctx, c.spec(stdin, to, &errs))
		if err == nil && code != 0 {
			err = c.broken(code, &errs)
		}
		to.CloseWithError(err)
		if in != nil {
			in.Close()
		}
	}()
	var a answer
	err := readLine(r.out, maxAnswer+maxEntry*q.Limit, &a)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = a.err()
	}
	if err == nil && (a.Length < 0 || a.Total < 0 || len(a.Entries) > MaxEntries) {
		err = errors.New("an answer that cannot be")
	}
	if err != nil {
		return nil, answer{}, errors.Join(err, r.Close())
	}
	return r, a, nil
}

// exactly is content of a known length: less is an error, and more is not read.
type exactly struct {
	*running
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.running.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = fmt.Errorf("the file became shorter while it was read: %w", io.ErrUnexpectedEOF)
	}
	if e.left == 0 && err != nil {
		err = nil // all is here
	}
	return n, err
}

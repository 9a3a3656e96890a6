package git

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Open reads a whole file of a branch or commit, whatever its size. Close ends
// the reading.
func (r *Repo) Open(ctx context.Context, rev, file string) (Entry, io.ReadCloser, error) {
	c, err := r.File(ctx, rev, file, 1)
	if err != nil {
		return Entry{}, nil, err
	}
	if c.Kind == "submodule" {
		return c.Entry, io.NopCloser(strings.NewReader("")), nil
	}
	return c.Entry, r.piped(ctx, "reading a file", "cat-file", "blob", c.Blob), nil
}

// piped is the output of git as it comes. Its Close ends git.
func (r *Repo) piped(ctx context.Context, doing string, args ...string) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	from, to := io.Pipe()
	p := &piped{PipeReader: from, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_, err := r.stream(ctx, doing, command{args: args}, to)
		to.CloseWithError(err)
	}()
	return p
}

type piped struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

func (p *piped) Close() error {
	p.cancel()
	err := p.PipeReader.Close()
	<-p.done
	return err
}

// Changed lists what head has that base has not, as Diff does, without lines.
func (r *Repo) Changed(ctx context.Context, base, head string, o DiffOptions) ([]FileDiff, error) {
	from, to, err := r.ends(ctx, base, head, o.Direct)
	if err != nil {
		return nil, err
	}
	return r.changed(ctx, from, to, o)
}

// Patch reads what Diff compares as text that git apply takes.
func (r *Repo) Patch(ctx context.Context, base, head string, o DiffOptions) (io.ReadCloser, error) {
	from, to, err := r.ends(ctx, base, head, o.Direct)
	if err != nil {
		return nil, err
	}
	args := append(diffArgs(o), "-p", "--binary", "--no-color", from, to, "--")
	return r.piped(ctx, "comparing", append(args, o.Paths...)...), nil
}

// Archive writes a folder ("" is the root) of a branch or commit as tar.gz, all
// of it below a folder of the name top. Submodules are empty folders.
func (r *Repo) Archive(ctx context.Context, rev, folder, top string, w io.Writer) error {
	folder, err := cleanPath(folder)
	if err != nil {
		return err
	}
	if _, err := r.Files(ctx, rev, folder); err != nil {
		return err
	}
	id, err := r.resolve(ctx, rev)
	if err != nil {
		return err
	}
	list, err := r.run(ctx, "listing files", command{args: []string{"ls-tree", "-r", "-t", "-z", "-l", "--full-tree", id + ":" + folder}})
	if err != nil {
		return err
	}
	when, err := r.run(ctx, "reading a commit's time", command{args: []string{"log", "-1", "--no-show-signature", "--format=%ct", id, "--"}})
	if err != nil {
		return err
	}
	var at int64
	if _, err := fmt.Sscan(string(when.out), &at); err != nil {
		return fmt.Errorf("reading a commit's time: %w", err)
	}
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := &archive{tar: tar.NewWriter(zip), at: time.Unix(at, 0)}
	if err := a.add(tar.Header{Typeflag: tar.TypeDir, Name: top + "/", Mode: 0o755}); err != nil {
		return err
	}
	if err := r.fill(ctx, a, list.out, top); err != nil {
		return err
	}
	return errors.Join(a.tar.Close(), zip.Close())
}

type archive struct {
	tar *tar.Writer
	at  time.Time
}

func (a *archive) add(h tar.Header) error {
	h.ModTime = a.at
	if err := a.tar.WriteHeader(&h); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// fill adds what ls-tree listed. One git reads all files, in the list's order.
func (r *Repo) fill(ctx context.Context, a *archive, list []byte, top string) error {
	var ids bytes.Buffer
	var entries []Entry
	for rec := range bytes.SplitSeq(list, []byte{0}) {
		if e, ok := parseEntry(string(rec)); ok {
			entries = append(entries, e)
			if e.Kind == "file" || e.Kind == "link" {
				ids.WriteString(e.Blob + "\n")
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	from, to := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := r.stream(ctx, "reading files", command{args: []string{"cat-file", "--batch"}, stdin: &ids}, to)
		to.CloseWithError(err)
	}()
	defer func() { cancel(); from.Close(); <-done }()
	in := bufio.NewReaderSize(from, 64<<10)
	for _, e := range entries {
		if err := a.entry(e, top+"/"+e.Name, in); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) entry(e Entry, name string, in *bufio.Reader) error {
	switch e.Kind {
	case "folder", "submodule":
		return a.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	}
	said, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading %q: %w", e.Name, err)
	}
	var size int64
	if _, err := fmt.Sscanf(said, e.Blob+" blob %d", &size); err != nil || size != e.Size {
		return fmt.Errorf("reading %q: git said %.200q", e.Name, said)
	}
	if e.Kind == "link" {
		to := make([]byte, size)
		if _, err := io.ReadFull(in, to); err != nil {
			return fmt.Errorf("reading %q: %w", e.Name, err)
		}
		err = a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: string(to), Mode: 0o777})
	} else {
		mode := os.FileMode(0o644)
		if e.Mode == "100755" {
			mode = 0o755
		}
		if err = a.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(mode)}); err == nil {
			_, err = io.CopyN(a.tar, in, size)
		}
	}
	if err != nil {
		return fmt.Errorf("archiving %q: %w", e.Name, err)
	}
	_, err = in.Discard(1) // the line's end after each
	return err
}

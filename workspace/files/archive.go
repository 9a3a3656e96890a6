package files

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// LeftOut is the file at the end of an archive that says what is not in it; it
// is there only when something is not.
const LeftOut = "NOT-IN-THIS-ARCHIVE.txt"

const (
	maxDepth   = 200
	maxLeftOut = 1000 // names
)

// archive streams a folder as tar.gz. Its top is the folder's own name.
func (s *server) archive(p string) error {
	in, f, err := s.open(p)
	if err != nil {
		return err
	}
	defer in.Close()
	if !f.IsDir() {
		return refused("%s is no folder", Quote(p))
	}
	top := path.Base(p)
	if p == "" {
		top = filepath.Base(s.dir)
	}
	if err := s.answer(answer{Info: infoOf(top, f)}); err != nil {
		return err
	}
	zip, err := gzip.NewWriterLevel(s.out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := &archiver{s: s, tar: tar.NewWriter(zip), buf: make([]byte, block)}
	if err := a.folder(in, f, p, top, 0); err != nil {
		return err
	}
	return errors.Join(a.leftOut(top), a.tar.Close(), zip.Close())
}

type archiver struct {
	s    *server
	tar  *tar.Writer
	buf  []byte
	left []string
}

// skip notes what cannot be read, or is nothing to be kept.
func (a *archiver) skip(p, why string) {
	if len(a.left) < maxLeftOut {
		a.left = append(a.left, Quote(p)+": "+why)
	}
}

// folder adds a folder that is open, and all below.
func (a *archiver) folder(in *os.File, f os.FileInfo, p, name string, depth int) error {
	if depth > maxDepth {
		a.skip(p, "too deep")
		return nil
	}
	h := &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(f.Mode().Perm()), ModTime: f.ModTime()}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	for {
		part, err := in.ReadDir(1024)
		for _, e := range part {
			if p == "" && e.Name() == gitDir {
				continue
			}
			if err := a.add(path.Join(p, e.Name()), name+"/"+e.Name(), depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			a.skip(p, "it could not be listed whole")
			return nil //nolint:nilerr // the archive says it
		}
	}
}

func (a *archiver) add(p, name string, depth int) error {
	i, err := a.s.stat(p)
	if errors.Is(err, ErrNotFound) {
		return nil // it went meanwhile
	}
	if err != nil {
		a.skip(p, err.Error())
		return nil
	}
	switch i.Kind {
	case Link:
		h := &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: string(i.Link), Mode: 0o777, ModTime: i.Changed}
		return a.tar.WriteHeader(h)
	case File, Folder:
	default:
		a.skip(p, "a "+string(i.Kind))
		return nil
	}
	in, f, err := a.s.open(p)
	if err != nil {
		a.skip(p, err.Error())
		return nil
	}
	defer in.Close()
	if f.IsDir() {
		return a.folder(in, f, p, name, depth+1)
	}
	return a.file(in, f, p, name)
}

// file adds as many bytes as the file had when it was opened.
func (a *archiver) file(in io.Reader, f os.FileInfo, p, name string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: f.Size(), Mode: int64(f.Mode().Perm()), ModTime: f.ModTime()}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{a.tar}, io.LimitReader(in, f.Size()), a.buf)
	if err != nil {
		return fmt.Errorf("archiving %s: %w", Quote(p), err)
	}
	if n == f.Size() {
		return nil
	}
	a.skip(p, "it became shorter meanwhile; its end are zeros")
	_, err = io.CopyBuffer(struct{ io.Writer }{a.tar}, io.LimitReader(zeros{}, f.Size()-n), a.buf)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (a *archiver) leftOut(top string) error {
	if len(a.left) == 0 {
		return nil
	}
	text := strings.Join(a.left, "\n") + "\n"
	if err := a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: top + "/" + LeftOut, Size: int64(len(text)), Mode: 0o644, ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := io.WriteString(a.tar, text)
	return err
}

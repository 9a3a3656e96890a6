package git

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
)

// untar reads an archive: files by name, links by "-> target".
func untar(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(b)
		if h.Typeflag == tar.TypeSymlink {
			out[h.Name] = "-> " + h.Linkname
		}
	}
}

func TestReadingCommits(t *testing.T) {
	t.Parallel()
	s := seeded(t, nil)
	big := noise(3 << 20)
	s.write("src/big", big)
	s.write("src/new\nline", "odd")
	s.write("src/empty", "")
	s.write(".gitattributes", "* export-ignore\n")
	if err := inDir(t, s.Dir, "ln", "-s", "/etc/passwd", "src/out"); err != nil {
		t.Fatal(err)
	}
	s.commit("src/a/b.txt", "b\n")
	s.must("push", "-q", "origin", "HEAD:refs/heads/"+task)
	s.fetch()
	ctx := t.Context()
	e, in, err := s.repo.Open(ctx, task, "src/big")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); string(got) != big || err != nil || e.Size != int64(len(big)) {
		t.Errorf("read %d bytes of %d, %v", len(got), e.Size, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, in, err = s.repo.Open(ctx, task, "src/big"); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil { // unread
		t.Error(err)
	}
	var b bytes.Buffer
	if err := s.repo.Archive(ctx, task, "src", "top", &b); err != nil {
		t.Fatal(err)
	}
	got := untar(t, &b)
	for name, want := range map[string]string{"top/big": big, "top/new\nline": "odd", "top/empty": "", "top/a/b.txt": "b\n", "top/out": "-> /etc/passwd", "top/": ""} {
		if text, ok := got[name]; text != want || !ok {
			t.Errorf("%q = %.40q, want %.40q", name, text, want)
		}
	}
	if err := s.repo.Archive(ctx, task, "src/big", "top", &b); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file as archive: %v", err)
	}
	patch, err := s.repo.Patch(ctx, "main", task, DiffOptions{Paths: []string{"src/a/b.txt"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(patch)
	if patch.Close(); !strings.Contains(string(text), "+++ b/src/a/b.txt\n@@ -0,0 +1 @@\n+b\n") || strings.Contains(string(text), "big") || err != nil {
		t.Errorf("patch %q, %v", text, err)
	}
	list, err := s.repo.Changed(ctx, "main", task, DiffOptions{})
	if err != nil || len(list) != 6 {
		t.Errorf("changed: %+v, %v", list, err)
	}
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packed is an archive of entries: a name that ends in a slash is a folder, a
// text that begins with "-> " a link.
func packed(t *testing.T, entries ...string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for i := 0; i < len(entries); i += 2 {
		h := &tar.Header{Name: entries[i], Typeflag: tar.TypeReg, Size: int64(len(entries[i+1])), Mode: 0o4755}
		if to, link := strings.CutPrefix(entries[i+1], "-> "); link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		}
		if strings.HasSuffix(h.Name, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, entries[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []io.Closer{w, zip} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return &b
}

// What a hostile workspace sends is written below the folder, or not at all.
func TestUnpackStaysInside(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, entries := range map[string][]string{
		"dots":         {"app/../../outside", "theirs"},
		"deep dots":    {"app/x/../../../outside", "theirs"},
		"absolute":     {"app/" + outside, "theirs"},
		"by a link":    {"app/l", "-> ..", "app/l/outside", "theirs"},
		"over a link":  {"app/l", "-> ../outside", "app/l", "theirs"},
		"link of link": {"app/a/", "", "app/a/b", "-> ..", "app/a/c", "-> b/../..", "app/a/c/outside", "theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			var says bytes.Buffer
			c := &cli{out: io.Discard, err: &says}
			err := c.unpack(packed(t, entries...), filepath.Join(top, "into"))
			t.Log(err, says.String())
			if b, err := os.ReadFile(outside); string(b) != "mine" || err != nil {
				t.Fatalf("outside is %q, %v", b, err)
			}
			list, err := os.ReadDir(top)
			if err != nil || len(list) != 2 {
				t.Errorf("beside there are %v, %v", list, err)
			}
			if err := os.RemoveAll(filepath.Join(top, "into")); err != nil {
				t.Fatal(err)
			}
		})
	}
	var says bytes.Buffer
	c := &cli{out: io.Discard, err: &says}
	into := filepath.Join(top, "into")
	if err := c.unpack(packed(t, "app/a/", "", "app/a/b", "-> ..", "app/a/c", "-> b/../.."), into); err != nil || !strings.Contains(says.String(), "“a/c”: it leads out") {
		t.Errorf("a link that leads out by another: %v, %s", err, &says)
	}
	if _, err := os.Lstat(filepath.Join(into, "a/c")); err == nil {
		t.Error("it is there")
	}
	if err := c.unpack(packed(t, "app/", "", "app/run", "#!", "app/in/", "", "app/in/l", "-> ../run"), into); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(into, "in/l")); string(b) != "#!" || err != nil {
		t.Errorf("a link that stays inside = %q, %v", b, err)
	}
	if f, err := os.Stat(filepath.Join(into, "run")); err != nil || f.Mode() != 0o755 {
		t.Errorf("a program is %v, %v", f, err)
	}
}

// A terminal is told nothing by what a file says.
func TestTame(t *testing.T) {
	in := "plain\tä日\n\x1b[31m\x00\u202e\xff\x85 cut \xe6\x97"
	for _, step := range []int{1, 2, 3, 100} {
		var out bytes.Buffer
		w := &tame{w: &out}
		for b := []byte(in); len(b) > 0; b = b[min(step, len(b)):] {
			if _, err := w.Write(b[:min(step, len(b))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		if got, want := out.String(), "plain\tä日\n"+`\x1b[31m\x00\u202e\xff\x85 cut \xe6\x97`; got != want {
			t.Errorf("in steps of %d: %q, want %q", step, got, want)
		}
	}
}

package files

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestLook(t *testing.T) {
	s := newSpace(t)
	s.put("b.txt", "hello\n")
	s.put("a/inner.go", "package inner\n")
	s.link("b.txt", "to-b")
	s.ok(os.Chmod(filepath.Join(s.dir, "b.txt"), 0o751))
	v, err := s.Look(t.Context(), "", 0, 0, 0)
	s.ok(err)
	if got := names(v.Entries); !slices.Equal(got, []string{"a", "b.txt", "to-b", ".git"}) || v.Total != 4 || v.More {
		t.Errorf("the working copy has %q, %d, %v", got, v.Total, v.More)
	}
	if b := v.Entries[1]; b.Kind != File || b.Size != 6 || b.Mode != 0o751 || b.Changed.IsZero() {
		t.Errorf("b.txt is %+v", b)
	}
	if l := v.Entries[2]; l.Kind != Link || l.Link != "b.txt" || l.Leads != File {
		t.Errorf("the link is %+v", l)
	}
	for _, p := range []string{"b.txt", "./b.txt", "a/../b.txt", "to-b"} {
		got, err := s.read(p)
		if p == "a/../b.txt" {
			s.refuses(err, ErrInvalid, "outside the workspace")
		} else if got != "hello\n" || err != nil {
			t.Errorf("%s = %q, %v", p, got, err)
		}
	}
	v, err = s.Look(t.Context(), "b.txt", 2, 3, 0)
	s.ok(err)
	part, err := io.ReadAll(v.Body)
	if s.ok(v.Body.Close()); string(part) != "llo" || err != nil || v.Size != 6 || v.Length != 3 {
		t.Errorf("a part = %q, %v, %+v", part, err, v)
	}
	_, err = s.Look(t.Context(), "b.txt", 7, -1, 0)
	s.refuses(err, ErrInvalid, "6 bytes")
	_, err = s.read("a/none.go")
	s.refuses(err, ErrNotFound, "there is no “a/none.go”")
	_, err = s.read("b.txt/deeper")
	s.refuses(err, ErrNotFound)
}

// What leads out is shown and never followed.
func TestNothingLeadsOut(t *testing.T) {
	s := newSpace(t)
	s.put("a/x", "x")
	for name, to := range map[string]string{
		"abs": "/etc/passwd", "up": "../outside/secret", "updir": "../outside", "absdir": "/etc", "root": "/",
		"loop1": "loop2", "loop2": "loop1", "self": "self", "gone": "nowhere", "deep": "a/../../outside/secret", "inabs": s.dir + "/a/x",
	} {
		s.link(to, name)
	}
	for _, p := range []string{"abs", "up", "deep", "updir/secret", "absdir/passwd", "root/etc/passwd", "inabs"} {
		got, err := s.read(p)
		if s.refuses(err, ErrRefused, "is a link to"); got != "" {
			t.Errorf("%s was read: %q", p, got)
		}
		_, err = s.Write(t.Context(), p+"/new", strings.NewReader("in"), true, 0)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("writing below %s: %v", p, err)
		}
	}
	for _, p := range []string{"loop1", "self", "loop1/x"} {
		_, err := s.read(p)
		s.refuses(err, ErrRefused, "circle")
	}
	_, err := s.read("gone")
	s.refuses(err, ErrNotFound, "link to “nowhere”")
	for _, p := range []string{"../outside/secret", "a/../../outside/secret", "/etc/passwd", "..", "a/..", "a\x00b", strings.Repeat("x/", 3000)} {
		_, err := s.read(p)
		s.refuses(err, ErrInvalid)
		_, err = s.Write(t.Context(), p, strings.NewReader("in"), true, 0)
		s.refuses(err, ErrInvalid)
		_, err = s.Mkdir(t.Context(), p)
		s.refuses(err, ErrInvalid)
		_, err = s.Remove(t.Context(), p, true)
		s.refuses(err, ErrInvalid)
		_, err = s.Rename(t.Context(), "a", p)
		s.refuses(err, ErrInvalid)
		_, _, err = s.Archive(t.Context(), p)
		s.refuses(err, ErrInvalid)
	}
	for _, p := range []string{"updir/secret", "updir/new", "absdir/new"} {
		_, err = s.Mkdir(t.Context(), p)
		s.refuses(err, ErrRefused)
		_, err = s.Remove(t.Context(), p, true)
		s.refuses(err, ErrRefused)
		_, err = s.Rename(t.Context(), "a", p)
		s.refuses(err, ErrRefused)
	}
	if b, err := os.ReadFile(filepath.Join(s.next, "secret")); string(b) != secret || err != nil {
		t.Errorf("the secret is %q, %v", b, err)
	}
	v, err := s.Look(t.Context(), "", 0, 0, 0)
	s.ok(err)
	for _, i := range v.Entries {
		outside := i.Name == "abs" || i.Name == "up" || i.Name == "root" || i.Name == "loop1" || i.Name == "inabs"
		if outside && (i.Kind != Link || i.Link == "" || i.Leads != "") {
			t.Errorf("%s is %+v", i.Name, i)
		}
	}
}

// A link that is swapped while it is looked at never leads out.
func TestASwappedLink(t *testing.T) {
	s := newSpace(t)
	s.put("real/secret", "inside")
	ctx, stop := context.WithCancel(t.Context())
	var swaps sync.WaitGroup
	swaps.Go(func() { // the agent
		spot := filepath.Join(s.dir, "d")
		for ctx.Err() == nil {
			_ = os.Symlink("../outside", spot)
			_ = os.RemoveAll(spot)
			_ = os.Symlink("real", spot)
			_ = os.RemoveAll(spot)
			_ = os.Mkdir(spot, 0o755)
			_ = os.RemoveAll(spot)
		}
	})
	var people sync.WaitGroup
	for n := range 4 {
		people.Go(func() {
			for i := range 25 {
				if got, err := s.read("d/secret"); err == nil && got != "inside" {
					t.Errorf("read %q", got)
				}
				_, _ = s.Write(ctx, "d/secret", strings.NewReader("inside"), true, 0) // mostly refused
				_, _ = s.Mkdir(ctx, fmt.Sprintf("d/new%d-%d", n, i))
				_, _ = s.Remove(ctx, "d", true)
			}
		})
	}
	people.Wait()
	stop()
	swaps.Wait()
	list, err := os.ReadDir(s.next)
	s.ok(err)
	b, err := os.ReadFile(filepath.Join(s.next, "secret"))
	if len(list) != 1 || string(b) != secret || err != nil {
		t.Errorf("outside there are %v, and the secret is %q, %v", list, b, err)
	}
}

// What is no file is shown and never opened: nothing waits for it.
func TestSpecialFiles(t *testing.T) {
	s := newSpace(t)
	s.ok(syscall.Mkfifo(filepath.Join(s.dir, "pipe"), 0o644))
	s.link("pipe", "to-pipe")
	t.Chdir(s.dir) // the path of a socket is short
	l, err := net.Listen("unix", "sock")
	s.ok(err)
	defer l.Close()
	want := map[string]Kind{"pipe": FIFO, "sock": Socket}
	if syscall.Mknod(filepath.Join(s.dir, "null"), syscall.S_IFCHR|0o666, 1<<8|3) == nil { // root alone may
		want["null"] = Device
	}
	v, err := s.Look(t.Context(), "", 0, 0, 0)
	s.ok(err)
	for _, i := range v.Entries {
		if k, ok := want[string(i.Name)]; ok && i.Kind != k {
			t.Errorf("%s is a %s", i.Name, i.Kind)
		}
		if i.Name == "to-pipe" && i.Leads != FIFO {
			t.Errorf("the link to a fifo is %+v", i)
		}
	}
	for p, k := range want {
		if v, err := s.Look(t.Context(), p, 0, 0, 0); err != nil || v.Kind != k || v.Body != nil {
			t.Errorf("%s = %+v, %v", p, v, err)
		}
		_, err := s.read(p)
		s.refuses(err, ErrRefused, "is a "+string(k))
		_, err = s.Write(t.Context(), p, strings.NewReader("x"), true, 0)
		s.refuses(err, ErrRefused, "is a "+string(k))
	}
	_, err = s.read("to-pipe")
	s.refuses(err, ErrRefused)
	text := s.unpack("")["app/"+LeftOut]
	for p, k := range want {
		if !strings.Contains(text, "“"+p+"”: a "+string(k)) {
			t.Errorf("of %s the archive says %q", p, text)
		}
	}
}

var oddNames = []string{
	"new\nline", "tab\there", "esc\x1b[31mred", "\xff\xfe not utf8", "bidi\u202etxt.exe", "-rf", "a b", "quote\"'", "back\\slash", "%41", "#x?y=1", "日本語", " ", "...", "\u200b",
}

// Names are bytes: they are shown as they are, and open what they name.
func TestOddNames(t *testing.T) {
	s := newSpace(t)
	for _, n := range oddNames {
		s.put(n, "of "+n)
	}
	v, err := s.Look(t.Context(), "", 0, 0, 0)
	s.ok(err)
	got := names(v.Entries)
	for _, n := range oddNames {
		if !slices.Contains(got, n) {
			t.Errorf("%q is not listed", n)
		}
		if text, err := s.read(n); text != "of "+n || err != nil {
			t.Errorf("%q = %q, %v", n, text, err)
		}
		if text := s.unpack("")["app/"+n]; text != "of "+n {
			t.Errorf("%q in the archive = %q", n, text)
		}
		_, err := s.Write(t.Context(), n, strings.NewReader("again"), true, 0)
		s.ok(err) // it is there: that is no new name
		s.has(n, "again")
		_, err = s.Remove(t.Context(), n, false)
		s.ok(err)
	}
	for _, n := range []string{"new\nline", "esc\x1b", "\xff", "bidi\u202etxt", "\u200b", "a\u2028b", strings.Repeat("n", 256)} {
		_, err := s.Write(t.Context(), n, strings.NewReader("x"), true, 0)
		s.refuses(err, ErrInvalid, "the name")
		_, err = s.Mkdir(t.Context(), n)
		s.refuses(err, ErrInvalid, "the name")
		_, err = s.Write(t.Context(), n+"/x", strings.NewReader("x"), true, 0)
		s.refuses(err, ErrInvalid, "the name")
		s.put("old", "")
		_, err = s.Rename(t.Context(), "old", n)
		s.refuses(err, ErrInvalid, "the name")
	}
}

func TestNoRight(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	s := newSpace(t)
	s.put("closed/x", "x")
	s.put("mute", "x")
	s.ok(os.Chmod(filepath.Join(s.dir, "mute"), 0))
	s.ok(os.Chmod(filepath.Join(s.dir, "closed"), 0))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(s.dir, "closed"), 0o755) })
	for _, p := range []string{"mute", "closed", "closed/x"} {
		_, err := s.read(p)
		s.refuses(err, ErrRefused, "no right to “"+p+"”")
	}
	if text := s.unpack("")["app/"+LeftOut]; !strings.Contains(text, "mute") || !strings.Contains(text, "closed") {
		t.Errorf("the archive leaves out %q", text)
	}
}

// A folder of 100,000 entries is counted, and its first ones are shown.
func TestManyEntries(t *testing.T) {
	s := newSpace(t)
	const n = 100_000
	many := filepath.Join(s.dir, "many")
	s.ok(os.Mkdir(many, 0o755))
	first := filepath.Join(many, fmt.Sprintf("f%06d", 0))
	s.ok(os.WriteFile(first, nil, 0o644))
	for i := 1; i < n; i++ {
		s.ok(os.Link(first, filepath.Join(many, fmt.Sprintf("f%06d", i)))) // cheaper than a file, though not without limit
		if i%30_000 == 0 {
			first = filepath.Join(many, fmt.Sprintf("g%06d", i))
			s.ok(os.WriteFile(first, nil, 0o644))
		}
	}
	v, err := s.Look(t.Context(), "many", 0, 0, 2000)
	s.ok(err)
	if len(v.Entries) != 2000 || v.Total != n+3 || v.Entries[0].Name != "f000000" || v.Entries[1999].Name != "f001999" {
		t.Errorf("%d entries of %d", len(v.Entries), v.Total)
	}
	v, err = s.Look(t.Context(), "many", 0, 0, 0)
	s.ok(err)
	if len(v.Entries) != MaxEntries {
		t.Errorf("%d entries without a limit", len(v.Entries))
	}
}

// unpack reads a whole archive: files by name, links by "-> target".
func (s *space) unpack(p string) map[string]string {
	s.t.Helper()
	_, in, err := s.Archive(s.t.Context(), p)
	s.ok(err)
	defer in.Close()
	zip, err := gzip.NewReader(in)
	s.ok(err)
	out := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		s.ok(err)
		b, err := io.ReadAll(r)
		s.ok(err)
		out[h.Name] = string(b)
		if h.Typeflag == tar.TypeSymlink {
			out[h.Name] = "-> " + h.Linkname
		}
	}
}

func TestArchive(t *testing.T) {
	s := newSpace(t)
	s.put("src/a/b.go", "package b\n")
	s.put("src/run.sh", "#!/bin/sh\n")
	s.ok(os.Mkdir(filepath.Join(s.dir, "src", "empty"), 0o755))
	s.link("../../outside", "src/out")
	got := s.unpack("src")
	want := map[string]string{"src/": "", "src/a/": "", "src/a/b.go": "package b\n", "src/run.sh": "#!/bin/sh\n", "src/empty/": "", "src/out": "-> ../../outside"}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s = %q, want %q", name, got[name], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the archive has %v", got)
	}
	if whole := s.unpack(""); whole["app/src/run.sh"] == "" || whole["app/.git/"] != "" || len(whole) != len(want)+1 {
		t.Errorf("the whole has %v", whole)
	}
	_, _, err := s.Archive(t.Context(), "src/run.sh")
	s.refuses(err, ErrRefused, "is no folder")
}

// A reader who leaves ends the program, also when it waits to write.
func TestLeavingAReader(t *testing.T) {
	s := newSpace(t)
	s.put("big", "")
	s.ok(os.Truncate(filepath.Join(s.dir, "big"), 8<<30))
	v, err := s.Look(t.Context(), "big", 0, -1, 0)
	s.ok(err)
	if _, err := io.CopyN(io.Discard, v.Body, 1<<20); err != nil {
		t.Error(err)
	}
	s.ok(v.Body.Close())
	if _, err := v.Body.Read(make([]byte, 1)); err == nil {
		for err == nil { // what was on its way
			_, err = v.Body.Read(make([]byte, 1<<16))
		}
	}
}

package git

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// branched is a mirror with main and a branch "work" of it.
func branched(t *testing.T, base, work map[string]string) *kit {
	t.Helper()
	k := newKit(t)
	k.push("main", "base", base)
	k.push("work", "work", work)
	k.fetch()
	return k
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d\n", i+1)
	}
	return b.String()
}

func TestDiffOfABranch(t *testing.T) {
	t.Parallel()
	text := numbered(30)
	k := branched(t,
		map[string]string{"edit.txt": text, "gone.txt": "old\n", "move.txt": text + "x\n", "bin": "\x00\x01", "mode.sh": "#!/bin/sh\n"},
		map[string]string{
			"edit.txt": strings.Replace(text, "line 15\n", "line fifteen\nand more\n", 1), "gone.txt": "", "move.txt": "",
			"moved.txt": text + "x\n", "bin": "\x00\x02", "new.txt": "@@ -1 +1 @@\ndiff --git a/x b/x\n--- a/x\n+++ b/x",
		})
	// The base moves on: it must not show in the branch's diff.
	k.push("main", "elsewhere", map[string]string{"other.txt": "x\n"})
	k.fetch()
	got, err := k.repo.Diff(t.Context(), "main", "work", DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []FileDiff{
		{Path: "bin", Status: Modified, OldMode: "100644", NewMode: "100644", Binary: true},
		{Path: "edit.txt", Status: Modified, OldMode: "100644", NewMode: "100644", Added: 2, Removed: 1, Hunks: []Hunk{{
			OldStart: 12, OldLines: 7, NewStart: 12, NewLines: 8, Section: "line 11",
			Lines: []Line{
				{Op: ' ', Old: 12, New: 12, Text: "line 12"},
				{Op: ' ', Old: 13, New: 13, Text: "line 13"},
				{Op: ' ', Old: 14, New: 14, Text: "line 14"},
				{Op: '-', Old: 15, Text: "line 15"},
				{Op: '+', New: 15, Text: "line fifteen"},
				{Op: '+', New: 16, Text: "and more"},
				{Op: ' ', Old: 16, New: 17, Text: "line 16"},
				{Op: ' ', Old: 17, New: 18, Text: "line 17"},
				{Op: ' ', Old: 18, New: 19, Text: "line 18"},
			},
		}}},
		{Path: "gone.txt", Status: Deleted, OldMode: "100644", NewMode: "000000", Removed: 1, Hunks: []Hunk{{
			OldStart: 1, OldLines: 1, Lines: []Line{{Op: '-', Old: 1, Text: "old"}},
		}}},
		{Path: "moved.txt", OldPath: "move.txt", Status: Renamed, OldMode: "100644", NewMode: "100644"},
		{Path: "new.txt", Status: Added, OldMode: "000000", NewMode: "100644", Added: 4, Hunks: []Hunk{{
			NewStart: 1, NewLines: 4, Lines: []Line{
				{Op: '+', New: 1, Text: "@@ -1 +1 @@"},
				{Op: '+', New: 2, Text: "diff --git a/x b/x"},
				{Op: '+', New: 3, Text: "--- a/x"},
				{Op: '+', New: 4, Text: "+++ b/x", NoEOL: true},
			},
		}}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(FileDiff{}, "OldBlob", "NewBlob")); diff != "" {
		t.Errorf("Diff (-want +got):\n%s", diff)
	}
	stat, err := k.repo.Stat(t.Context(), "main", "work")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Stat{Files: 5, Added: 6, Removed: 2, Ahead: 1, Behind: 1, Base: k.tip("main~1"), Head: k.tip("work")}, stat); diff != "" {
		t.Errorf("Stat (-want +got):\n%s", diff)
	}
	log, err := k.repo.Log(t.Context(), "main", "work", 0)
	if err != nil || len(log) != 1 || log[0].Subject != "work" || log[0].Name != "Ana" || log[0].ID != k.tip("work") || log[0].At.IsZero() {
		t.Errorf("Log = %+v, %v", log, err)
	}
	// From one commit to the next: the last turn only.
	last, err := k.repo.Diff(t.Context(), k.tip("work~1"), k.tip("work"), DiffOptions{Direct: true, Paths: []string{"gone.txt"}})
	if err != nil || len(last) != 1 || last[0].Path != "gone.txt" {
		t.Errorf("Diff of one path = %+v, %v", last, err)
	}
}

func TestDiffIgnoresSpace(t *testing.T) {
	t.Parallel()
	k := branched(t,
		map[string]string{"a.txt": "x\n", "b.txt": "one\ntwo\n", "c.txt": "x\n"},
		map[string]string{"a.txt": "  x\n", "b.txt": "one\n\ttwo\nthree\n", "c.txt": "y\n"})
	got, err := k.repo.Diff(t.Context(), "main", "work", DiffOptions{IgnoreSpace: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := map[string]int{}
	for _, f := range got {
		for _, h := range f.Hunks {
			for _, l := range h.Lines {
				if l.Op != ' ' {
					sum[f.Path]++
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"b.txt": 1, "c.txt": 2}, sum); diff != "" {
		t.Errorf("changed lines (-want +got):\n%s", diff)
	}
}

func TestDiffOfHostileNamesAndTypes(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.push("main", "base", map[string]string{"link": "text\n"})
	dir := gittest.Clone(t, k.dir)
	names := []string{"-x", "a b", "tab\there", "new\nline", `quo"te`, "back\\slash", "ümlaut", "latin\xfc1", " b/x", "a/ b/y", "diff --git a", "$(touch x)", ":(glob)*"}
	files := map[string]string{}
	for _, n := range names {
		files[n] = "content of it\n"
	}
	if err := os.Remove(filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, dir, "checkout", "-q", "-b", "work")
	gittest.Commit(t, dir, "odd names", files)
	gittest.Git(t, dir, "push", "-q", "origin", "HEAD")
	k.fetch()
	got, err := k.repo.Diff(t.Context(), "main", "work", DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]FileDiff{}
	for _, f := range got {
		seen[f.Path] = f
	}
	for _, n := range names {
		f := seen[n]
		if f.Status != Added || len(f.Hunks) != 1 || len(f.Hunks[0].Lines) != 1 || f.Hunks[0].Lines[0].Text != "content of it" {
			t.Errorf("%q: %+v", n, f)
		}
		c, err := k.repo.File(t.Context(), "work", n, 0)
		if err != nil || string(c.Data) != "content of it\n" {
			t.Errorf("File(%q) = %q, %v", n, c.Data, err)
		}
		one, err := k.repo.Diff(t.Context(), "main", "work", DiffOptions{Paths: []string{n}})
		if err != nil || len(one) != 1 || one[0].Path != n {
			t.Errorf("Diff of %q alone = %+v, %v", n, one, err)
		}
	}
	if f := seen["link"]; f.Status != Retyped || len(f.Hunks) != 2 {
		t.Errorf("a file that became a link: %+v", f)
	}
	if c, err := k.repo.File(t.Context(), "work", "link", 0); err != nil || c.Kind != "link" || string(c.Data) != "/etc/passwd" {
		t.Errorf("File(link) = %+v, %v", c, err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := k.repo.Export(t.Context(), "work", out); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(out, n)); err != nil || string(b) != "content of it\n" {
			t.Errorf("exported %q: %q, %v", n, b, err)
		}
	}
}

func TestDiffOfHugeFiles(t *testing.T) {
	t.Parallel()
	k := branched(t,
		map[string]string{"a-long.txt": "x\n", "b-wide.txt": "x\n", "c-latin.txt": "x\n", "d.txt": "x\n"},
		map[string]string{"a-long.txt": numbered(20000), "b-wide.txt": strings.Repeat("y", 3<<20) + "\n", "c-latin.txt": "caf\xe9\n", "d.txt": "y\n"})
	got, err := k.repo.Diff(t.Context(), "main", "work", DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	shown := func(f FileDiff) (n int) {
		for _, h := range f.Hunks {
			n += len(h.Lines)
		}
		return n
	}
	if f := got[0]; !f.Truncated || f.Added != 20000 || shown(f) != 3000 {
		t.Errorf("long file: truncated %v, added %d, shown %d", f.Truncated, f.Added, shown(f))
	}
	if f := got[1]; shown(f) != 2 || !f.Hunks[0].Lines[1].Cut || len(f.Hunks[0].Lines[1].Text) > maxLine {
		t.Errorf("wide file: %d lines, cut %v", shown(f), f.Hunks[0].Lines[1].Cut)
	}
	if f := got[2]; shown(f) != 2 || !utf8.ValidString(f.Hunks[0].Lines[1].Text) {
		t.Errorf("latin file: %+v", f.Hunks)
	}
	if f := got[3]; shown(f) != 2 || f.Truncated {
		t.Errorf("the file after them: %+v", f)
	}
	few, err := k.repo.Diff(t.Context(), "main", "work", DiffOptions{MaxBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if !few[0].Truncated || !few[3].Truncated || shown(few[3]) != 0 || few[3].Added != 1 {
		t.Errorf("beyond the limit of all: %+v", few[3])
	}
}

func TestDiffWithoutABase(t *testing.T) {
	t.Parallel()
	k := branched(t, map[string]string{"a": "1\n"}, map[string]string{"b": "1\n"})
	for _, base := range []string{"", "never"} {
		got, err := k.repo.Diff(t.Context(), base, "work", DiffOptions{})
		if err != nil || len(got) != 2 {
			t.Errorf("Diff(%q) = %+v, %v", base, got, err)
		}
		if s, err := k.repo.Stat(t.Context(), base, "work"); err != nil || s.Files != 2 {
			t.Errorf("Stat(%q) = %+v, %v", base, s, err)
		}
	}
	if _, err := k.repo.Diff(t.Context(), "main", "never", DiffOptions{}); !errors.Is(err, ErrNoBranch) {
		t.Errorf("Diff of no branch = %v", err)
	}
	for _, rev := range []string{"-x", "--output=/tmp/x", "main..work", "main:a", strings.Repeat("a", 40), "HEAD", "@"} {
		if _, err := k.repo.Diff(t.Context(), "main", rev, DiffOptions{}); err == nil {
			t.Errorf("Diff of %q went through", rev)
		}
		if _, err := k.repo.Stat(t.Context(), rev, "work"); err == nil {
			t.Errorf("Stat from %q went through", rev)
		}
	}
}

func TestFilesAndFile(t *testing.T) {
	t.Parallel()
	k := branched(t, map[string]string{"z.txt": "z", "src/main.go": "package main\n", "src/sub/x": "x"}, map[string]string{"big.txt": strings.Repeat("0123456789", 1000), "bin": "a\x00b"})
	list, err := k.repo.Files(t.Context(), "work", "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Kind+" "+e.Path)
	}
	if diff := cmp.Diff([]string{"folder src", "file big.txt", "file bin", "file z.txt"}, names); diff != "" {
		t.Errorf("Files (-want +got):\n%s", diff)
	}
	sub, err := k.repo.Files(t.Context(), "work", "src/")
	if err != nil || len(sub) != 2 || sub[1].Path != "src/main.go" || sub[1].Size != 13 {
		t.Errorf("Files(src) = %+v, %v", sub, err)
	}
	c, err := k.repo.File(t.Context(), "work", "big.txt", 100)
	if err != nil || len(c.Data) != 100 || !c.Truncated || c.Size != 10000 {
		t.Errorf("File(big.txt) = %d bytes, %v, %d, %v", len(c.Data), c.Truncated, c.Size, err)
	}
	if c, err := k.repo.File(t.Context(), "work", "bin", 0); err != nil || !c.Binary {
		t.Errorf("File(bin): binary %v, %v", c.Binary, err)
	}
	for _, p := range []string{"nothing", "../etc/passwd", "/etc/passwd", "src/../../x", "src/./main.go", "a\x00b", "src", ".."} {
		if _, err := k.repo.File(t.Context(), "work", p, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("File(%q) = %v, want ErrNotFound", p, err)
		}
	}
	if _, err := k.repo.Files(t.Context(), "work", "z.txt"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Files of a file = %v", err)
	}
}

// FuzzParseChanged and FuzzPatch: whatever git writes, nothing panics.
func FuzzPatch(f *testing.F) {
	f.Add([]byte(":100644 100644 "+strings.Repeat("a", 40)+" "+strings.Repeat("b", 40)+" M\x00x\x001\t1\tx\x00"), []byte("diff --git x x\nindex "+strings.Repeat("a", 40)+".."+strings.Repeat("b", 40)+" 100644\n@@ -1 +1 @@\n-a\n+b\n"))
	f.Add([]byte(""), []byte("@@ -1,3 +1,9999999999999999999 @@\n+x\n\\ no\n"))
	f.Fuzz(func(t *testing.T, raw, text []byte) {
		files, err := parseChanged(raw)
		if err != nil {
			return
		}
		p := newPatch(files, DiffOptions{MaxLines: 10, MaxBytes: 100})
		for i := 0; i < len(text); i += 7 {
			if _, err := p.Write(text[i:min(i+7, len(text))]); err != nil {
				t.Fatal(err)
			}
		}
		p.end()
	})
}

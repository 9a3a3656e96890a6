package ui

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// apply puts the sides of a diff together again.
func sides(lines []DiffLine) (before, after []string) {
	for _, l := range lines {
		if l.Op != '+' {
			before = append(before, l.Text)
		}
		if l.Op != '-' {
			after = append(after, l.Text)
		}
	}
	return before, after
}

func TestEditsGiveBothTexts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []string {
		var out []string
		for range random.IntN(n) {
			out = append(out, string(rune('a'+random.IntN(4))))
		}
		return out
	}
	for range 2000 {
		a, b := text(12), text(12)
		before, after := sides(edits(a, b))
		if !cmp.Equal(before, a) || !cmp.Equal(after, b) {
			t.Fatalf("edits(%q, %q) = %q, %q", a, b, before, after)
		}
	}
	a, b := strings.Split(strings.Repeat("x\n", 3000), "\n"), strings.Split(strings.Repeat("y\n", 3000), "\n")
	if before, after := sides(edits(a, b)); !cmp.Equal(before, a) || !cmp.Equal(after, b) {
		t.Error("a replaced text is not whole")
	}
}

func TestCompareIsSmallAndCounts(t *testing.T) {
	before := strings.Repeat("same\n", 20) + "old\n" + strings.Repeat("same\n", 20)
	after := strings.Repeat("same\n", 20) + "new\nmore\n" + strings.Repeat("same\n", 20)
	f := compare("a.txt", before, after)
	if f.Added != 2 || f.Removed != 1 || len(f.Hunks) != 1 || len(f.Hunks[0].Lines) != 9 || f.Hunks[0].Old != 18 {
		t.Errorf("compare = +%d −%d %+v", f.Added, f.Removed, f.Hunks)
	}
	if f := compare("new", "", "a\nb\n"); f.Status != "added" || f.Added != 2 {
		t.Errorf("a new file = %+v", f)
	}
}

const patchText = `diff --git a/main.go b/main.go
index 1..2 100644
--- a/main.go
+++ b/main.go
@@ -1,3 +1,4 @@ func main() {
 a
-b
+B
+--- not a header
 c
diff --git a/old name.txt b/new name.txt
similarity index 90%
rename from old name.txt
rename to new name.txt
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-diff --git a/x b/x
\ No newline at end of file
diff --git a/logo.png b/logo.png
new file mode 100644
Binary files /dev/null and b/logo.png differ
diff --git "a/t\303\251.txt" "b/t\303\251.txt"
new file mode 100644
--- /dev/null
+++ "b/t\303\251.txt"
@@ -0,0 +1 @@
+x
`

func TestPatchesOfGitAreRead(t *testing.T) {
	got, err := ParsePatch(strings.NewReader(patchText))
	if err != nil {
		t.Fatal(err)
	}
	want := []DiffFile{
		{Path: "main.go", Status: "modified", Added: 2, Removed: 1, Hunks: []Hunk{{Old: 1, New: 1, Title: "func main() {", Lines: []DiffLine{{' ', "a"}, {'-', "b"}, {'+', "B"}, {'+', "--- not a header"}, {' ', "c"}}}}},
		{Path: "new name.txt", From: "old name.txt", Status: "renamed"},
		{Path: "gone", Status: "deleted", Removed: 1, Hunks: []Hunk{{Old: 1, New: 0, Lines: []DiffLine{{'-', "diff --git a/x b/x"}}}}},
		{Path: "logo.png", Status: "added", Binary: true},
		{Path: "té.txt", Status: "added", Added: 1, Hunks: []Hunk{{Old: 0, New: 1, Lines: []DiffLine{{'+', "x"}}}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParsePatch (-want +got)\n%s", d)
	}
}

func FuzzPatch(f *testing.F) {
	f.Add(patchText)
	f.Add("@@ -1 +1 @@\n+x")
	f.Add("diff --git a b\n@@ \n@@ -x,y +z @@")
	f.Fuzz(func(t *testing.T, in string) {
		files, err := ParsePatch(strings.NewReader(in))
		if err != nil {
			return
		}
		for _, file := range files {
			for _, h := range file.Hunks {
				paired(h)
			}
		}
	})
}

func TestPairsPutRemovedBesideAdded(t *testing.T) {
	h := Hunk{Old: 5, New: 5, Lines: []DiffLine{{' ', "a"}, {'-', "b"}, {'-', "c"}, {'+', "B"}, {' ', "d"}}}
	got := paired(h)
	want := []diffPair{
		{diffRow{' ', "5", "5", "a"}, diffRow{' ', "5", "5", "a"}},
		{diffRow{'-', "6", "", "b"}, diffRow{'+', "", "6", "B"}},
		{diffRow{'-', "7", "", "c"}, diffRow{}},
		{diffRow{' ', "8", "7", "d"}, diffRow{' ', "8", "7", "d"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("paired (-want +got)\n%s", d)
	}
}

func TestHighlightedLinesAreWhole(t *testing.T) {
	lines := sourceLines(highlight("go", "/* a\nb */ x := \"<y>\"\n"))
	if len(lines) != 2 {
		t.Fatalf("lines = %q", lines)
	}
	for _, l := range lines {
		if strings.Count(l, "<span") != strings.Count(l, "</span>") {
			t.Errorf("line %q is not whole", l)
		}
	}
	if !strings.Contains(lines[1], "&lt;y&gt;") {
		t.Errorf("line %q is not escaped", lines[1])
	}
}

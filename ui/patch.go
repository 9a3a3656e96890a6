package ui

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const patchLine = 1 << 20 // bytes of one line; longer ones are refused

// ParsePatch reads what `git diff` writes (with or without -M) into file
// diffs. Paths that git quotes are unquoted.
func ParsePatch(r io.Reader) ([]DiffFile, error) {
	p := patchParser{}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), patchLine)
	for in.Scan() {
		p.line(in.Text())
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("reading patch: %w", err)
	}
	return p.files, nil
}

type patchParser struct {
	files    []DiffFile
	old, new int // lines left in the hunk
}

func (p *patchParser) line(s string) {
	if strings.HasPrefix(s, "diff --git ") && p.old <= 0 && p.new <= 0 {
		path := strings.TrimPrefix(s, "diff --git ")
		if i := strings.LastIndex(path, " b/"); i >= 0 {
			path = path[i+1:]
		}
		p.files = append(p.files, DiffFile{Path: unquote(path), Status: "modified"})
		p.old, p.new = 0, 0
		return
	}
	if len(p.files) == 0 {
		return
	}
	f := &p.files[len(p.files)-1]
	if p.old > 0 || p.new > 0 {
		p.body(f, s)
		return
	}
	p.head(f, s)
}

func (p *patchParser) head(f *DiffFile, s string) {
	key, rest, _ := strings.Cut(s, " ")
	switch {
	case strings.HasPrefix(s, "@@ "):
		p.hunk(f, s)
	case strings.HasPrefix(s, "new file"):
		f.Status = "added"
	case strings.HasPrefix(s, "deleted file"):
		f.Status = "deleted"
	case strings.HasPrefix(s, "rename from "):
		f.Status, f.From = "renamed", unquote(strings.TrimPrefix(s, "rename from "))
	case strings.HasPrefix(s, "rename to "):
		f.Path = unquote(strings.TrimPrefix(s, "rename to "))
	case strings.HasPrefix(s, "old mode "):
		f.Note = "mode " + strings.TrimPrefix(s, "old mode ")
	case strings.HasPrefix(s, "new mode "):
		f.Note += " → " + strings.TrimPrefix(s, "new mode ")
	case strings.HasPrefix(s, "Binary files "), s == "GIT binary patch":
		f.Binary = true
	case key == "---" && rest != "/dev/null" && f.Status == "deleted",
		key == "+++" && rest != "/dev/null":
		f.Path = unquote(strings.TrimSuffix(rest, "\t"))
	}
}

// hunk reads "@@ -12,7 +12,9 @@ func main() {".
func (p *patchParser) hunk(f *DiffFile, s string) {
	ranges, title, _ := strings.Cut(strings.TrimPrefix(s, "@@ "), " @@")
	before, after, _ := strings.Cut(ranges, " ")
	h := Hunk{Title: strings.TrimSpace(title)}
	h.Old, p.old = span(strings.TrimPrefix(before, "-"))
	h.New, p.new = span(strings.TrimPrefix(after, "+"))
	f.Hunks = append(f.Hunks, h)
}

func span(s string) (first, lines int) {
	a, b, found := strings.Cut(s, ",")
	first, _ = strconv.Atoi(a) // git writes numbers; anything else reads as line 0
	if !found {
		return first, 1
	}
	lines, _ = strconv.Atoi(b)
	return first, lines
}

func (p *patchParser) body(f *DiffFile, s string) {
	h := &f.Hunks[len(f.Hunks)-1]
	op, text := byte(' '), ""
	if s != "" {
		op, text = s[0], s[1:]
	}
	switch op {
	case '+':
		f.Added++
		p.new--
	case '-':
		f.Removed++
		p.old--
	case '\\': // "\ No newline at end of file"
		return
	default:
		op = ' '
		p.old, p.new = p.old-1, p.new-1
	}
	h.Lines = append(h.Lines, DiffLine{op, text})
}

func unquote(s string) string {
	if strings.HasPrefix(s, `"`) {
		if u, err := strconv.Unquote(s); err == nil {
			s = u
		}
	}
	if strings.HasPrefix(s, "a/") || strings.HasPrefix(s, "b/") {
		return s[2:]
	}
	return s
}

package git

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// patch reads `git diff -p` as it comes and fills in the hunks of files that
// `--raw` already named. Names in the patch are never parsed: hostile ones
// could look like anything. Its files come in the same order; a file whose
// type changed comes twice, as deleted and as added.
type patch struct {
	files []FileDiff
	o     DiffOptions
	full  func() // called once when MaxBytes is reached

	at      int   // index of the current file; -1 before the first
	half    bool  // the new half of a retyped file is still to come
	hunk    *Hunk // current; nil outside
	old     int   // next line numbers
	new     int
	oldLeft int // lines of the hunk still to come
	newLeft int
	lines   int // shown of the current file
	bytes   int // shown of all
	stopped bool
	part    []byte // of the line being read, at most maxLine+1
	long    bool   // the rest of the line is being dropped
}

func newPatch(files []FileDiff, o DiffOptions) *patch {
	if o.MaxLines == 0 {
		o.MaxLines = 3000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 4 << 20
	}
	return &patch{files: files, o: o, at: -1, full: func() {}}
}

func (p *patch) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && !p.stopped {
		i := bytes.IndexByte(b, '\n')
		chunk := b
		if i >= 0 {
			chunk = b[:i]
		}
		if room := maxLine + 1 - len(p.part); len(chunk) > room {
			chunk, p.long = chunk[:room], true
		}
		p.part = append(p.part, chunk...)
		if i < 0 {
			break
		}
		p.take(p.part, p.long)
		p.part, p.long = p.part[:0], false
		b = b[i+1:]
	}
	return n, nil
}

var hunkRE = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)$`)

// take handles one line. Inside a hunk its counts say what is content.
func (p *patch) take(line []byte, long bool) {
	if p.oldLeft > 0 || p.newLeft > 0 {
		p.content(line, long)
		return
	}
	switch {
	case bytes.HasPrefix(line, []byte("diff --git ")):
		p.hunk = nil
	case bytes.HasPrefix(line, []byte("index ")) && p.hunk == nil:
		p.findFile(string(line[len("index "):]))
	case bytes.HasPrefix(line, []byte(`\ `)):
		p.noEOL()
	case bytes.HasPrefix(line, []byte("@@ ")) && p.at >= 0 && p.at < len(p.files):
		p.beginHunk(string(line))
	}
}

// findFile matches a file by its object ids: a file without changed lines (a
// pure rename, or space alone under IgnoreSpace) is left out of the patch.
func (p *patch) findFile(ids string) {
	ids, _, _ = strings.Cut(ids, " ")
	from, to, _ := strings.Cut(ids, "..")
	if p.half && isZero(from) && p.files[p.at].NewBlob == to {
		p.half = false
		return
	}
	for p.half, p.lines, p.at = false, 0, p.at+1; p.at < len(p.files); p.at++ {
		f := &p.files[p.at]
		p.half = f.Status == Retyped && f.OldBlob == from && isZero(to)
		if p.half || f.OldBlob == from && f.NewBlob == to {
			return
		}
	}
}

func (p *patch) beginHunk(line string) {
	m := hunkRE.FindStringSubmatch(line)
	if m == nil {
		return
	}
	num := func(i, missing int) int {
		if m[i] == "" {
			return missing
		}
		n, _ := strconv.Atoi(m[i])
		return n
	}
	h := Hunk{OldStart: num(1, 0), OldLines: num(2, 1), NewStart: num(3, 0), NewLines: num(4, 1), Section: strings.ToValidUTF8(m[5], "\ufffd")}
	p.old, p.new, p.oldLeft, p.newLeft = h.OldStart, h.NewStart, h.OldLines, h.NewLines
	f := &p.files[p.at]
	if f.Truncated || p.lines >= p.o.MaxLines {
		f.Truncated, p.hunk = true, nil
		return
	}
	f.Hunks = append(f.Hunks, h)
	p.hunk = &f.Hunks[len(f.Hunks)-1]
}

func (p *patch) content(line []byte, long bool) {
	if len(line) == 0 {
		line = []byte(" ")
	}
	if line[0] == '\\' {
		p.noEOL()
		return
	}
	l := Line{Op: line[0], Cut: long}
	if l.Op != '+' {
		l.Old = p.old
		p.old++
		p.oldLeft--
	}
	if l.Op != '-' {
		l.New = p.new
		p.new++
		p.newLeft--
	}
	if p.hunk == nil {
		return
	}
	if p.lines >= p.o.MaxLines {
		p.files[p.at].Truncated, p.hunk = true, nil
		return
	}
	l.Text = strings.ToValidUTF8(string(line[1:]), "\ufffd")
	p.hunk.Lines = append(p.hunk.Lines, l)
	p.lines++
	if p.bytes += len(l.Text); p.bytes > p.o.MaxBytes {
		p.stop()
	}
}

func (p *patch) noEOL() {
	if p.hunk != nil && len(p.hunk.Lines) > 0 {
		p.hunk.Lines[len(p.hunk.Lines)-1].NoEOL = true
	}
}

// stop ends the reading: this file and all after it are truncated.
func (p *patch) stop() {
	p.stopped = true
	for i := max(p.at, 0); i < len(p.files); i++ {
		f := &p.files[i]
		f.Truncated = f.Truncated || f.Added+f.Removed > 0
	}
	p.full()
}

// end handles a last line without an end.
func (p *patch) end() {
	if len(p.part) > 0 && !p.stopped {
		p.take(p.part, p.long)
	}
}

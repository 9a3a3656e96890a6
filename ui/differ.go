package ui

import (
	"strings"
)

const (
	diffContext = 3
	diffEffort  = 800 // edits after which a file counts as replaced
)

// compare is the difference of two texts as an agent reported them.
func compare(path, before, after string) DiffFile {
	a, b := split(before), split(after)
	f := DiffFile{Path: path, Status: "modified"}
	switch {
	case before == "":
		f.Status = "added"
	case after == "":
		f.Status = "deleted"
	}
	lines := edits(a, b)
	for _, l := range lines {
		switch l.Op {
		case '+':
			f.Added++
		case '-':
			f.Removed++
		}
	}
	f.Hunks = hunks(lines)
	return f
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// edits lists all lines of both texts in order: same ends first, then Myers'
// shortest edit script for the middle.
func edits(a, b []string) []DiffLine {
	var head, tail []DiffLine
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, DiffLine{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, DiffLine{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	out := append(head, middle(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		out = append(out, tail[i])
	}
	return out
}

func middle(a, b []string) []DiffLine {
	trace := myers(a, b)
	if trace == nil {
		return replaced(a, b)
	}
	var back []DiffLine
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		v, k := trace[d], x-y
		at := func(k int) int { return v[k+diffEffort+1] }
		down := k == -d || k != d && at(k-1) < at(k+1)
		prev := k - 1
		if down {
			prev = k + 1
		}
		px := at(prev)
		py := px - prev
		for x > px && y > py && x > 0 && y > 0 {
			x, y = x-1, y-1
			back = append(back, DiffLine{' ', a[x]})
		}
		switch {
		case d == 0:
		case down:
			y--
			back = append(back, DiffLine{'+', b[y]})
		default:
			x--
			back = append(back, DiffLine{'-', a[x]})
		}
	}
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return back
}

func replaced(a, b []string) []DiffLine {
	out := make([]DiffLine, 0, len(a)+len(b))
	for _, l := range a {
		out = append(out, DiffLine{'-', l})
	}
	for _, l := range b {
		out = append(out, DiffLine{'+', l})
	}
	return out
}

// myers gives the furthest points before each round, or nil when the texts
// differ in more than diffEffort edits.
func myers(a, b []string) [][]int {
	v := make([]int, 2*diffEffort+3)
	var trace [][]int
	for d := 0; d <= diffEffort && d <= len(a)+len(b); d++ {
		trace = append(trace, append([]int(nil), v...))
		for k := -d; k <= d; k += 2 {
			i := k + diffEffort + 1
			x := v[i-1] + 1
			if k == -d || k != d && v[i-1] < v[i+1] {
				x = v[i+1]
			}
			y := x - k
			for x < len(a) && y < len(b) && a[x] == b[y] {
				x, y = x+1, y+1
			}
			v[i] = x
			if x >= len(a) && y >= len(b) {
				return trace
			}
		}
	}
	return nil
}

// hunks keeps diffContext lines around each change.
func hunks(lines []DiffLine) []Hunk {
	var out []Hunk
	oldLine, newLine, last := 1, 1, -1
	for i, l := range lines {
		if near(lines, i) {
			if last != i-1 || len(out) == 0 {
				out = append(out, Hunk{Old: oldLine, New: newLine})
			}
			h := &out[len(out)-1]
			h.Lines = append(h.Lines, l)
			last = i
		}
		if l.Op != '+' {
			oldLine++
		}
		if l.Op != '-' {
			newLine++
		}
	}
	return out
}

func near(lines []DiffLine, i int) bool {
	for j := max(0, i-diffContext); j < min(len(lines), i+diffContext+1); j++ {
		if lines[j].Op != ' ' {
			return true
		}
	}
	return false
}

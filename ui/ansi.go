package ui

import (
	"strconv"
	"strings"
)

// styled is a run of terminal output in one style.
type styled struct {
	Class string
	Text  string
}

const ansiSpans = 4000 // styles kept of one output; the rest is plain

// ansi reads the colours of terminal output (SGR) into classes and drops every
// other escape sequence. A carriage return rewrites its line, as a terminal
// would show it. Other control characters become visible.
func ansi(s string) []styled {
	s = rewrite(s)
	var out []styled
	class := ""
	emit := func(text string) {
		if text = visible(text); text == "" {
			return
		}
		if n := len(out); n > 0 && (out[n-1].Class == class || n >= ansiSpans) {
			out[n-1].Text += text
			return
		}
		out = append(out, styled{class, text})
	}
	for {
		i := strings.IndexByte(s, 0x1b)
		if i < 0 {
			emit(s)
			return out
		}
		emit(s[:i])
		body, final, n := escape(s[i:])
		if final == 'm' {
			class = sgr(class, body)
		}
		s = s[i+n:]
	}
}

// rewrite keeps of each line what was written after its last carriage return.
func rewrite(s string) string {
	if !strings.Contains(s, "\r") {
		return s
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		l = strings.TrimRight(l, "\r")
		lines[i] = l[strings.LastIndexByte(l, '\r')+1:]
	}
	return strings.Join(lines, "\n")
}

// escape measures the sequence at the start of s. Of a CSI sequence it also
// gives the parameters and the final byte.
func escape(s string) (body string, final byte, length int) {
	if len(s) < 2 {
		return "", 0, len(s)
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if c := s[i]; c >= 0x40 && c <= 0x7e {
				return s[2:i], c, i + 1
			} else if c < 0x20 {
				return "", 0, i
			}
		}
		return "", 0, len(s)
	case ']', 'P', '^', '_': // a string up to BEL or ST
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return "", 0, i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return "", 0, i + 2
			}
			if s[i] == '\n' { // never ended: keep what follows readable
				return "", 0, i
			}
		}
		return "", 0, len(s)
	case '(', ')':
		return "", 0, min(3, len(s))
	}
	return "", 0, 2
}

// sgr applies one SGR sequence to a class list of at most bold, and one colour.
func sgr(class, body string) string {
	bold := class == "b" || strings.HasPrefix(class, "b ")
	colour := class
	if bold {
		colour = strings.TrimSpace(class[1:])
	}
	codes := strings.Split(body, ";")
	for i := 0; i < len(codes); i++ {
		n, _ := strconv.Atoi(codes[i]) // empty is 0: reset
		switch {
		case n == 0:
			bold, colour = false, ""
		case n == 1:
			bold = true
		case n == 22:
			bold = false
		case n == 39:
			colour = ""
		case n >= 30 && n <= 37:
			colour = "t" + strconv.Itoa(n-30)
		case n >= 90 && n <= 97:
			colour = "t" + strconv.Itoa(n-90+8)
		case n == 38 || n == 48: // 256 and true colours are not shown
			if i+1 < len(codes) && codes[i+1] == "5" {
				i += 2
			} else {
				i += 4
			}
		}
	}
	if bold {
		return strings.TrimSpace("b " + colour)
	}
	return colour
}

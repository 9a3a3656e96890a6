package shim

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

const (
	maxSequence = 4 << 10 // bytes of an escape sequence; a longer one is taken for text
	maxStyle    = 256     // bytes of what set the colours
)

// modes are what earlier output made of a terminal: whoever is shown a later
// part alone has to be told.
type modes struct {
	rest    []byte          // a sequence that has only begun
	private map[string]bool // DEC's, where they are not as in a new terminal
	style   string          // sequences since the last reset of colours
	region  string          // sequence that set the scrolling region
	charset string
	keypad  bool
}

// usualModes are on in a new terminal.
var usualModes = []string{"7", "25"}

func (m *modes) clone() *modes {
	c := *m
	c.rest, c.private = bytes.Clone(m.rest), map[string]bool{}
	for k, v := range m.private {
		c.private[k] = v
	}
	return &c
}

func (m *modes) on(mode string) bool {
	v, known := m.private[mode]
	return known && v || !known && slices.Contains(usualModes, mode)
}

// alternate says whether a program draws on the whole screen.
func (m *modes) alternate() bool { return m.on("1049") || m.on("1047") || m.on("47") }

// feed follows output.
func (m *modes) feed(b []byte) {
	if len(m.rest) > 0 {
		b, m.rest = append(m.rest, b...), nil
	}
	for len(b) > 0 {
		n, whole := token(b)
		if !whole {
			m.rest = bytes.Clone(b)
			return
		}
		if b[0] == esc {
			m.sequence(b[:n])
		}
		b = b[n:]
	}
}

func (m *modes) feedAll(b []byte) *modes {
	m.feed(b)
	return m
}

func (m *modes) sequence(s []byte) {
	last, body := s[len(s)-1], ""
	if len(s) > 3 {
		body = string(s[2 : len(s)-1])
	}
	switch {
	case len(s) == 2 && last == 'c', s[1] == '[' && last == 'p' && body == "!":
		*m = modes{private: map[string]bool{}}
	case len(s) == 2 && (last == '=' || last == '>'):
		m.keypad = last == '='
	case s[1] == '(':
		m.charset = string(s)
	case s[1] != '[':
	case (last == 'h' || last == 'l') && strings.HasPrefix(body, "?"):
		for mode := range strings.SplitSeq(body[1:], ";") {
			m.set(mode, last == 'h')
		}
	case last == 'r' && !strings.HasPrefix(body, "?"):
		m.region = string(s)
	case last == 'm' && !strings.HasPrefix(body, ">") && !strings.HasPrefix(body, "?"):
		m.colour(string(s), body)
	}
}

func (m *modes) set(mode string, on bool) {
	if len(mode) > 5 || len(m.private) >= 64 {
		return
	}
	if m.private == nil {
		m.private = map[string]bool{}
	}
	m.private[mode] = on
}

func (m *modes) colour(s, body string) {
	first, _, _ := strings.Cut(body, ";")
	if first == "" || first == "0" {
		m.style = ""
	}
	if m.style += s; len(m.style) > maxStyle {
		m.style = s
	}
}

// restore makes a terminal that shows nothing yet what it would be.
func (m *modes) restore() []byte {
	var b bytes.Buffer
	for _, mode := range []string{"1049", "1047", "47"} { // before what is drawn there
		if m.on(mode) {
			b.WriteString("\x1b[?" + mode + "h")
		}
	}
	names := make([]string, 0, len(m.private))
	for mode := range m.private {
		names = append(names, mode)
	}
	slices.Sort(names)
	for _, mode := range names {
		switch {
		case mode == "1049" || mode == "1047" || mode == "47" || mode == "1048":
		case m.private[mode] != slices.Contains(usualModes, mode):
			b.WriteString("\x1b[?" + mode + map[bool]string{true: "h", false: "l"}[m.private[mode]])
		}
	}
	if m.keypad {
		b.WriteString("\x1b=")
	}
	b.WriteString(m.region + m.charset + m.style)
	return append(b.Bytes(), m.rest...)
}

// blank undoes what a terminal was made by output that is left out from here.
const blank = "\x18\x1b\\\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[!p\x1b[?7h\x1b[?25h\x1b(B\x1b>\x1b[0m\x1b[H\x1b[2J"

const esc = 0x1b

// token measures the first character or escape sequence of b, which is not
// empty. It is not whole when b ends in its middle.
func token(b []byte) (n int, whole bool) {
	if b[0] != esc {
		if i := bytes.IndexByte(b, esc); i > 0 {
			return i, true
		}
		return len(b), true
	}
	if len(b) == 1 {
		return 1, false
	}
	switch b[1] {
	case '[':
		n, whole = until(b, func(c byte) bool { return c >= 0x40 && c <= 0x7e })
	case ']', 'P', '_', '^', 'X':
		n, whole = stringEnd(b)
	case '(', ')', '*', '+', '#', '%', ' ':
		n, whole = min(len(b), 3), len(b) >= 3
	default:
		n, whole = 2, true
	}
	if !whole && len(b) >= maxSequence {
		return 1, true
	}
	return n, whole
}

func until(b []byte, last func(byte) bool) (int, bool) {
	for i := 2; i < len(b) && i < maxSequence; i++ {
		if last(b[i]) {
			return i + 1, true
		}
		if b[i] == esc || b[i] == 0x18 || b[i] == 0x1a {
			return i, true // it was broken off
		}
	}
	return len(b), false
}

func stringEnd(b []byte) (int, bool) {
	for i := 2; i < len(b) && i < maxSequence; i++ {
		switch {
		case b[i] == 0x07 || b[i] == 0x18:
			return i + 1, true
		case b[i] == esc && i+1 < len(b):
			if b[i+1] == '\\' {
				return i + 2, true
			}
			return i, true
		}
	}
	return len(b), false
}

// hushed is output for somebody who sees it later: without bells, what sets the
// clipboard, and the questions that a terminal answers by typing.
func hushed(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		n, whole := token(b)
		switch {
		case !whole:
			return append(out, b...)
		case b[0] != esc:
			for _, c := range b[:n] {
				if c != 0x07 && c != 0x05 {
					out = append(out, c)
				}
			}
		case !asks(b[:n]):
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// asks says whether a sequence makes a terminal answer.
func asks(s []byte) bool {
	last := s[len(s)-1]
	switch s[1] {
	case 'Z':
		return true
	case ']':
		body := strings.TrimRight(string(s[2:]), "\x07\x1b\\")
		return strings.HasSuffix(body, ";?") || strings.HasPrefix(body, "52;")
	case 'P':
		return bytes.HasPrefix(s[2:], []byte("+q")) || bytes.HasPrefix(s[2:], []byte("$q"))
	case '[':
		if len(s) < 3 {
			return false
		}
		body := string(s[2 : len(s)-1])
		switch last {
		case 'c', 'n', 'x':
			return true
		case 'p':
			return strings.HasSuffix(body, "$")
		case 'q':
			return strings.HasPrefix(body, ">")
		case 'u':
			return strings.HasPrefix(body, "?")
		case 't':
			first, _, _ := strings.Cut(body, ";")
			what, err := strconv.Atoi(first)
			return err == nil && what >= 11 && what <= 21
		}
	}
	return false
}

// answers says whether input is nothing but what a terminal says by itself:
// answers to questions, and that its window was looked at.
func answers(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for len(b) > 0 {
		if b[0] != esc {
			return false
		}
		n, whole := token(b)
		if !whole || !answer1(b[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

func answer1(s []byte) bool {
	if s[1] == ']' || s[1] == 'P' {
		return true
	}
	if s[1] != '[' || len(s) < 3 {
		return false
	}
	switch s[len(s)-1] {
	case 'c', 'n', 'R', 'I', 'O', 'y', 't':
		return true
	case 'u':
		return s[2] == '?'
	}
	return false
}

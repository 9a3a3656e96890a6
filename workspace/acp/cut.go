package acp

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
)

// Limits of what one item carries, in bytes as written in JSON, so that an
// item of every field at its limit stays below a log entry's size.
const (
	maxInput  = 24 << 10 // a tool's raw input
	maxDiffs  = 64 << 10 // all diffs of one tool call together
	maxLive   = 4 << 10  // output shown while the tool still runs
	maxLine   = 1 << 10  // titles, names, paths
	maxDetail = 8 << 10  // raw text under an error, an ask, an unknown update
	maxList   = 200      // locations, plan lines, options, diffs
)

// cost is what r takes in JSON as encoding/json writes it.
func cost(r rune) int {
	switch {
	case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t':
		return 2
	case r < 0x20 || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029':
		return 6
	default:
		return utf8.RuneLen(r)
	}
}

// prefix is the longest start of s, in whole runes, that costs at most limit.
func prefix(s string, limit int) string {
	for i, r := range s {
		if limit -= cost(r); limit < 0 {
			return s[:i]
		}
	}
	return s
}

// suffix is the longest end of s, in whole runes, that costs at most limit.
func suffix(s string, limit int) string {
	at := len(s)
	for at > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:at])
		if limit -= cost(r); limit < 0 {
			break
		}
		at -= n
	}
	return s[at:]
}

// clean makes s valid UTF-8.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// cutMiddle keeps the start and the end of s and says what it left out. size
// is the length before the cut, 0 when nothing was cut.
func cutMiddle(s string, limit int) (text string, size int64) {
	s = clean(s)
	if len(s)*6 <= limit || len(prefix(s, limit)) == len(s) {
		return s, 0
	}
	const room = 64 // for the mark
	head := prefix(s, (limit-room)/2)
	tail := suffix(s[len(head):], (limit-room)/2)
	return head + mark(int64(len(s)-len(head)-len(tail))) + tail, int64(len(s))
}

// mark stands where something was left out.
func mark(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("\n… %.1f MB left out …\n", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("\n… %.1f KB left out …\n", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("\n… %d bytes left out …\n", n)
	}
}

// line is s on one line, short enough for a title.
func line(s string) string {
	s = strings.Join(strings.Fields(clean(s)), " ")
	if short := prefix(s, maxLine); len(short) < len(s) {
		return short + "…"
	}
	return s
}

// body gathers output of any length in bounded memory: its first and last
// parts, and how long it was.
type body struct {
	head, tail string
	size       int64 // all bytes that came
}

const halfBody = chat.MaxBody / 2

func (b *body) add(s string) {
	s = clean(s)
	b.size += int64(len(s))
	if b.tail == "" {
		n := min(len(s), max(0, halfBody-len(b.head)))
		for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		b.head += s[:n]
		s = s[n:]
	}
	if s == "" {
		return
	}
	b.tail += s
	if len(b.tail) > 2*halfBody {
		cut := len(b.tail) - halfBody
		for cut < len(b.tail) && !utf8.RuneStart(b.tail[cut]) {
			cut++
		}
		b.tail = strings.Clone(b.tail[cut:])
	}
}

func (b *body) set(s string) {
	*b = body{}
	b.add(s)
}

// text is what is kept, cut to limit; size is 0 when it is all there was.
func (b *body) text(limit int) (string, int64) {
	kept := int64(len(b.head) + len(b.tail))
	if kept == b.size {
		text, size := cutMiddle(b.head+b.tail, limit)
		return text, size
	}
	const room = 64
	head := prefix(b.head, (limit-room)/2)
	tail := suffix(b.tail, (limit-room)/2)
	return head + mark(b.size-int64(len(head)+len(tail))) + tail, b.size
}

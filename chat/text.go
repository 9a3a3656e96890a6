package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// quote shows a name from outside in a sentence, cut and escaped.
func quote(s string) string { return strconv.Quote(cutChars(s, 40)) }

// cutChars keeps the first n characters.
func cutChars(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// cutEnd keeps at most n bytes and whole characters.
func cutEnd(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// cutMiddle keeps the first and the last of a text within n bytes and says
// what is missing. The size is that of the whole text, 0 when nothing was cut.
func cutMiddle(s string, n int) (string, int64) {
	if len(s) <= n {
		return s, 0
	}
	const room = 64 // for the sentence in the middle
	head := cutEnd(s, (n-room)/2)
	from := len(s) - (n-room)/2
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	return head + fmt.Sprintf("\n… %d bytes left out …\n", from-len(head)) + s[from:], int64(len(s))
}

// clean makes text valid UTF-8.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// line makes one short line of a text: no control characters, at most n
// characters.
func line(s string, n int) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)), " ")
	return cutChars(s, n)
}

// titleOf is the first line of a message.
func titleOf(text string) string {
	if t := line(text, MaxName); t != "" {
		return t
	}
	return "Untitled"
}

const branchPrefix = "samnode/" // of the branches of tasks

// branchOf names a task's branch: at most four words of the title and the
// random end of the id. The time at the front of a ULID is the same for tasks
// made in one moment.
func branchOf(title string, id TaskID) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	words = words[:min(len(words), 4)]
	for i, w := range words {
		words[i] = w[:min(len(w), 20)]
	}
	tail := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(string(id[max(0, len(id)-8):])))
	return branchPrefix + strings.Join(append(words, tail), "-")
}

// shortID keeps an agent's id, or the hash of one that is too long or holds
// what ids do not.
func shortID(id string) string {
	if checkID(id) == nil {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "h-" + hex.EncodeToString(sum[:16])
}

// rawOf makes JSON of what an agent said: itself when it is JSON and fits, else
// a string of it.
func rawOf(raw []byte) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	text := clean(string(raw))
	if len(text) <= MaxBody && json.Valid([]byte(text)) {
		if data, err := json.Marshal(json.RawMessage(text)); err == nil {
			return data
		}
	}
	text, _ = cutMiddle(text, MaxBody)
	data, err := json.Marshal(text)
	if err != nil { // a string always encodes
		return nil
	}
	return data
}

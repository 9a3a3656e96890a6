package scriptagent

import (
	"strings"
	"unicode"
)

// block is one fence of a prompt that is for us.
type block struct {
	shell string // sh or bash; "" for a directive
	verb  string // of a directive: question
	code  string
}

// parse finds the fences in a Markdown text: sh, bash and shell are run,
// samnode holds a directive, all others are text. As in Markdown, a fence that
// is not closed goes on to the end.
func parse(text string) []block {
	var blocks []block
	var open string // the fence that is open: its marks
	var info, code []string
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\r\n")
		marks, rest := fence(l)
		switch {
		case open == "" && marks != "":
			open, info, code = marks, strings.Fields(rest), nil
		case open != "" && marks != "" && marks[0] == open[0] && len(marks) >= len(open) && strings.TrimSpace(rest) == "":
			blocks = appendBlock(blocks, info, code)
			open = ""
		case open != "":
			code = append(code, l)
		}
	}
	if open != "" {
		blocks = appendBlock(blocks, info, code)
	}
	return blocks
}

// fence splits a line into its fence marks and what follows; "" for others.
func fence(l string) (marks, rest string) {
	t := strings.TrimLeft(l, " ")
	if len(l)-len(t) > 3 || t == "" || t[0] != '`' && t[0] != '~' {
		return "", ""
	}
	rest = strings.TrimLeft(t, t[:1])
	marks = t[:len(t)-len(rest)]
	if len(marks) < 3 || marks[0] == '`' && strings.Contains(rest, "`") {
		return "", ""
	}
	return marks, rest
}

func appendBlock(blocks []block, info, code []string) []block {
	text := strings.Join(code, "\n")
	if len(info) == 0 || strings.TrimSpace(text) == "" {
		return blocks
	}
	switch strings.ToLower(info[0]) {
	case "sh", "shell":
		return append(blocks, block{shell: "sh", code: text})
	case "bash":
		return append(blocks, block{shell: "bash", code: text})
	case "samnode":
		if len(info) > 1 && info[1] == "question" {
			return append(blocks, block{verb: "question", code: text})
		}
	}
	return blocks
}

// title is the block in one line: its first line that says something, without
// what would make a reader see another one.
func title(code string) string {
	lines := 0
	first := ""
	for l := range strings.Lines(code) {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if lines++; lines == 1 {
			first = l
		}
	}
	if first == "" {
		first = strings.TrimSpace(code)
	}
	first = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(first, "\ufffd"))
	if r := []rune(first); len(r) > 100 {
		first = string(r[:100]) + "…"
	} else if lines > 1 {
		first += " …"
	}
	return first
}

// question is a directive's text and choices.
func question(code string) (text string, choices []string) {
	var words []string
	for l := range strings.Lines(code) {
		l = strings.TrimSpace(l)
		if choice, ok := strings.CutPrefix(l, "- "); ok {
			choices = append(choices, strings.TrimSpace(choice))
		} else if l != "" {
			words = append(words, l)
		}
	}
	return strings.Join(words, "\n"), choices
}

const help = "I run shell commands. Put them in a fenced block and send it:\n\n" +
	"```sh\ngo test ./...\n```\n\n" +
	"Several blocks run in order; the first that fails ends the turn. For a message in plain words choose another agent, such as claude."

package forge

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
)

const (
	maxTitle = 120   // characters; GitHub's own limit is 256
	maxBody  = 60000 // bytes; GitHub's own limit is 65536 characters
	maxPart  = 20000
)

// Title is a pull request's title: the task's, or the begin of what was asked.
func Title(t chat.Task, messages []chat.Message) string {
	title := t.Title
	for _, m := range messages {
		if title == "" && m.Kind == chat.KindUser {
			title = m.Text
		}
	}
	title, _, _ = strings.Cut(strings.TrimSpace(title), "\n")
	title = strings.Join(strings.Fields(strings.ToValidUTF8(title, "")), " ")
	if title == "" {
		title = "Task " + string(t.ID)
	}
	if r := []rune(title); len(r) > maxTitle {
		title = strings.TrimSpace(string(r[:maxTitle-1])) + "…"
	}
	return title
}

// Body is a pull request's text: what the agent said last, what people asked,
// the task's page (link may be empty), and that an agent wrote it.
func Body(t chat.Task, messages []chat.Message, link string) string {
	var summary string
	var asked []string
	for _, m := range messages {
		switch text := strings.TrimSpace(m.Text); {
		case text == "":
		case m.Kind == chat.KindUser:
			asked = append(asked, text)
		case m.Kind == chat.KindAgent:
			summary = text
		}
	}
	var b strings.Builder
	if summary != "" {
		b.WriteString(quiet(cut(summary, maxPart)) + "\n\n")
	}
	if len(asked) > 0 {
		b.WriteString("### What was asked\n\n")
	}
	for _, text := range asked {
		part := "> " + strings.ReplaceAll(quiet(cut(text, maxPart/4)), "\n", "\n> ") + "\n\n"
		if b.Len()+len(part) > maxBody-2000 {
			b.WriteString("> …\n\n")
			break
		}
		b.WriteString(part)
	}
	b.WriteString("---\n" + Signature(t))
	if link != "" {
		b.WriteString(" The whole conversation: " + link)
	}
	return b.String()
}

// Signature is the line that says an agent wrote it.
func Signature(t chat.Task) string {
	who := t.Agent
	if who == "" {
		who = "an agent"
	}
	line := fmt.Sprintf("Written by an AI agent (%s) in samnode", who)
	if t.Author.Person != "" {
		line += ", asked by " + quiet(string(t.Author.Person))
	}
	return line + "."
}

// quiet keeps a text from calling people: "@name" notifies on a forge.
func quiet(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "@", "@\u200b")
}

// cut shortens to n bytes without cutting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "\n…"
}

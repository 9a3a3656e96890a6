package workspace

import (
	"context"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
)

// How much of the chat a session without memory is told.
const (
	primerTotal = 16 << 10
	primerEach  = 2 << 10
)

// prompt is the text that the agent gets for a message. The first one of a
// session that could not take up the earlier one (the task comes from another
// node, say) begins with what was said before.
func (n *run) prompt(ctx context.Context, m chat.Message) (string, error) {
	first := false
	n.drv.See(func(c *acp.Conversation) {
		run, _ := c.Run()
		last, any := c.Turn()
		first = c.Session().Fresh && (!any || last.Run != run)
	})
	if !first || n.agent.BuiltIn() || strings.HasPrefix(m.Text, "/") { // a command, which must come first
		return m.Text, nil
	}
	said, err := ask(ctx, n.log, "reading the chat", func() ([]chat.Message, error) {
		return n.r.c.Board.Messages(ctx, n.id, m.Seq, recent)
	})
	if err != nil {
		return "", err
	}
	return primer(said) + m.Text, nil
}

// primer tells the newest of what people and the agent said, in order.
func primer(said []chat.Message) string {
	var parts []string
	for i, left := len(said)-1, primerTotal; i >= 0; i-- {
		who := map[chat.Kind]string{chat.KindUser: "The user", chat.KindAgent: "You"}[said[i].Kind]
		text := strings.TrimSpace(said[i].Text)
		if who == "" || text == "" {
			continue
		}
		part := who + ": " + middle(text, primerEach) + "\n\n"
		if left -= len(part); left < 0 {
			parts = append(parts, "(What was said before that is left out.)\n\n")
			break
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("You worked on this task before, in a session whose memory is lost. The files are as they were left on the branch. This was said so far:\n\n<earlier>\n")
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString(parts[i])
	}
	b.WriteString("</earlier>\n\nNow the user says:\n\n")
	return b.String()
}

// middle leaves out what is in the middle of a long text.
func middle(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const gap = "\n[…]\n"
	half := (limit - len(gap)) / 2
	return strings.ToValidUTF8(text[:half], "") + gap + strings.ToValidUTF8(text[len(text)-half:], "")
}

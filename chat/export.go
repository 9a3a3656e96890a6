package chat

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Export writes a task with its whole history, page by page: format "md" for
// people, "json" for programs (an object with task, messages and visits).
func (r *Room) Export(ctx context.Context, w io.Writer, task TaskID, format string) error {
	t, err := r.Task(string(task))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	switch format {
	case "json":
		err = r.exportJSON(ctx, out, t)
	case "md":
		err = r.exportMarkdown(ctx, out, t)
	default:
		return refuse(CodeInvalid, "%s is no format of export; there are md and json.", quote(format))
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("exporting task %s: %w", t.ID, err)
	}
	return nil
}

// each calls do for every message in order.
func (r *Room) each(ctx context.Context, task TaskID, do func(Message) error) error {
	for from := uint64(1); ; {
		page, err := r.history.Page(ctx, task, Range{From: from}, 100)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, m := range page {
			if err := do(m); err != nil {
				return err
			}
			from = m.Seq + 1
		}
	}
}

func (r *Room) exportJSON(ctx context.Context, w *bufio.Writer, t Task) error {
	head, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "{\"task\":%s,\n\"messages\":[", head); err != nil {
		return err
	}
	sep := "\n"
	err = r.each(ctx, t.ID, func(m Message) error {
		data, err := json.Marshal(m)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s", sep, data)
		sep = ",\n"
		return err
	})
	if err != nil {
		return err
	}
	visits, err := json.Marshal(append([]Visit{}, r.Visits(t.ID)...))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n],\n\"visits\":%s}\n", visits)
	return err
}

func (r *Room) exportMarkdown(ctx context.Context, w *bufio.Writer, t Task) error {
	_, err := fmt.Fprintf(w, "# %s\n\n- task: %s\n- branch: %s\n- agent: %s\n- state: %s\n- created: %s by %s\n", t.Title, t.ID, t.Branch, t.Agent, t.State.words(), t.Created.Format("2006-01-02 15:04 MST"), t.Author.name())
	if err == nil && t.PullRequest != nil {
		_, err = fmt.Fprintf(w, "- pull request: %s\n", t.PullRequest.URL)
	}
	if err != nil {
		return err
	}
	err = r.each(ctx, t.ID, func(m Message) error {
		_, err := w.WriteString(markdownOf(m))
		return err
	})
	if visits := r.Visits(t.ID); err == nil && len(visits) > 0 {
		_, err = w.WriteString(markdownVisits(visits))
	}
	return err
}

// markdownVisits is who was in the workspaces, as a section.
func markdownVisits(list []Visit) string {
	const layout = "2006-01-02 15:04:05"
	var b strings.Builder
	b.WriteString("\n## Who was in the workspace\n\n")
	for _, v := range list {
		end := "went on"
		if !v.Ended.IsZero() {
			end = "until " + v.Ended.Format(layout)
		}
		fmt.Fprintf(&b, "- %s, %s: %s from %s, by %s", v.Began.Format(layout), end, v.Person, or(v.Device, "an unknown device"), v.By)
		if v.What != "" {
			fmt.Fprintf(&b, ", %s", quoteCode(v.What))
		}
		if v.Count > 1 {
			fmt.Fprintf(&b, ", %d times", v.Count)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// quoteCode puts a line into a code span that the line cannot close.
func quoteCode(text string) string {
	mark := "`"
	for strings.Contains(text, mark) {
		mark += "`"
	}
	return mark + " " + text + " " + mark
}

// markdownOf is one message as a section.
func markdownOf(m Message) string {
	var b strings.Builder
	who := string(m.Kind)
	if m.Kind == KindUser && m.Author != nil {
		who = m.Author.name()
	}
	fmt.Fprintf(&b, "\n## %d. %s, %s\n\n", m.Seq, who, m.At.Format("2006-01-02 15:04:05"))
	section := func(text string) {
		if text != "" {
			b.WriteString(text + "\n\n")
		}
	}
	section(m.Text)
	if m.Tool != nil {
		section(fmt.Sprintf("**%s** (%s, %s)", m.Tool.Title, or(m.Tool.Kind, "other"), or(m.Tool.Status, "pending")))
		section(fenced(m.Tool.Input))
		section(fenced(m.Tool.Output))
		for _, d := range m.Tool.Diffs {
			section("`" + d.Path + "`\n\n" + fenced(d.New))
		}
	}
	for _, p := range m.Plan {
		mark := map[string]string{"completed": "x"}[p.Status]
		fmt.Fprintf(&b, "- [%s] %s\n", or(mark, " "), p.Text)
	}
	if k := m.Ask; k != nil {
		section("**" + k.Title + "**")
		section(fenced(k.Detail))
		switch {
		case k.Answer != nil:
			section(fmt.Sprintf("%s answered: %s %s", k.Answer.Author.name(), k.Answer.Option, k.Answer.Text))
		case k.Closed != "":
			section(k.Closed)
		}
	}
	section(fenced(m.Detail))
	section(fenced(string(m.Raw)))
	if m.Size > 0 {
		section(fmt.Sprintf("*(cut: %d bytes in all)*", m.Size))
	}
	return b.String()
}

// fenced puts text into a code fence that the text cannot close.
func fenced(text string) string {
	if text == "" {
		return ""
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "\n" + strings.TrimRight(text, "\n") + "\n" + fence
}

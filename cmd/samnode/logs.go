package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/chat"
)

func (c *cli) taskLogs() *cobra.Command {
	var follow bool
	var after uint64
	cmd := &cobra.Command{Use: "logs TASK", Short: "Print what was said and done; one JSON item a line with --json", Args: args(cobra.ExactArgs(1))}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the task rests")
	cmd.Flags().Uint64Var(&after, "after", 0, "only what changed after this log index")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		p := &logPrinter{c: c, shown: map[string]int{}}
		if follow {
			return c.client().follow(cmd.Context(), a[0], after, func(e event) (bool, error) {
				if err := p.items(e.Items); err != nil {
					return false, err
				}
				var t taskView
				if err := json.Unmarshal(e.Task, &t); err != nil {
					return false, fmt.Errorf("reading the task: %w", err)
				}
				return !rests(t.Task), nil
			})
		}
		for more := true; more; {
			var page struct {
				Items []json.RawMessage `json:"items"`
				Index uint64            `json:"index"`
				More  bool              `json:"more"`
			}
			if err := c.client().call(cmd.Context(), http.MethodGet, fmt.Sprintf("%s?after=%d", path("tasks", a[0], "items"), after), nil, &page); err != nil {
				return err
			}
			if err := p.items(page.Items); err != nil {
				return err
			}
			after, more = page.Index, page.More
		}
		return nil
	}
	return cmd
}

// logPrinter prints items as they come. An item that grows is printed again as
// JSON, and as text only with what is new of it.
type logPrinter struct {
	c     *cli
	shown map[string]int // bytes of text printed, by message id
}

func (p *logPrinter) items(items []json.RawMessage) error {
	for _, raw := range items {
		if p.c.json {
			if _, err := fmt.Fprintf(p.c.out, "%s\n", raw); err != nil {
				return err
			}
			continue
		}
		var m chat.Message
		if err := json.Unmarshal(raw, &m); err != nil {
			return fmt.Errorf("reading an item: %w", err)
		}
		p.text(p.c.out, m)
	}
	return nil
}

func (p *logPrinter) text(w io.Writer, m chat.Message) {
	body := logText(m)
	from := min(p.shown[m.ID], len(body))
	if from == 0 && body != "" {
		fmt.Fprintf(w, "\n── %s", m.Kind)
		if m.Author != nil {
			fmt.Fprintf(w, " %s%s", m.Author.Person, m.Author.Node)
		}
		fmt.Fprintf(w, " · %s\n", m.At.Local().Format("15:04:05"))
	}
	fmt.Fprint(w, body[from:])
	p.shown[m.ID] = len(body)
	if m.Closed && !strings.HasSuffix(body, "\n") && len(body) > from {
		fmt.Fprintln(w)
	}
}

// logText is an item as plain text. What is printed once does not change
// later: of a tool call only its end is shown.
func logText(m chat.Message) string {
	switch m.Kind {
	case chat.KindTool:
		if m.Tool == nil || m.Tool.Status != "completed" && m.Tool.Status != "failed" && m.Tool.Status != "cancelled" {
			return ""
		}
		s := fmt.Sprintf("%s (%s)\n", m.Tool.Title, m.Tool.Status)
		if m.Tool.Output != "" {
			s += strings.TrimRight(m.Tool.Output, "\n") + "\n"
		}
		for _, d := range m.Tool.Diffs {
			s += "edited " + d.Path + "\n"
		}
		return s
	case chat.KindAsk:
		if m.Ask == nil {
			return ""
		}
		return fmt.Sprintf("%s\n%s\n%s\n", m.Ask.Title, m.Ask.Detail, options(*m.Ask))
	case chat.KindPlan:
		return ""
	case chat.KindDiff:
		if m.Diff == nil {
			return ""
		}
		return fmt.Sprintf("%d files, +%d −%d\n", m.Diff.Files, m.Diff.Added, m.Diff.Removed)
	case chat.KindError:
		return strings.TrimRight(m.Text+"\n"+m.Detail, "\n") + "\n"
	case chat.KindUser, chat.KindAgent, chat.KindThought, chat.KindStatus, chat.KindRaw:
		return m.Text
	default:
		return m.Text
	}
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// taskView is a task as the API answers it. The raw JSON is what --json
// prints, so that the CLI never hides a field that a newer node sends.
type taskView struct {
	chat.Task
	Node string  `json:"node"`
	Cost float64 `json:"cost"`
	Why  string  `json:"why"`
}

func (c *cli) task() *cobra.Command {
	return group("task", "Tasks: write, watch, answer",
		c.taskRun(), c.taskList(), c.taskShow(), c.taskLogs(), c.taskSay(), c.taskAnswer(),
		c.taskAct("stop", "Stop the turn, or the task that starts"),
		c.taskAct("retry", "Queue a failed or stopped task again, or start an idle one's workspace"),
		c.taskAct("release", "Give an idle task's workspace back"),
		c.taskExplain(), c.taskPorts(), c.taskMerge(), c.taskExport(), c.taskVisits(), c.taskShells(), c.taskRecording())
}

func (c *cli) taskRun() *cobra.Command {
	var project, agent, model, mode, base string
	var wait bool
	cmd := &cobra.Command{Use: "run --project NAME TEXT", Short: "Write a task; - reads it from standard input", Args: args(cobra.ExactArgs(1))}
	f := cmd.Flags()
	f.StringVar(&project, "project", "", "project, by name or id")
	f.StringVar(&agent, "agent", "", "agent (default: the project's)")
	f.StringVar(&model, "model", "", "model (default: the agent's)")
	f.StringVar(&mode, "mode", "", "plan, ask, acceptEdits or everything (default: the project's)")
	f.StringVar(&base, "base", "", "base branch (default: the project's)")
	f.BoolVar(&wait, "wait", false, "wait until the turn ended; exits 0 when idle, 1 when failed or stopped, 3 when it needs a person")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		text, err := c.text(a[0])
		if err != nil {
			return err
		}
		if project == "" {
			return &exitError{exitUsage, "--project is needed"}
		}
		body := map[string]string{"id": ulid.Make().String(), "project": project, "text": text}
		for k, v := range map[string]string{"agent": agent, "model": model, "mode": mode, "base": base} {
			if v != "" {
				body[k] = v
			}
		}
		var raw json.RawMessage
		if err := c.client().call(cmd.Context(), http.MethodPost, "tasks", body, &raw); err != nil {
			return err
		}
		if !wait {
			return c.printTask(raw)
		}
		return c.waitFor(cmd.Context(), body["id"])
	}
	return cmd
}

// text is an argument, or standard input for "-".
func (c *cli) text(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	data, err := io.ReadAll(io.LimitReader(c.in, chat.MaxText+1))
	if err != nil {
		return "", fmt.Errorf("reading the text from standard input: %w", err)
	}
	return string(data), nil
}

// waitFor returns when the task rests, and turns where it rests into the exit
// code.
func (c *cli) waitFor(ctx context.Context, id string) error {
	var last json.RawMessage
	var t taskView
	err := c.client().follow(ctx, id, 0, func(e event) (bool, error) {
		last, t = e.Task, taskView{} // a field that is absent now must not stay from before
		if err := json.Unmarshal(e.Task, &t); err != nil {
			return false, fmt.Errorf("reading the task: %w", err)
		}
		return !rests(t.Task), nil
	})
	if err != nil {
		return err
	}
	if err := c.printTask(last); err != nil {
		return err
	}
	switch t.State {
	case chat.Idle:
		return nil
	case chat.NeedsYou:
		return &exitError{code: exitRefused}
	default:
		return &exitError{code: exitFailed}
	}
}

// rests says that nothing goes on by itself any more.
func rests(t chat.Task) bool {
	switch t.State {
	case chat.Idle:
		return len(t.Queue) == 0
	case chat.Failed, chat.Stopped, chat.NeedsYou, chat.Draft:
		return true
	case chat.Queued, chat.Placing, chat.Buying, chat.Booting, chat.Preparing, chat.Starting, chat.Working, chat.Publishing:
		return false
	default:
		return false
	}
}

func (c *cli) printTask(raw json.RawMessage) error {
	var t taskView
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	return c.print(raw, func(w io.Writer) { describe(w, t) })
}

func describe(w io.Writer, t taskView) {
	fmt.Fprintf(w, "%s\t%s\n", t.ID, t.Title)
	fmt.Fprintf(w, "state\t%s\n", t.State)
	if t.Why != "" {
		fmt.Fprintf(w, "waits\t%s\n", t.Why)
	}
	if t.Failure != nil {
		fmt.Fprintf(w, "failed\t%s\n", t.Failure.Reason)
	}
	fmt.Fprintf(w, "agent\t%s, mode %s\nbranch\t%s  %d files  +%d −%d\n", t.Agent, t.Mode, t.Branch, t.Change.Files, t.Change.Added, t.Change.Removed)
	switch pr := t.PullRequest; {
	case pr != nil && pr.Number > 0:
		fmt.Fprintf(w, "pull request\t#%d %s %s\n", pr.Number, pr.State, pr.URL)
	case pr != nil:
		fmt.Fprintf(w, "compare\t%s %s\n", pr.State, pr.URL)
	}
	if t.Node != "" {
		fmt.Fprintf(w, "node\t%s\n", t.Node)
	}
	fmt.Fprintf(w, "cost\t$%.4f, %d tokens in, %d out\n", t.Cost, t.Usage.Input, t.Usage.Output)
	for _, a := range t.Asks {
		if a.Answer == nil {
			fmt.Fprintf(w, "asks\t%s  %s\n\t%s\n", a.ID, a.Title, options(a))
		}
	}
}

func options(a chat.Ask) string {
	var s []string
	for _, o := range a.Options {
		s = append(s, o.ID+" ("+o.Name+")")
	}
	for _, f := range a.Fields {
		s = append(s, f.Name+"="+strings.Join(f.Choices, "|"))
	}
	return strings.Join(s, "  ")
}

func (c *cli) taskList() *cobra.Command {
	var project string
	var states []string
	cmd := &cobra.Command{Use: "list", Short: "List tasks, newest change first", Args: args(cobra.NoArgs)}
	cmd.Flags().StringVar(&project, "project", "", "of one project")
	cmd.Flags().StringSliceVar(&states, "state", nil, "in these states")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{"state": states}
		if project != "" {
			q.Set("project", project)
		}
		var out struct {
			Tasks []json.RawMessage `json:"tasks"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, "tasks?"+q.Encode(), nil, &out); err != nil {
			return err
		}
		return c.print(out.Tasks, func(w io.Writer) {
			for _, raw := range out.Tasks {
				var t taskView
				if err := json.Unmarshal(raw, &t); err != nil {
					fmt.Fprintf(w, "unreadable\t%v\n", err)
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.ID, t.State, t.Agent, t.Title)
			}
		})
	}
	return cmd
}

func (c *cli) taskShow() *cobra.Command {
	return &cobra.Command{Use: "show TASK", Short: "Show one task", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		var raw json.RawMessage
		if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", a[0]), nil, &raw); err != nil {
			return err
		}
		return c.printTask(raw)
	}}
}

func (c *cli) taskSay() *cobra.Command {
	var steer, wait bool
	cmd := &cobra.Command{Use: "say TASK TEXT", Short: "Say something in a task; - reads it from standard input", Args: args(cobra.ExactArgs(2))}
	cmd.Flags().BoolVar(&steer, "steer", false, "at once, where the agent allows it")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the turn ended")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		text, err := c.text(a[1])
		if err != nil {
			return err
		}
		var said struct {
			Task string `json:"task"`
		}
		body := map[string]any{"id": ulid.Make().String(), "text": text, "steer": steer}
		if err := c.client().call(cmd.Context(), http.MethodPost, path("tasks", a[0], "messages"), body, &said); err != nil {
			return err
		}
		if wait {
			return c.waitFor(cmd.Context(), said.Task)
		}
		var raw json.RawMessage
		if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", said.Task), nil, &raw); err != nil {
			return err
		}
		return c.printTask(raw)
	}
	return cmd
}

func (c *cli) taskAnswer() *cobra.Command {
	var ask, text string
	cmd := &cobra.Command{Use: "answer TASK [OPTION | FIELD=VALUE ...]", Short: "Answer what a task asks", Args: args(cobra.MinimumNArgs(2))}
	cmd.Flags().StringVar(&ask, "ask", "", "which one, when several are open")
	cmd.Flags().StringVar(&text, "text", "", "said to the agent with the answer")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var t taskView
		if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", a[0]), nil, &t); err != nil {
			return err
		}
		open, err := openAsk(t.Asks, ask)
		if err != nil {
			return err
		}
		body := map[string]any{"text": text}
		values := map[string]string{}
		for _, v := range a[1:] {
			if field, value, ok := strings.Cut(v, "="); ok {
				values[field] = value
			} else {
				body["option"] = v
			}
		}
		if len(values) > 0 {
			body["values"] = values
		}
		var raw json.RawMessage
		if err := c.client().call(cmd.Context(), http.MethodPost, path("tasks", a[0], "asks", open.ID), body, &raw); err != nil {
			return err
		}
		return c.printTask(raw)
	}
	return cmd
}

// openAsk finds the ask that is meant: by id, or the only open one.
func openAsk(asks []chat.Ask, id string) (chat.Ask, error) {
	var open []chat.Ask
	for _, a := range asks {
		if a.ID == id {
			return a, nil
		}
		if a.Answer == nil && a.Closed == "" {
			open = append(open, a)
		}
	}
	switch {
	case id != "" || len(open) == 0:
		return chat.Ask{}, &exitError{exitRefused, "the task asks nothing like that; `samnode task show` lists what is open"}
	case len(open) > 1:
		return chat.Ask{}, &exitError{exitUsage, "several questions are open; name one with --ask"}
	}
	return open[0], nil
}

func (c *cli) taskAct(verb, short string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{Use: verb + " TASK", Short: short, Args: args(cobra.ExactArgs(1))}
	if verb == "stop" {
		cmd.Flags().BoolVar(&force, "force", false, "do not wait for its node")
	}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var body any
		if force {
			body = map[string]bool{"force": true}
		}
		var raw json.RawMessage
		if err := c.client().call(cmd.Context(), http.MethodPost, path("tasks", a[0], verb), body, &raw); err != nil {
			return err
		}
		return c.printTask(raw)
	}
	return cmd
}

func (c *cli) taskMerge() *cobra.Command {
	var method string
	cmd := &cobra.Command{Use: "merge TASK", Short: "Merge the branch into its base on a plain git remote", Args: args(cobra.ExactArgs(1))}
	cmd.Flags().StringVar(&method, "method", "merge", "merge, squash or rebase")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var out map[string]string
		if err := c.client().call(cmd.Context(), http.MethodPost, path("tasks", a[0], "merge"), map[string]string{"method": method}, &out); err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) { fmt.Fprintln(w, out["commit"]) })
	}
	return cmd
}

func (c *cli) taskExport() *cobra.Command {
	cmd := &cobra.Command{Use: "export TASK", Short: "Print the whole conversation: Markdown, or JSON with --json", Args: args(cobra.ExactArgs(1))}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		format := "md"
		if c.json {
			format = "json"
		}
		resp, err := c.client().do(cmd.Context(), http.MethodGet, path("tasks", a[0], "export")+"?format="+format, nil, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(c.out, resp.Body); err != nil {
			return fmt.Errorf("reading the export: %w", err)
		}
		return nil
	}
	return cmd
}

func (c *cli) taskExplain() *cobra.Command {
	return &cobra.Command{Use: "explain ID", Short: "Say why a task waits or where it was placed", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		var out api.Explanation
		if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", a[0], "explain"), nil, &out); err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) {
			fmt.Fprintf(w, "%s since %s\n%s\n", out.State, out.Since.Local().Format(time.DateTime), out.Reason)
			for _, m := range out.Candidates {
				fmt.Fprintf(w, "%s\t%d free\t%s\n", m.Node, m.Free, m.Refused)
			}
			for _, m := range out.Choices {
				fmt.Fprintf(w, "%s at %s\t%.4f €/h\t%s\n", m.Type, m.Location, m.Hour, cmp.Or(m.Refused, "can be bought"))
			}
			if !out.Again.IsZero() {
				fmt.Fprintf(w, "More may be possible at %s.\n", out.Again.Local().Format(time.DateTime))
			}
			if out.Cost > 0 {
				fmt.Fprintf(w, "Machines cost %.4f € for it until now.\n", out.Cost)
			}
		})
	}}
}

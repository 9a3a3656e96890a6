package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/ui/api"
)

func (c *cli) taskVisits() *cobra.Command {
	return &cobra.Command{Use: "visits TASK", Short: "Say who was in the task's workspace, from where, and what they did", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		var out struct {
			Visits []api.Visit `json:"visits"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", a[0], "visits"), nil, &out); err != nil {
			return err
		}
		return c.print(out.Visits, func(w io.Writer) {
			for _, v := range out.Visits {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Began.Local().Format("2 Jan 15:04:05"), howLong(v), v.Person, cutText(v.Device, 40), v.By, didWhat(v))
			}
		})
	}}
}

func howLong(v api.Visit) string {
	d := secondsOf(v.Seconds).String()
	switch v.State {
	case "live":
		return d + ", goes on"
	case "lost", "unknown":
		return d + " or more"
	}
	return d
}

func didWhat(v api.Visit) string {
	what := cutText(v.What, 60)
	if v.Count > 1 {
		what += fmt.Sprintf(" ×%d", v.Count)
	}
	return strings.TrimSpace(what)
}

func (c *cli) taskShells() *cobra.Command {
	var hold, release string
	cmd := &cobra.Command{
		Use: "shells TASK", Short: "List the shells that are open in the task's workspace, and who is in them", Args: args(cobra.ExactArgs(1)),
		Long: "List the shells that are open in the task's workspace, and who is in them. samnode ssh --shell ID TASK joins one, --watch ID\n" +
			"looks without typing. With --hold ID you alone type there, until you leave or --release ID; who began the shell may, and owners.",
	}
	cmd.Flags().StringVar(&hold, "hold", "", "let nobody type in that shell but you")
	cmd.Flags().StringVar(&release, "release", "", "let everybody type in that shell again")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		switch {
		case hold != "" && release != "":
			return &exitError{exitUsage, "--hold and --release exclude each other"}
		case hold+release != "":
			err := c.client().call(cmd.Context(), http.MethodPost, path("tasks", a[0], "shells", hold+release, "hold"), map[string]bool{"on": hold != ""}, nil)
			if err != nil {
				return err
			}
		}
		var out struct {
			Shells []api.Shell `json:"shells"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", a[0], "shells"), nil, &out); err != nil {
			return err
		}
		return c.print(out.Shells, func(w io.Writer) {
			for _, s := range out.Shells {
				fmt.Fprintf(w, "%s\t%s\t%d×%d\tsince %s\t%s\n", s.ID, cutText(s.Name, 40), s.Cols, s.Rows, s.Created.Local().Format("2 Jan 15:04"), whoIn(s))
			}
		})
	}
	return cmd
}

// whoIn says who is in a shell.
func whoIn(s api.Shell) string {
	var who []string
	for _, p := range s.People {
		text := p.Person + " (" + p.By
		if p.Watches {
			text += ", watching"
		}
		text += ", " + cutText(p.Device, 30) + ", since " + p.Since.Local().Format(time.Kitchen) + ")"
		if s.Held == p.Person && !p.Watches {
			text += " types alone"
		}
		who = append(who, text)
	}
	if s.Recorded {
		who = append(who, "recorded")
	}
	if len(who) == 0 {
		return "nobody"
	}
	return strings.Join(who, ", ")
}

func (c *cli) taskRecording() *cobra.Command {
	return &cobra.Command{
		Use: "recording TASK [NAME]", Short: "Print the recording of a shell (asciicast), or list those there are", Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				return c.listRecordings(cmd, a[0])
			}
			resp, err := c.client().do(cmd.Context(), http.MethodGet, path("tasks", a[0], "recordings", a[1]), nil, nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(c.out, resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				return fmt.Errorf("reading the recording: %w", err)
			}
			return nil
		},
	}
}

func (c *cli) listRecordings(cmd *cobra.Command, task string) error {
	var out struct {
		Recordings []api.Recording `json:"recordings"`
	}
	if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", task, "recordings"), nil, &out); err != nil {
		return err
	}
	return c.print(out.Recordings, func(w io.Writer) {
		for _, r := range out.Recordings {
			fmt.Fprintf(w, "%s\t%d KB\t%s\n", r.Name, (r.Size+1023)>>10, r.Ended.Local().Format("2 Jan 15:04"))
		}
	})
}

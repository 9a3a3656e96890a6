package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/ui/api"
)

func (c *cli) taskPorts() *cobra.Command {
	return &cobra.Command{
		Use: "ports TASK", Short: "List what listens in a task's workspace", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var raw json.RawMessage
			if err := c.client().call(cmd.Context(), http.MethodGet, path("tasks", a[0], "ports"), nil, &raw); err != nil {
				return err
			}
			var list struct{ Ports []api.Port }
			if err := json.Unmarshal(raw, &list); err != nil {
				return fmt.Errorf("reading the node's answer: %w", err)
			}
			return c.print(raw, func(w io.Writer) {
				for _, p := range list.Ports {
					since := ""
					if !p.Since.IsZero() {
						since = "since " + p.Since.Local().Format(time.TimeOnly)
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", p.Port, printable(p.Process), since, c.api+p.Open)
				}
			})
		},
	}
}

// printable keeps a terminal from being told what to do.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			out[i] = ' '
		}
	}
	return string(out)
}

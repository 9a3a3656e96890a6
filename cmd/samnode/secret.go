package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) secret() *cobra.Command {
	var project string
	g := group("secret", "Keys and tokens, sealed in the log", c.secretSet(&project), c.secretList(&project), c.secretRemove(&project))
	g.PersistentFlags().StringVar(&project, "project", "", "of one project (default: of the mesh)")
	return g
}

func scoped(p, project string) string {
	if project == "" {
		return p
	}
	return p + "?project=" + url.QueryEscape(project)
}

func (c *cli) secretSet(project *string) *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME",
		Short: "Set a secret; its value is read from standard input",
		Long: "Set a secret. The value is read from standard input, so that it is in no process list and no shell history:\n\n" +
			"  samnode secret set ANTHROPIC_API_KEY < key.txt\n\n" +
			"Known names: CLAUDE_CODE_OAUTH_TOKEN, ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, GITHUB_TOKEN,\n" +
			"GITHUB_APP_ID with GITHUB_APP_KEY, GIT_USERNAME with GIT_PASSWORD.\n" +
			"For machines that the mesh buys, and never given to a task: HCLOUD_TOKEN, and TS_OAUTH_CLIENT_ID with\n" +
			"TS_OAUTH_CLIENT_SECRET or HEADSCALE_API_KEY.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			value, err := io.ReadAll(io.LimitReader(c.in, 64<<10))
			if err != nil {
				return fmt.Errorf("reading the value from standard input: %w", err)
			}
			body := map[string]string{"value": strings.TrimRight(string(value), "\r\n")}
			if err := c.client().call(cmd.Context(), http.MethodPut, scoped(path("secrets", a[0]), *project), body, nil); err != nil {
				return err
			}
			return c.done("set", a[0])
		},
	}
}

func (c *cli) secretList(project *string) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the names", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		var out struct {
			Secrets []struct {
				Name    string `json:"name"`
				Updated string `json:"updated"`
			} `json:"secrets"`
		}
		if err := c.client().call(cmd.Context(), http.MethodGet, scoped("secrets", *project), nil, &out); err != nil {
			return err
		}
		return c.print(out.Secrets, func(w io.Writer) {
			for _, s := range out.Secrets {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, s.Updated)
			}
		})
	}}
}

func (c *cli) secretRemove(project *string) *cobra.Command {
	return &cobra.Command{Use: "rm NAME", Short: "Forget a secret", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, a []string) error {
		if err := c.client().call(cmd.Context(), http.MethodDelete, scoped(path("secrets", a[0]), *project), nil, nil); err != nil {
			return err
		}
		return c.done("removed", a[0])
	}}
}

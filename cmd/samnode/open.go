package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/mesh/follow"
	"github.com/samnode/samnode/ui/preview"
)

func (c *cli) open() *cobra.Command {
	var listen string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "open [URL...]",
		Short: "Serve the mesh's pages on this computer, whichever node is alive",
		Long: "Serve the mesh's pages at http://localhost:7070 on your own computer, which is on the tailnet. They come from\n" +
			"whichever node is alive; give the URL of one of them, the others are learnt. A browser takes localhost for a\n" +
			"secure place, so that notifications and the clipboard work without a certificate.",
		Args: args(cobra.ArbitraryArgs),
	}
	cmd.Flags().StringVar(&listen, "listen", "localhost:7070", "loopback address to serve on")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log debug messages")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		var cfg Config
		if err := c.prepare(cmd, &cfg, verbose); err != nil {
			return err
		}
		nodes, err := c.knownNodes(cmd.Context(), a)
		if err != nil {
			return err
		}
		p, err := follow.Start(cmd.Context(), follow.Config{Listen: listen, Nodes: nodes, Apart: preview.IsHost, Logger: cfg.Logger})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "samnode is at %s\n", p.URL())
		<-cmd.Context().Done()
		return p.Close()
	}
	return cmd
}

// knownNodes are the URLs that were given, or those that the node behind --api
// names.
func (c *cli) knownNodes(ctx context.Context, given []string) ([]string, error) {
	for i, u := range given {
		if !strings.Contains(u, "://") {
			given[i] = "http://" + u
		}
	}
	if len(given) > 0 {
		return given, nil
	}
	var list nodeList
	if err := c.client().call(ctx, http.MethodGet, "nodes", nil, &list); err != nil {
		return nil, &exitError{exitUsage, "give the URL of a node, such as samnode open http://samnode-a; no node answers at --api either: " + err.Error()}
	}
	var urls []string
	for _, n := range list.Nodes {
		if n.Core && n.URL != "" {
			urls = append(urls, n.URL)
		}
	}
	return urls, nil
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner"
	"github.com/samnode/samnode/ui/api"
)

func (c *cli) pool() *cobra.Command {
	return group("pool", "The machines that tasks run on, and those that the mesh buys",
		c.poolList(), c.poolOps(), c.poolPrices(), c.poolSet(), c.poolBuy(), c.poolDrain(), c.poolDelete(), c.poolKeep(), c.poolResume(), c.poolSimulate(), c.poolReap())
}

func (c *cli) poolInfo(ctx context.Context) (api.PoolInfo, error) {
	var p api.PoolInfo
	err := c.client().call(ctx, http.MethodGet, "pool", nil, &p)
	return p, err
}

func (c *cli) poolList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the machines, what they cost, and how long they stay", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := c.poolInfo(cmd.Context())
		if err != nil {
			return err
		}
		return c.print(p, func(w io.Writer) {
			fmt.Fprintln(w, "MACHINE\tSTATE\tSLOTS\tTYPE\t€/HOUR\tPAID UNTIL\tSTAYS")
			for _, m := range p.Machines {
				fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%s\t%s\t%s\n", m.Name, m.State, len(m.Tasks), m.Slots, kindOfMachine(m), hourOf(m), clockOf(m.PaidUntil), cmp.Or(m.Failed, m.Stay))
			}
			s := p.Settings
			fmt.Fprintf(w, "\nbought machines cost %.2f € today of at most %.2f, and %.2f this month; at most %d at once\n", p.Today, s.PerDay, p.Month, s.Machines)
			for _, line := range append([]string{p.Stopped}, p.Alarms...) {
				if line != "" {
					fmt.Fprintln(w, line)
				}
			}
		})
	}}
}

func kindOfMachine(m api.PoolMachine) string {
	if !m.Bought {
		return "joined"
	}
	if m.Type == "" {
		return "to be bought"
	}
	return m.Type + " at " + m.Location
}

func hourOf(m api.PoolMachine) string {
	if !m.Bought {
		return ""
	}
	return strconv.FormatFloat(m.Hour, 'f', 4, 64)
}

func clockOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("15:04")
}

func (c *cli) poolOps() *cobra.Command {
	return &cobra.Command{Use: "ops", Short: "What was bought and deleted, and how that went", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := c.poolInfo(cmd.Context())
		if err != nil {
			return err
		}
		return c.print(p.Ops, func(w io.Writer) {
			for _, o := range p.Ops {
				fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\n", o.ID, o.Kind, o.Machine, o.State, o.Reason)
				for _, e := range o.History {
					fmt.Fprintf(w, "\t%s\t%s\n", e.At.Local().Format(time.DateTime), e.Text)
				}
			}
		})
	}}
}

func (c *cli) poolPrices() *cobra.Command {
	return &cobra.Command{Use: "prices", Short: "What would be bought now, best first, and what each choice costs a day", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := c.poolInfo(cmd.Context())
		if err != nil {
			return err
		}
		return c.print(p.Choices, func(w io.Writer) {
			fmt.Fprintln(w, "TYPE\tLOCATION\tSLOTS\t€/HOUR\t€/DAY\tNOT TAKEN BECAUSE")
			for _, x := range p.Choices {
				fmt.Fprintf(w, "%s\t%s\t%d\t%.4f\t%.2f\t%s\n", x.Type, x.Location, x.Slots, x.Hour, x.Day, x.Refused)
			}
		})
	}}
}

// poolSet changes the settings that are given, and leaves the others.
func (c *cli) poolSet() *cobra.Command {
	var in api.PoolSettings
	var sizes []string
	cmd := &cobra.Command{Use: "set", Short: "Change how machines are bought and kept; with no flag, show it", Args: args(cobra.NoArgs)}
	f := cmd.Flags()
	f.IntVar(&in.Machines, "machines", 0, "bought machines at once, at most")
	f.Float64Var(&in.PerDay, "per-day", 0, "euros a day, at most")
	f.StringSliceVar(&sizes, "size", nil, "types to buy, best first, each with its slots: cx33=2,cpx22=1")
	f.StringSliceVar(&in.Locations, "location", nil, "where, best first")
	f.StringVar(&in.Image, "image", "", "stock image with Docker")
	f.IntVar(&in.WarmMinutes, "warm", 0, "minutes that an idle machine stays at least")
	f.BoolVar(&in.WholeHours, "whole-hours", true, "and then to the end of the hour that is paid")
	f.IntVar(&in.Free, "free", 0, "slots kept free while the last task is under an hour old")
	f.IntVar(&in.Prewarm, "prewarm", 0, "slots bought ahead, at most")
	f.IntVar(&in.BootMinutes, "boot", 0, "minutes that a machine may take to come up")
	f.IntVar(&in.LifeHours, "life", 0, "hours after which a machine gets no more tasks")
	f.BoolVar(&in.Shared, "shared", false, "one person's machine takes another's tasks, too")
	f.BoolVar(&in.Stopped, "stopped", false, "buy nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := c.poolInfo(cmd.Context())
		if err != nil {
			return err
		}
		set := p.Settings
		for name, apply := range map[string]func(){
			"machines": func() { set.Machines = in.Machines }, "per-day": func() { set.PerDay = in.PerDay },
			"location": func() { set.Locations = in.Locations }, "image": func() { set.Image = in.Image },
			"warm": func() { set.WarmMinutes = in.WarmMinutes }, "whole-hours": func() { set.WholeHours = in.WholeHours },
			"free": func() { set.Free = in.Free }, "prewarm": func() { set.Prewarm = in.Prewarm },
			"boot": func() { set.BootMinutes = in.BootMinutes }, "life": func() { set.LifeHours = in.LifeHours },
			"shared": func() { set.Shared = in.Shared }, "stopped": func() { set.Stopped = in.Stopped },
		} {
			if f.Changed(name) {
				apply()
			}
		}
		if f.Changed("size") {
			if set.Sizes, err = parseSizes(sizes); err != nil {
				return err
			}
		}
		if cmd.Flags().NFlag() > 0 {
			if err := c.client().call(cmd.Context(), http.MethodPut, "pool/settings", set, nil); err != nil {
				return err
			}
		}
		return c.print(set, func(w io.Writer) { printSettings(w, set) })
	}
	return cmd
}

func parseSizes(words []string) ([]api.PoolSize, error) {
	var out []api.PoolSize
	for _, w := range words {
		name, slots, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(slots)
		if err != nil || name == "" {
			return nil, &exitError{exitUsage, fmt.Sprintf("a size is a type and its slots, such as cx33=2, not %q", w)}
		}
		out = append(out, api.PoolSize{Type: name, Slots: n})
	}
	return out, nil
}

func printSettings(w io.Writer, s api.PoolSettings) {
	var sizes []string
	for _, x := range s.Sizes {
		sizes = append(sizes, fmt.Sprintf("%s=%d", x.Type, x.Slots))
	}
	fmt.Fprintf(w, "machines\tat most %d at once\n", s.Machines)
	fmt.Fprintf(w, "per day\tat most %.2f €\n", s.PerDay)
	fmt.Fprintf(w, "sizes\t%s\n", strings.Join(sizes, ","))
	fmt.Fprintf(w, "locations\t%s\n", cmp.Or(strings.Join(s.Locations, ","), "any"))
	fmt.Fprintf(w, "image\t%s\n", s.Image)
	fmt.Fprintf(w, "warm\t%d minutes, to the end of the paid hour: %t\n", s.WarmMinutes, s.WholeHours)
	fmt.Fprintf(w, "free slots\t%d kept, %d bought ahead\n", s.Free, s.Prewarm)
	fmt.Fprintf(w, "boot\t%d minutes\n", s.BootMinutes)
	fmt.Fprintf(w, "life\t%d hours\n", s.LifeHours)
	fmt.Fprintf(w, "shared\t%t\n", s.Shared)
	fmt.Fprintf(w, "stopped\t%t\n", s.Stopped)
}

func (c *cli) poolBuy() *cobra.Command {
	var need api.PoolNeed
	cmd := &cobra.Command{Use: "buy", Short: "Buy a machine now", Args: args(cobra.NoArgs)}
	cmd.Flags().IntVar(&need.CPUs, "cpus", 0, "processors, at least")
	gb := cmd.Flags().Int64("memory", 0, "memory, at least, in GB")
	cmd.Flags().StringVar(&need.Location, "location", "", "where (default: the settings')")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		need.Memory = *gb << 30
		var out struct {
			Op string `json:"op"`
		}
		if err := c.client().call(cmd.Context(), http.MethodPost, "pool/machines", need, &out); err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s begins; samnode pool ops shows how it goes\n", out.Op) })
	}
	return cmd
}

func (c *cli) poolDrain() *cobra.Command {
	return c.nodeDrain("drain", "Give a machine no new tasks", true)
}

func (c *cli) poolDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete MACHINE", Short: "Delete a bought machine once its tasks have ended", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := c.client().call(cmd.Context(), http.MethodDelete, path("pool", "machines", a[0]), nil, nil); err != nil {
				return err
			}
			return c.done("deleting", a[0])
		},
	}
}

func (c *cli) poolKeep() *cobra.Command {
	var hours int
	cmd := &cobra.Command{Use: "keep MACHINE", Short: "Keep an idle machine for some hours", Args: args(cobra.ExactArgs(1))}
	cmd.Flags().IntVar(&hours, "hours", 4, "for how long from now; 0 takes it back")
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		body := map[string]any{}
		if hours > 0 {
			body["until"] = time.Now().Add(time.Duration(hours) * time.Hour).UTC().Truncate(time.Second)
		}
		if err := c.client().call(cmd.Context(), http.MethodPost, path("pool", "machines", a[0], "keep"), body, nil); err != nil {
			return err
		}
		return c.done("kept", a[0])
	}
	return cmd
}

func (c *cli) poolResume() *cobra.Command {
	return &cobra.Command{Use: "resume", Short: "Buy again, after something that stopped it", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		if err := c.client().call(cmd.Context(), http.MethodPost, "pool/resume", nil, nil); err != nil {
			return err
		}
		return c.done("resumed", "buying")
	}}
}

// poolReap is for the day on which every node is dead: it asks the provider and
// nobody else.
func (c *cli) poolReap() *cobra.Command {
	var meshID, endpoint string
	var all, yes bool
	cmd := &cobra.Command{
		Use: "reap", Short: "Delete a dead mesh's machines at Hetzner, with its token alone",
		Long: "List the servers of a mesh at Hetzner and delete those that are past the time they may live, or with --all\n" +
			"all of them. No node is asked: it is for the day on which every node is dead. The token is read from HCLOUD_TOKEN.",
		Args: args(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&meshID, "mesh", "", "id of the mesh (samnode status, or the label mesh of its servers)")
	cmd.Flags().StringVar(&endpoint, "hetzner-api", "", "URL of Hetzner's API (default: Hetzner's)")
	cmd.Flags().BoolVar(&all, "all", false, "those that may live on, too")
	cmd.Flags().BoolVar(&yes, "yes", false, "delete; without it they are only listed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cloud, err := hetzner.New(hetzner.Config{Token: os.Getenv(secretHetzner), Mesh: meshID, Endpoint: endpoint, Version: version})
		if err != nil {
			return &exitError{exitUsage, err.Error()}
		}
		list, err := cloud.Servers(cmd.Context())
		if err != nil {
			return err
		}
		if !all {
			list = provision.Overdue(list, meshID, time.Now())
		}
		reaped, err := reap(cmd.Context(), cloud, list, yes)
		return cmp.Or(c.print(reaped, func(w io.Writer) {
			for _, s := range reaped {
				fmt.Fprintf(w, "%s\t%s\t%s at %s\tsince %s\t%s\n", s.ID, s.Name, s.Type, s.Location, s.Created.Format(time.DateTime), s.Done)
			}
		}), err)
	}
	return cmd
}

// reapedServer is a server and what became of it.
type reapedServer struct {
	provision.Server
	Done string `json:"done"` // deleted, listed, or why not
}

// reap deletes each server by itself: one that fails keeps no other alive.
func reap(ctx context.Context, cloud *hetzner.Client, list []provision.Server, yes bool) (out []reapedServer, failed error) {
	out = []reapedServer{}
	for _, s := range list {
		r := reapedServer{Server: s, Done: "listed"}
		if yes {
			r.Done = "deleted"
			if err := cloud.Delete(ctx, s.ID); err != nil {
				r.Done, failed = err.Error(), &exitError{exitFailed, "not every server was deleted: run it again"}
			}
		}
		out = append(out, r)
	}
	return out, failed
}

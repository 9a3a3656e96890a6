package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/simulate"
	"github.com/samnode/samnode/ui/api"
)

// simSeeds is how many runs a figure is the mean of: more take longer, and move
// it by little.
const simSeeds = 2

// simulated is what pool simulate prints: what settings come to under loads,
// and of which settings and prices that is true.
type simulated struct {
	Settings api.PoolSettings  `json:"settings"`       // that were simulated
	From     string            `json:"settings_of"`    // whose they are, before what the flags changed
	Prices   string            `json:"prices_of"`      // whose they are
	Buys     string            `json:"buys"`           // the first choice
	Note     string            `json:"note,omitempty"` // in what it is not as the mesh is now
	Days     int               `json:"days"`
	Seeds    int               `json:"seeds"`
	Results  []simulate.Result `json:"results"`

	policy, now provision.Policy // now: without what the flags changed
	offers      []provision.Offer
}

// simFlags is what a person asks of a simulation.
type simFlags struct {
	load                      string
	days, warm, free, prewarm int
	whole                     bool
	typ                       string
	slots                     int
	hour                      float64
	changed                   func(flag string) bool
}

func (c *cli) poolSimulate() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use: "simulate", Short: "What the settings, or others, would cost, and how long tasks would wait",
		Long: "Run the mesh's own rules of buying, placing and deleting under invented loads, with a clock that takes no time,\n" +
			"and print what a task would cost and how long it would wait, next to deleting machines at once and after fixed 30 minutes.\n" +
			"Settings and prices are the mesh's; where no node answers, the default settings and the prices of September 2026.\n" +
			"A cold start is a task that waits, for a machine to boot or for room under the caps.\n" +
			"Tasks last 12 minutes in the median and 20 on average, machines boot for 60 to 90 seconds, and only bought ones take tasks:\n" +
			"it is for comparing settings, and no forecast of a bill.",
		Args: args(cobra.NoArgs),
	}
	fs := cmd.Flags()
	fs.StringVar(&f.load, "load", "all", "tasks that come: "+loadKeys()+" or all; a number is tasks an hour, at random")
	fs.IntVar(&f.days, "days", 14, "how long, from a Monday on")
	fs.IntVar(&f.warm, "warm", 0, "minutes that an idle machine stays at least")
	fs.BoolVar(&f.whole, "whole-hours", true, "and then to the end of the hour that is paid")
	fs.IntVar(&f.free, "free", 0, "slots kept free while the last task is under an hour old")
	fs.IntVar(&f.prewarm, "prewarm", 0, "slots bought ahead, at most")
	fs.StringVar(&f.typ, "type", "", "the only type to buy")
	fs.IntVar(&f.slots, "slots", 0, "tasks that share a machine of it, or of the settings' first type")
	fs.Float64Var(&f.hour, "hour", 0, "what a machine of --type costs an hour, in euros")
	f.changed = fs.Changed
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loads, err := loadsOf(f.load)
		if err != nil {
			return err
		}
		out, err := c.scene(cmd, f)
		if err != nil {
			return err
		}
		if out.Results, err = simulate.Compare(cmd.Context(), loads, out.variants(), f.days, simSeeds); err != nil {
			return err
		}
		return c.print(out, out.write)
	}
	return cmd
}

// scene is the mesh's settings and prices, or the usual ones, with what the
// flags change.
func (c *cli) scene(cmd *cobra.Command, f simFlags) (simulated, error) {
	out := simulated{From: "the mesh's", Prices: "the mesh's, of now", Days: f.days, Seeds: simSeeds}
	if f.days < 1 || f.days > simulate.MaxDays {
		return out, &exitError{exitUsage, fmt.Sprintf("--days is 1 to %d, not %d", simulate.MaxDays, f.days)}
	}
	p, err := c.poolInfo(cmd.Context())
	switch {
	case errors.Is(err, errUnreachable):
		out.From, p.Settings = "samnode's defaults: no node answers at "+c.api, settingsOf(provision.DefaultPolicy())
	case err != nil:
		return out, err
	}
	out.now = policyOf(p.Settings)
	if out.policy, err = f.change(out.now); err != nil {
		return out, err
	}
	out.Settings = settingsOf(out.policy)
	if out.policy.Stopped {
		out.Note = "The mesh buys nothing now; this is as if it did."
	}
	return out, out.price(f, p.Choices)
}

// change makes the policy what the flags say.
func (f simFlags) change(p provision.Policy) (provision.Policy, error) {
	for flag, apply := range map[string]func(){
		"warm":        func() { p.Warm = time.Duration(f.warm) * time.Minute },
		"whole-hours": func() { p.WholeHours = f.whole },
		"free":        func() { p.Free = f.free },
		"prewarm":     func() { p.Prewarm = f.prewarm },
	} {
		if f.changed(flag) {
			apply()
		}
	}
	p.Sizes = slices.Clone(p.Sizes)
	if f.typ != "" {
		size := provision.Size{Type: f.typ, Slots: 1}
		if i := slices.IndexFunc(p.Sizes, func(s provision.Size) bool { return s.Type == f.typ }); i >= 0 {
			size = p.Sizes[i]
		}
		p.Sizes = []provision.Size{size}
	}
	if f.changed("slots") && len(p.Sizes) > 0 {
		p.Sizes[0].Slots = f.slots
	}
	if err := p.Check(); err != nil {
		return p, &exitError{exitUsage, err.Error()}
	}
	return p, nil
}

// price finds what machines cost: what a flag says, else the mesh, else the list
// of old.
func (s *simulated) price(f simFlags, choices []api.PoolChoice) error {
	s.offers = offersOf(choices)
	if !slices.ContainsFunc(s.offers, func(o provision.Offer) bool { return s.wanted(o) || f.changed("hour") && buys(s.now, o) }) {
		s.Prices, s.offers = "Hetzner's list of September 2026", simulate.ListPrices(s.locations())
	}
	if f.changed("hour") {
		if f.typ == "" || !(f.hour > 0 && f.hour <= 1000) {
			return &exitError{exitUsage, "--hour is more than 0 euros, 1000 at most, and goes with --type"}
		}
		s.Prices = "--hour"
		s.offers = slices.DeleteFunc(s.offers, s.wanted)
		for _, l := range s.locations() {
			s.offers = append(s.offers, provision.Offer{Type: f.typ, Location: l, Hour: money(f.hour), Orderable: true})
		}
	}
	if !slices.ContainsFunc(s.offers, s.wanted) {
		return &exitError{exitUsage, fmt.Sprintf("nobody knows what %s costs an hour: say it with --type and --hour", s.policy.Sizes[0].Type)}
	}
	if !slices.ContainsFunc(s.offers, func(o provision.Offer) bool { return s.wanted(o) && o.Orderable }) {
		s.Note = strings.TrimSpace(s.Note + " Nothing of this can be ordered now; this is as if it could.")
		for i := range s.offers {
			s.offers[i].Orderable = true
		}
	}
	slices.SortFunc(s.offers, func(a, b provision.Offer) int {
		return cmp.Compare(a.Type+"@"+a.Location, b.Type+"@"+b.Location) // as a pool has them
	})
	s.Buys = s.first()
	return nil
}

// locations are where machines are bought.
func (s *simulated) locations() []string {
	if len(s.policy.Locations) == 0 {
		return []string{"fsn1"} // anywhere
	}
	return s.policy.Locations
}

// wanted tells whether the policy buys machines of an offer.
func (s *simulated) wanted(o provision.Offer) bool { return buys(s.policy, o) }

func buys(p provision.Policy, o provision.Offer) bool {
	return slices.ContainsFunc(p.Sizes, func(x provision.Size) bool { return x.Type == o.Type })
}

// first is what is bought first, in words.
func (s *simulated) first() string {
	pool := provision.Pool{Rules: &s.policy, Offers: s.offers}
	for _, c := range pool.Choices(provision.Need{}, time.Time{}) {
		if c.Refused == "" {
			return fmt.Sprintf("%s, slots: %d", c, c.Slots)
		}
	}
	return "nothing"
}

// offersOf are the mesh's choices that have a price, by type and location.
func offersOf(choices []api.PoolChoice) []provision.Offer {
	var list []provision.Offer
	for _, c := range choices {
		if c.Hour > 0 {
			list = append(list, provision.Offer{Type: c.Type, Location: c.Location, Hour: money(c.Hour), Orderable: c.Refused == ""})
		}
	}
	return list
}

// variants are the policy, what it was before the flags, and the two that
// everybody knows.
func (s *simulated) variants() []simulate.Variant {
	var list []simulate.Variant
	add := func(name string, p provision.Policy) {
		list = append(list, simulate.Variant{Name: name, Policy: p, Offers: s.offers})
	}
	known := slices.ContainsFunc(s.offers, func(o provision.Offer) bool { return buys(s.now, o) })
	if known && !reflect.DeepEqual(s.now, s.policy) {
		add("before the flags", s.now)
		add("with the flags", s.policy)
	} else {
		add("these settings", s.policy)
	}
	add("destroy at once", simulate.AtOnce(s.policy))
	add("fixed 30 min", simulate.Fixed(s.policy, 30*time.Minute))
	return list
}

func (s *simulated) write(w io.Writer) {
	fmt.Fprintf(w, "Settings: %s. Prices: %s.\n", s.From, s.Prices)
	p := s.policy
	fmt.Fprintf(w, "Bought is %s; warm %s, whole hours %t, free %d, ahead %d; at most %d machines and %s a day.\n",
		s.Buys, p.Warm, p.WholeHours, p.Free, p.Prewarm, p.Machines, p.PerDay)
	if s.Note != "" {
		fmt.Fprintln(w, s.Note)
	}
	fmt.Fprintln(w)
	_ = simulate.Write(w, s.Results, s.Days) // c.print says when w cannot be written to
}

func loadKeys() string {
	var keys []string
	for _, l := range simulate.Loads() {
		keys = append(keys, l.Key)
	}
	return strings.Join(keys, ", ")
}

func loadsOf(key string) ([]simulate.Load, error) {
	if key == "all" {
		return simulate.Loads(), nil
	}
	for _, l := range simulate.Loads() {
		if l.Key == key {
			return []simulate.Load{l}, nil
		}
	}
	return nil, &exitError{exitUsage, fmt.Sprintf("there is no load %q: it is one of %s, or all", key, loadKeys())}
}

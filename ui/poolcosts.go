package ui

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/samnode/samnode/ui/api"
)

// poolCosts say what each setting costs, most of them per day.
type poolCosts struct {
	By         map[string]string // of the numbers, by name
	Sizes      []sizeCost
	Locations  string
	WholeHours string
	Shared     string
	Stopped    string
}

// sizeCost is a type's price at the first location that sells it.
type sizeCost struct{ Type, Day, SlotDay, Where string }

// priceOf is the first offer of a type at the locations of the settings, one
// that can be had before others.
func priceOf(set api.PoolSettings, choices []api.PoolChoice, typ string) (best api.PoolChoice, ok bool) {
	rank := func(c api.PoolChoice) int {
		if len(set.Locations) == 0 {
			return 0
		}
		return slices.Index(set.Locations, c.Location)
	}
	for _, c := range choices {
		if c.Type != typ || c.Hour <= 0 || rank(c) < 0 {
			continue
		}
		switch {
		case !ok, best.Refused != "" && c.Refused == "", (best.Refused == "") == (c.Refused == "") && rank(c) < rank(best):
			best, ok = c, true
		}
	}
	return best, ok
}

// firstChoice is what settings buy first: of the sizes, in their order, the
// first that can be had, and when none can the first with a price.
func firstChoice(set api.PoolSettings, choices []api.PoolChoice) (first api.PoolChoice, ok bool) {
	for _, s := range set.Sizes {
		c, is := priceOf(set, choices, s.Type)
		if !is {
			continue
		}
		c.Slots = max(1, s.Slots)
		if c.Refused == "" {
			return c, true
		}
		if !ok {
			first, ok = c, true
		}
	}
	return first, ok
}

// costsOf says what settings cost, saved or not, at the prices of the pool.
func costsOf(set api.PoolSettings, p api.PoolInfo) poolCosts {
	c := poolCosts{By: map[string]string{}, Stopped: stoppedCost(p), WholeHours: "Costs nothing: the hour is paid. Without it, what is left of it is given away."}
	for _, s := range set.Sizes {
		row := sizeCost{Type: line(s.Type, 40), Day: "no price yet"}
		if o, ok := priceOf(set, p.Choices, s.Type); ok {
			row.Day, row.SlotDay, row.Where = euros(o.Day), euros(o.Day/float64(max(1, s.Slots))), line(o.Location, 40)
		}
		c.Sizes = append(c.Sizes, row)
	}
	first, ok := firstChoice(set, p.Choices)
	if !ok {
		c.Locations = "The prices are not known yet."
		return c
	}
	name, slot := line(first.Type, 40), first.Day/float64(first.Slots)
	c.By["machines"] = machinesCost(set, first)
	c.By["per_day"] = fmt.Sprintf("At most %s in 30 days. Enough for %d × %s all day.", euros(30*set.PerDay), int(math.Min(1e6, set.PerDay/first.Day)), name)
	c.By["warm"] = fmt.Sprintf("%s each time a %s falls idle; %s a day if it never goes.", perHour(first.Hour*float64(set.WarmMinutes)/60), name, euros(first.Day))
	c.By["free"] = slotsCost(set.Free, slot, "if tasks come all day")
	c.By["prewarm"] = slotsCost(set.Prewarm, slot, "at most")
	c.By["boot"] = fmt.Sprintf("%s for each %s that does not come up: its first hour is paid.", perHour(first.Hour*math.Max(1, math.Ceil(float64(set.BootMinutes)/60))), name)
	c.By["life"] = fmt.Sprintf("%s for a %s from first to last.", euros(first.Hour*float64(set.LifeHours)), name)
	c.Locations = locationsCost(set, p.Choices, first.Type)
	c.Shared = fmt.Sprintf("On, two persons can work on one %s: %s a day. Off, they need two: %s.", name, euros(first.Day), euros(2*first.Day))
	return c
}

func machinesCost(set api.PoolSettings, first api.PoolChoice) string {
	day := float64(set.Machines) * first.Day
	text := fmt.Sprintf("%d × %s = %s a day, if all run all day", set.Machines, euros(first.Day), euros(day))
	if day > set.PerDay {
		return text + "; " + euros(set.PerDay) + " a day end that sooner."
	}
	return text + "."
}

func slotsCost(n int, day float64, when string) string {
	if n == 0 {
		return euros(0) + " a day."
	}
	return fmt.Sprintf("%d × %s = %s a day, %s.", n, euros(day), euros(float64(n)*day), when)
}

// locationsCost has the first type's price at each location of the settings.
func locationsCost(set api.PoolSettings, choices []api.PoolChoice, typ string) string {
	var words []string
	for _, c := range choices {
		if c.Type == typ && c.Hour > 0 && (len(set.Locations) == 0 || slices.Contains(set.Locations, c.Location)) {
			words = append(words, line(c.Location, 40)+" "+euros(c.Day))
		}
	}
	return line(typ, 40) + " a day: " + strings.Join(words, ", ") + "."
}

// stoppedCost is what goes on when buying stops.
func stoppedCost(p api.PoolInfo) string {
	n, hour := 0, 0.0
	for _, m := range p.Machines {
		if m.Bought && m.State != wanted {
			n, hour = n+1, hour+m.Hour
		}
	}
	if n == 0 {
		return "Costs " + euros(0) + " a day."
	}
	return fmt.Sprintf("What is bought goes on until it goes: %s for %s an hour, %s if for a day.", plural(n, "machine"), perHour(hour), euros(24*hour))
}

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// table prints the medians of the rounds, and how others compare with samnode
// or, without it, with the first target.
func table(w io.Writer, d disk, all []result) error {
	var targets []string
	var counts []int
	rounds := 0
	for _, r := range all {
		if !slices.Contains(targets, r.Target) {
			targets = append(targets, r.Target)
		}
		if !slices.Contains(counts, r.Clients) {
			counts = append(counts, r.Clients)
		}
		rounds = max(rounds, r.Round)
	}
	fmt.Fprintf(w, "disk: fdatasync of 4 KiB p50 %.2f ms, p99 %.2f ms; appends of %d bytes; medians of %d rounds\n\n", d.P50, d.P99, messageSize, rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "clients\ttarget\tappends/s\tp50 ms\tp99 ms\t")
	slices.Sort(targets)
	for _, other := range targets {
		fmt.Fprintf(t, "/s : %s\tp50 : %s\t", other, other)
	}
	fmt.Fprintln(t)
	for _, clients := range counts {
		for _, name := range targets {
			perSecond, p50, p99 := medians(all, name, clients)
			if perSecond == 0 {
				continue
			}
			fmt.Fprintf(t, "%d\t%s\t%.0f\t%.2f\t%.2f\t", clients, name, perSecond, p50, p99)
			for _, other := range targets {
				// A ratio is of one round: what disturbs the machine then
				// disturbs both.
				speed, latency := ratios(all, name, other, clients)
				if speed == 0 || other == name {
					fmt.Fprint(t, "\t\t")
				} else {
					fmt.Fprintf(t, "%.2f\t%.2f\t", speed, latency)
				}
			}
			fmt.Fprintln(t)
		}
	}
	return t.Flush()
}

func medians(all []result, name string, clients int) (perSecond, p50, p99 float64) {
	var a, b, c []float64
	for _, r := range all {
		if r.Target == name && r.Clients == clients {
			a, b, c = append(a, r.PerSecond), append(b, r.P50), append(c, r.P99)
		}
	}
	return median(a), median(b), median(c)
}

// ratios are the medians over rounds of name's figures through other's.
func ratios(all []result, name, other string, clients int) (speed, latency float64) {
	var s, l []float64
	for _, r := range all {
		for _, o := range all {
			if r.Target == name && o.Target == other && r.Round == o.Round && r.Clients == clients && o.Clients == clients {
				s, l = append(s, r.PerSecond/o.PerSecond), append(l, r.P50/o.P50)
			}
		}
	}
	return median(s), median(l)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Load is a way in which tasks come: how many an hour, and when.
type Load struct {
	Key  string // short, as a person names it: 0.5, 2, 8, office, bursts
	Name string // of the load in a table
	jobs func(r *rand.Rand, days int) []job
}

// Loads are those that policies are compared under. Arrivals and lengths are
// invented: a task lasts 12 minutes in the median and 20 on average.
func Loads() []Load {
	return []Load{
		{"0.5", "0.5/h", func(r *rand.Rand, days int) []job { return poisson(r, days, 0.5) }},
		{"2", "2/h", func(r *rand.Rand, days int) []job { return poisson(r, days, 2) }},
		{"8", "8/h", func(r *rand.Rand, days int) []job { return poisson(r, days, 8) }},
		{"office", "office, 3 devs", func(r *rand.Rand, days int) []job { return office(r, days, 3, 1.44) }},
		{"bursts", "bursts of 4-8", func(r *rand.Rand, days int) []job { return bursts(r, days, 7) }},
	}
}

// job is one task of a load.
type job struct {
	at   time.Time
	last time.Duration
}

// monday is when each load begins.
func monday() time.Time { return time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) }

// length is log-normal: median 12 minutes, mean 20.
func length(r *rand.Rand) time.Duration {
	return time.Duration(12 * float64(time.Minute) * math.Exp(r.NormFloat64()*math.Sqrt(2*math.Log(20.0/12))))
}

func poisson(r *rand.Rand, days int, perHour float64) (jobs []job) {
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() / perHour * float64(time.Hour))
		if at >= time.Duration(days)*24*time.Hour {
			return jobs
		}
		jobs = append(jobs, job{monday().Add(at), length(r)})
	}
}

// office is developers who each ask so many times an hour from nine to six on
// working days.
func office(r *rand.Rand, days, devs int, perHour float64) (jobs []job) {
	for range devs {
		for _, j := range poisson(r, days, perHour) {
			if d, h := j.at.Weekday(), j.at.Hour(); d != time.Saturday && d != time.Sunday && h >= 9 && h < 18 {
				jobs = append(jobs, j)
			}
		}
	}
	return sorted(jobs)
}

// bursts are four to eight tasks within a minute, so many times a day.
func bursts(r *rand.Rand, days int, perDay float64) (jobs []job) {
	for _, b := range poisson(r, days, perDay/24) {
		for range 4 + r.IntN(5) {
			jobs = append(jobs, job{b.at.Add(time.Duration(r.Float64() * float64(time.Minute))), length(r)})
		}
	}
	return sorted(jobs)
}

func sorted(jobs []job) []job {
	slices.SortFunc(jobs, func(a, b job) int { return a.at.Compare(b.at) })
	return jobs
}

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/ui/api"
)

// simulates runs pool simulate against an API.
func simulates(t *testing.T, url string, args ...string) simulated {
	t.Helper()
	return must[simulated](&testNode{t: t, url: url}, append([]string{"pool", "simulate"}, args...)...)
}

const nowhere = "http://127.0.0.1:1"

// shop answers GET pool with what a mesh says.
func shop(t *testing.T, p api.PoolInfo) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/api/v1/pool" {
			t.Errorf("asked for %s %s", r.Method, r.URL.Path)
		}
		if err := json.NewEncoder(w).Encode(p); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestSimulateWithoutANode: the defaults, and it says so.
func TestSimulateWithoutANode(t *testing.T) {
	t.Parallel()
	out := simulates(t, nowhere, "--load", "office", "--days", "5")
	if !strings.Contains(out.From, "no node answers") || !strings.Contains(out.Prices, "September 2026") || !strings.HasPrefix(out.Buys, "cx33 at fsn1 for 0.0144 €") {
		t.Errorf("without a node it takes %q and %q, and buys %s", out.From, out.Prices, out.Buys)
	}
	if got, want := out.Settings.WarmMinutes, int(provision.DefaultPolicy().Warm/time.Minute); got != want {
		t.Errorf("the default is %d minutes warm, want %d", got, want)
	}
	names := rows(out)
	if names != "these settings, destroy at once, fixed 30 min" {
		t.Errorf("the rows are %s", names)
	}
	if once, fixed := out.Results[1], out.Results[2]; once.Cents <= fixed.Cents || once.Cold <= fixed.Cold || once.Machines <= fixed.Machines {
		t.Errorf("at once %+v, after 30 minutes %+v", once, fixed)
	}
	text, errs, code := (&testNode{t: t, url: nowhere}).cli("pool", "simulate", "--load", "2", "--days", "2")
	for _, want := range []string{"no node answers at " + nowhere, "cx33 at fsn1", "ct/task", "cold %", "p95 wait s", "machines made", "destroy at once"} {
		if code != exitDone || !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s%s", want, text, errs)
		}
	}
}

func rows(s simulated) string {
	var names []string
	for _, r := range s.Results {
		names = append(names, r.Policy)
	}
	return strings.Join(names, ", ")
}

// TestSimulateTheMesh: its settings and live prices, and what flags change.
func TestSimulateTheMesh(t *testing.T) {
	t.Parallel()
	p := api.PoolInfo{Settings: settingsOf(provision.DefaultPolicy()), Choices: []api.PoolChoice{
		{Type: "cx33", Location: "fsn1", Slots: 2, Hour: 0.0144, Refused: "the provider does not take orders for it there now"},
		{Type: "cpx22", Location: "fsn1", Slots: 1, Refused: "the provider does not sell it there"},
		{Type: "cpx22", Location: "nbg1", Slots: 1, Hour: 0.05},
	}}
	p.Settings.WarmMinutes, p.Settings.Stopped = 45, true
	url := shop(t, p)
	out := simulates(t, url, "--load", "2", "--days", "3")
	if out.From != "the mesh's" || out.Prices != "the mesh's, of now" || !strings.HasPrefix(out.Buys, "cpx22 at nbg1 for 0.05 €") || out.Settings.WarmMinutes != 45 || !strings.Contains(out.Note, "buys nothing now") {
		t.Errorf("the mesh's own: %+v", out)
	}
	plain := out.Results[0]

	out = simulates(t, url, "--load", "2", "--days", "3", "--warm", "0", "--whole-hours=false", "--free", "0", "--prewarm", "0")
	if rows(out) != "before the flags, with the flags, destroy at once, fixed 30 min" {
		t.Fatalf("the rows are %s", rows(out))
	}
	if got := out.Results[0]; got.Figures != plain.Figures {
		t.Errorf("before the flags it is %+v, and without them %+v", got, plain)
	}
	if flags, once := out.Results[1].Figures, out.Results[2].Figures; flags != once || flags == plain.Figures {
		t.Errorf("no warm time is %+v, and at once %+v", flags, once)
	}

	out = simulates(t, url, "--load", "2", "--days", "3", "--type", "cx33", "--slots", "4")
	if !strings.HasPrefix(out.Buys, "cx33 at fsn1 for 0.0144 €") || !strings.Contains(out.Note, "as if it could") || out.Settings.Sizes[0].Slots != 4 {
		t.Errorf("a type that cannot be ordered now: %+v", out)
	}
	out = simulates(t, url, "--load", "2", "--days", "3", "--type", "ax1", "--hour", "0.1")
	if !strings.HasPrefix(out.Buys, "ax1 at fsn1 for 0.10 €") || out.Prices != "--hour" || out.Results[0].Figures != plain.Figures {
		t.Errorf("a type with a price: %+v", out)
	}
}

// TestSimulateAMeshWithoutPrices: a node's settings, and the list's prices.
func TestSimulateAMeshWithoutPrices(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	must[api.PoolSettings](n, "pool", "set", "--machines", "1", "--size", "cpx32=2")
	out := must[simulated](n, "pool", "simulate", "--load", "0.5", "--days", "3")
	if out.From != "the mesh's" || !strings.Contains(out.Prices, "September 2026") || !strings.HasPrefix(out.Buys, "cpx32 at fsn1") || out.Results[0].Peak != 1 {
		t.Errorf("a mesh without prices: %+v", out)
	}
}

func TestSimulateBadInput(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"--load 3":               "0.5, 2, 8, office, bursts, or all",
		"--days 0":               "1 to 100",
		"--days 1000":            "1 to 100",
		"--warm -5":              "kept for 0 minutes",
		"--free 99":              "0 to 16 slots",
		"--slots 0":              "1 to 64 slots",
		"--type xx9":             "say it with --type and --hour",
		"--hour 0.1":             "goes with --type",
		"--type cx33 --hour -1":  "more than 0 euros",
		"--type cx33 --hour NaN": "more than 0 euros",
		"office":                 "unknown command",
	} {
		out, errs, code := (&testNode{t: t, url: nowhere}).cli(append([]string{"pool", "simulate"}, strings.Fields(words)...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s exits with %d: %s%s, want %q", words, code, out, errs, want)
		}
	}
}

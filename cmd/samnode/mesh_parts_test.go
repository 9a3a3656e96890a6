package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// parts is what happened after a leader's death, step by step, for people who
// want to know what took its time.
type parts struct {
	t     *testing.T
	began time.Time

	mu    sync.Mutex
	steps []part
}

type part struct {
	at   time.Time
	who  string
	what string
}

func (s *parts) add(at time.Time, who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, part{at, who, fmt.Sprintf(format, args...)})
}

// traced makes a page tell what its script asks and hears.
const traced = `(() => {
	const say = (what) => console.debug("part", Date.now(), location.host, what);
	const ask = window.fetch;
	window.fetch = async (url, ...more) => {
		if (!String(url).endsWith("/version")) return ask(url, ...more);
		const whom = new URL(url, location.href).host;
		say("asks " + whom);
		try { const answer = await ask(url, ...more); say("is answered by " + whom); return answer; }
		catch (err) { say("has no answer of " + whom); throw err; }
	};
	window.EventSource = class extends EventSource {
		constructor(url) {
			super(url);
			say("opens a stream");
			for (const name of ["hello", "patch", "beat"]) this.addEventListener(name, () => say("hears " + name));
			this.addEventListener("error", () => say("loses its stream"));
		}
	};
	addEventListener("DOMContentLoaded", () => say("is loaded"));
})()`

// follow takes part in what a page does.
func (s *parts) follow(p *tab) {
	s.t.Helper()
	if _, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: traced}); err != nil {
		s.t.Fatal(err)
	}
	err := chromedp.Listen(p.ctx, func(e any) {
		said, ok := e.(*runtime.EventConsoleAPICalled)
		if !ok || len(said.Args) != 4 {
			return
		}
		var word, host, what string
		var ms float64
		for i, into := range []any{&word, &ms, &host, &what} {
			if json.Unmarshal(said.Args[i].Value, into) != nil {
				return // somebody else's
			}
		}
		if word == "part" {
			s.add(time.UnixMilli(int64(ms)), "page at "+host, "%s", what)
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// start is the moment of the death.
func (s *parts) start() { s.began = time.Now() }

// logged are the lines of a node's log that tell of elections.
var logged = regexp.MustCompile(`(?m)^time=(\S+) .*msg="([^"]*(?:leads the mesh|election)[^"]*)"(.*)$`)

// since is the time after the death, up to now.
func (s *parts) since() time.Duration { return time.Since(s.began).Round(time.Millisecond) }

// report writes down all steps since the death, and what each page heard last
// before it. What a page hears over and over is told once.
func (s *parts) report(nodes ...*testNode) {
	s.t.Helper()
	for _, n := range nodes {
		for _, m := range logged.FindAllStringSubmatch(n.log.String(), -1) {
			if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
				_, leader, _ := strings.Cut(m[3], " leader=")
				s.add(at, filepath.Base(n.state), "%s", strings.TrimSpace(m[2]+" "+leader))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.steps, func(a, b part) int { return a.at.Compare(b.at) })
	told, before := map[string]bool{}, map[string]part{}
	var lines []string
	for _, p := range s.steps {
		if p.at.Before(s.began) {
			before[p.who] = p
			continue
		}
		if key := p.who + p.what; !told[key] || !strings.HasPrefix(p.what, "hears ") {
			told[key] = true
			lines = append(lines, fmt.Sprintf("%+7.3f s  %s %s", p.at.Sub(s.began).Seconds(), p.who, p.what))
		}
	}
	for who, p := range before {
		if strings.HasPrefix(who, "page ") {
			lines = slices.Insert(lines, 0, fmt.Sprintf("%+7.3f s  %s %s", p.at.Sub(s.began).Seconds(), who, p.what))
		}
	}
	s.t.Logf("after kill -9 of the leader:\n%s", strings.Join(lines, "\n"))
}

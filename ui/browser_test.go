package ui

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/chat"
)

// browser starts a headless Chromium, or skips. What the page's console calls
// an error (a blocked script or style, an exception) fails the test, unless it
// has one of the texts that are forgiven. Hosts that end in .test are here.
func browser(t *testing.T, forgiven ...string) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a browser")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium on this machine")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, stopWait := context.WithTimeout(ctx, 60*time.Second)
	t.Cleanup(stopWait)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800)); err != nil {
		t.Fatal(err)
	}
	err = chromedp.Listen(ctx, func(e any) {
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("exception in the page: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError && !slices.ContainsFunc(forgiven, func(f string) bool { return strings.Contains(e.Entry.Text, f) }) {
				t.Errorf("error in the page: %s %s", e.Entry.Text, e.Entry.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

func run(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// script runs a piece of script that gives a number.
func script(t *testing.T, ctx context.Context, text string) float64 {
	t.Helper()
	n, err := chromedp.Run(ctx, chromedp.Evaluate[float64](text))
	if err != nil {
		t.Fatalf("running %s: %v", text, err)
	}
	return n
}

// wait asks the page for a condition until it holds; the page may go elsewhere
// meanwhile.
func wait(t *testing.T, ctx context.Context, condition string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if err == nil && ok {
			return
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			page, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`)) // to show with the failure
			t.Fatalf("waiting for %s: %v\n%s", condition, err, page)
		}
	}
}

func TestABrowserFollowsATask(t *testing.T) {
	ctx := browser(t)
	s := newSite(t)
	task := s.working(t, "Fix login redirect")
	for i := range 30 {
		s.kit.Emit(t, task.ID, chat.Item{ID: fmt.Sprint("a", i), Kind: chat.KindAgent, Text: "Some words\n\nof a long talk.", Closed: true})
	}
	server := listen(t, s)
	run(t, ctx, chromedp.Navigate(server.URL+"/t/"+string(task.ID)))

	s.kit.Emit(t, task.ID, chat.Item{ID: "b1", Kind: chat.KindAgent, Text: "It streams "})
	wait(t, ctx, `document.getElementById("m-b1")?.textContent.includes("It streams")`)
	s.kit.Emit(t, task.ID, chat.Item{ID: "b1", Kind: chat.KindAgent, Offset: 11, Text: "in place", Closed: true})
	wait(t, ctx, `document.getElementById("m-b1").textContent.includes("It streams in place") && document.querySelectorAll("#m-b1").length === 1`)
	wait(t, ctx, `document.getElementById("scroll").scrollTop === 0`)

	// A reader who scrolled up is not moved, and is told of what is new.
	script(t, ctx, `document.getElementById("scroll").scrollTop = -600; window.top0 = document.getElementById("m-a10").getBoundingClientRect().top`)
	s.kit.Emit(t, task.ID, chat.Item{ID: "b2", Kind: chat.KindAgent, Text: strings.Repeat("More.\n\n", 8), Closed: true})
	wait(t, ctx, `!document.getElementById("newer").hidden && document.getElementById("newer").textContent === "1 new ↓"`)
	wait(t, ctx, `Math.abs(document.getElementById("m-a10").getBoundingClientRect().top - window.top0) < 2`)
	run(t, ctx, chromedp.Click("#newer"))
	wait(t, ctx, `document.getElementById("newer").hidden`)

	// Own input shows at once and becomes the real thing.
	run(t, ctx, chromedp.SendKeys("#composer textarea", "Also the changelog"), chromedp.Click("#composer .send"))
	wait(t, ctx, `document.querySelector("#queue .text")?.textContent === "Also the changelog" && !document.querySelector(".sending")`)

	// A question is answered by a key; the card and the list follow.
	s.kit.Emit(t, task.ID, permission("ask-1"))
	wait(t, ctx, `document.title.startsWith("(1)") && document.querySelector("#m-ask-1 .ask.open") !== null`)
	script(t, ctx, `document.activeElement.blur(); document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "a", bubbles: true})); 0`)
	wait(t, ctx, `document.getElementById("m-ask-1").textContent.includes("Approve, by ana")`)
	wait(t, ctx, `document.getElementById("g-needs").hidden`)

	run(t, ctx, chromedp.Click("#dock .stop"))
	wait(t, ctx, `document.getElementById("dock").textContent.includes("Force stop")`)
	if !s.kit.Get(t, task.ID).Stopping {
		t.Error("Stop did not reach the task")
	}
}

func TestPagesFitAPhone(t *testing.T) {
	ctx := browser(t)
	m, p := newFakeMesh(), newFakePool()
	m.around, p.info = sampleMesh(), samplePool()
	s := newSite(t, m.with, p.with, func(c *Config) {
		c.SetSecret = func(context.Context, chat.ProjectID, string, string, chat.Author) error { return nil }
		c.Diff = func(context.Context, chat.Task, DiffOptions) (Diff, error) {
			return Diff{Files: []DiffFile{compare("a/very/long/path/that/does/not/end/soon/file.go", "a\n", strings.Repeat("long", 200)+"\n")}}, nil
		}
	})
	task := s.working(t, "Fix "+strings.Repeat("a very long title ", 5))
	s.kit.Emit(t, task.ID, permission("ask-1"),
		chat.Item{ID: "a1", Kind: chat.KindAgent, Text: strings.Repeat("wide", 200) + "\n\n```\n" + strings.Repeat("code ", 100) + "\n```\n\n|a|b|\n|-|-|\n|" + strings.Repeat("x", 300) + "|y|"},
		chat.Item{ID: "t1", Kind: chat.KindTool, Tool: &chat.Tool{Title: strings.Repeat("title", 60), Kind: "execute", Status: "failed", Output: strings.Repeat("o", 3000), Locations: []chat.Location{{Path: strings.Repeat("p", 200)}}}})
	server := listen(t, s)
	page := "/t/" + string(task.ID)
	for _, path := range []string{"/", "/start", "/settings", "/projects", "/projects/new", "/p/web", "/p/web/settings", page, page + "/diff", page + "/diff?side=1", page + "/log", "/nodes", "/nodes/core-1", "/nodes/core-2/remove", "/pool", "/pool/machines/samnode-1d7h/delete"} {
		run(t, ctx, chromedp.EmulateViewport(320, 800, chromedp.EmulateMobile), chromedp.Navigate(server.URL+path))
		for _, width := range []int64{320, 390, 640, 768} {
			run(t, ctx, chromedp.EmulateViewport(width, 800, chromedp.EmulateMobile))
			if over := script(t, ctx, `Math.max(document.documentElement.scrollWidth, innerWidth) - `+strconv.FormatInt(width, 10)); over > 0 {
				t.Errorf("%s at %d px scrolls sideways by %.0f px", path, width, over)
			}
		}
	}
}

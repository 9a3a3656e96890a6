package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience bounds every wait of a browser test.
const patience = 2 * time.Minute

// keys that are not letters.
const (
	enter  = kb.Enter
	escape = kb.Escape
)

// tab is a page of a browser that a test looks at and types into. What its
// console calls an error fails the test: an exception, a blocked script or
// style, a file that is missing.
type tab struct {
	t    *testing.T
	node *testNode
	ctx  context.Context

	mu      sync.Mutex
	forgive *regexp.Regexp // messages that the test provokes
}

// newTab starts a browser with a profile of its own, or skips.
func newTab(t *testing.T, n *testNode) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs Chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute))
	if n.proxy != "" {
		options = append(options, chromedp.ProxyServer(n.proxy), chromedp.Flag("proxy-bypass-list", "<-loopback>"))
	}
	alloc, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	return startTab(t, n, ctx)
}

// another is a second tab of the same browser.
func (p *tab) another() *tab {
	p.t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	p.t.Cleanup(cancel)
	return startTab(p.t, p.node, ctx)
}

// shifts sums what the page moved without being asked to.
const shifts = `window.shifted = 0; window.moved = []; new PerformanceObserver((list) => {
	for (const e of list.getEntries()) if (!e.hadRecentInput) {
		window.shifted += e.value;
		for (const s of e.sources) window.moved.push(s.node?.id || s.node?.className || s.node?.nodeName);
	}
}).observe({ type: "layout-shift", buffered: true })`

func startTab(t *testing.T, n *testNode, ctx context.Context) *tab {
	t.Helper()
	p := &tab{t: t, node: n, ctx: ctx}
	// The first context of all is the browser's life: it has no deadline.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900)); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, p.heard); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: shifts}); err != nil {
		t.Fatal(err)
	}
	return p
}

// heard takes what the page's console says.
func (p *tab) heard(e any) {
	text := ""
	switch e := e.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			text = fmt.Sprintf("console: %+v", e.Args)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity {
			text = e.Entry.Text + " " + e.Entry.URL
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if text != "" && (p.forgive == nil || !p.forgive.MatchString(text)) {
		p.t.Errorf("error in the page: %s", text)
	}
}

// expect forgives errors that the test provokes.
func (p *tab) expect(pattern string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgive = regexp.MustCompile(pattern)
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%v\n%s", err, p.words())
	}
}

func (p *tab) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.node.url + path))
}

func (p *tab) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

// phone makes the window a phone's.
func (p *tab) phone(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height, chromedp.EmulateMobile, chromedp.EmulateTouch))
}

// theme is what the person's system prefers.
func (p *tab) theme(name string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	}); err != nil {
		p.t.Fatal(err)
	}
}

// scripts switches the page's own scripts off or on.
func (p *tab) scripts(on bool) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// write clicks into an input and types a text as one piece.
func (p *tab) write(selector, text string) {
	p.t.Helper()
	p.click(selector)
	if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.t.Fatal(err)
	}
}

// press presses keys one by one, wherever the focus is. A key and its character
// are one event, so that a page which takes the key keeps the character out.
func (p *tab) press(keys string) {
	p.t.Helper()
	p.wait(`document.readyState === "complete"`) // before, no script listens
	for _, r := range keys {
		events := kb.Encode(r)
		down, up := *events[0], *events[len(events)-1]
		if len(events) == 3 {
			down.Text = events[1].Text
		}
		for _, e := range []input.DispatchKeyEventParams{down, up} {
			if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, e); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// enter pastes a line where the focus is and presses Enter.
func (p *tab) enter(text string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.t.Fatal(err)
	}
	p.press(enter)
}

// script runs a piece of script in the page, also where the page's own do not
// run.
func script[T any](p *tab, text string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](text))
	if err != nil {
		p.t.Fatalf("running %s: %v", text, err)
	}
	return v
}

// words is what the page shows, for a failure's message.
func (p *tab) words() string {
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return text
}

// wait polls the page for a condition. It asks from outside, so that a page
// that loads anew or runs no script is polled as well.
func (p *tab) wait(condition string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if err == nil && ok {
			return
		}
		if p.ctx.Err() != nil || time.Now().After(deadline) {
			p.t.Fatalf("waiting for %s: %v\n%s", condition, err, p.words())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// shows waits for a text in the first element of a selector.
func (p *tab) shows(selector, text string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("document.querySelector(%s)?.textContent.includes(%s)", quote(selector), quote(text)))
}

// state waits for the task of the page to be in a state.
func (p *tab) state(want string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("document.querySelector('#chips')?.dataset.state === %s", quote(want)))
}

// path is where the page is.
func (p *tab) path() string {
	p.t.Helper()
	return script[string](p, "location.pathname")
}

// quote makes a literal of the page's script.
func quote(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

// still checks what holds for every page at rest: nothing moved by itself
// since it was loaded, and nothing scrolls sideways.
func (p *tab) still() {
	p.t.Helper()
	if moved := script[float64](p, "window.shifted"); moved > 0.02 {
		p.t.Errorf("%s: the layout shifted by %.3f: %s", p.path(), moved, script[string](p, `window.moved.join(", ")`))
	}
	if over := script[float64](p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		p.t.Errorf("%s scrolls sideways by %.0f px", p.path(), over)
	}
}

// shot keeps a picture of the page as output of the test, in test-output at
// the top of the repository or in $SAMNODE_SCREENSHOTS.
func (p *tab) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("SAMNODE_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join("..", "..", "test-output")
	}
	// Text carets and fonts that still load would make pictures differ.
	p.do(chromedp.Evaluate[chromedp.Void](`document.fonts.ready.then(() => ({}))`, chromedp.EvalAwaitPromise))
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatalf("taking a picture: %v", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// taskOf is the id in the address of a task's page.
func (p *tab) taskOf() string {
	p.t.Helper()
	p.wait(`location.pathname.startsWith("/t/") && document.querySelector("#chips")`)
	return strings.Split(p.path(), "/")[2]
}

package ui

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/ui/api"
)

// several are nodes over one conversation, each with a name and a port.
type several struct {
	kit   *chattest.Kit
	names []string
	sites []*site
	urls  []string
	http  []*httptest.Server
	hangs []atomic.Bool // a node that does not answer, as one whose power is gone
	mute  []atomic.Bool // one whose streams say nothing
}

func newSeveral(t *testing.T, names ...string) *several {
	t.Helper()
	v := &several{kit: chattest.NewKit(), names: names, hangs: make([]atomic.Bool, len(names)), mute: make([]atomic.Bool, len(names))}
	var mesh []*fakeMesh
	for i, name := range names {
		m := newFakeMesh()
		s := newSite(t, m.with, func(c *Config) {
			c.Room, c.Node = v.kit.Room, chat.Node(name)
			c.API = api.New(api.Config{Room: v.kit.Room, Mesh: m, Node: name, Version: "test", NewID: chat.NewID, Who: func(r *http.Request) (api.Caller, error) {
				who, role, err := c.WhoIs(r)
				return api.Caller{Person: who, Role: string(role)}, err
			}})
		})
		s.kit, s.beatEvery = v.kit, 250*time.Millisecond
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w = hanging{w, r.Context(), &v.hangs[i]}
			if strings.HasSuffix(r.URL.Path, "/events") {
				w = hanging{w, r.Context(), &v.mute[i]}
			}
			s.ServeHTTP(w, r)
		}))
		t.Cleanup(func() { v.kill(i); server.CloseClientConnections(); server.Close() })
		v.sites, v.http, mesh = append(v.sites, s), append(v.http, server), append(mesh, m)
		v.urls = append(v.urls, strings.Replace(server.URL, "127.0.0.1", name+".test", 1))
	}
	for i, m := range mesh {
		var nodes []api.Node
		for j, name := range names {
			nodes = append(nodes, api.Node{Name: name, URL: v.urls[j], Self: i == j, Core: true, Voter: true, Online: true})
		}
		m.set(func(a *around) { a.Nodes, a.Mesh.Node = nodes, names[i] })
	}
	return v
}

// kill ends a node at once: its port is closed, its connections are cut.
func (v *several) kill(i int) {
	v.hangs[i].Store(false)
	v.mute[i].Store(false)
	v.sites[i].Close()
	_ = v.http[i].Config.Close()
}

// hanging is an answer that stops when its node does.
type hanging struct {
	http.ResponseWriter
	ctx context.Context
	off *atomic.Bool
}

func (h hanging) Write(p []byte) (int, error) {
	for h.off.Load() && h.ctx.Err() == nil {
		select {
		case <-h.ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return h.ResponseWriter.Write(p)
}

func (h hanging) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// deadNode are the errors of a node that died, as the console names them.
var deadNode = []string{"net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_EMPTY_RESPONSE", "net::ERR_CONNECTION_CLOSED"}

func (v *several) talk(t *testing.T, task chat.TaskID, id, text string) {
	t.Helper()
	v.kit.Emit(t, task, chat.Item{ID: id, Kind: chat.KindAgent, Text: text, Closed: true})
}

func TestAPageGoesOnAtAnotherNode(t *testing.T) {
	ctx := browser(t, deadNode...)
	v := newSeveral(t, "core-1", "core-2", "core-3")
	task := v.sites[0].working(t, "Fix login redirect")
	for i := range 70 { // more than one page has
		v.talk(t, task.ID, fmt.Sprint("a", i), "Some words\n\nof a long talk.")
	}
	path := "/t/" + string(task.ID)
	run(t, ctx, chromedp.Navigate(v.urls[0]+path+"#m-a69"))
	wait(t, ctx, `document.body.dataset.others.split(" ").length === 2`)

	// The reader is up in the history, with a text half typed and a rename begun.
	script(t, ctx, `document.getElementById("earlier").click(); 0`)
	wait(t, ctx, `document.getElementById("m-a3") !== null`)
	script(t, ctx, `document.getElementById("scroll").scrollTop -= 1e6; 0`)
	wait(t, ctx, `document.getElementById("scroll").scrollTop < -1000`)
	script(t, ctx, `document.getElementById("scroll").scrollTop += 700; 0`)
	run(t, ctx, chromedp.SendKeys("#composer textarea", "half a thou"))
	script(t, ctx, `document.querySelector('[name=title]').value = "A better title"; 0`)
	top := script(t, ctx, `document.getElementById("m-a7").getBoundingClientRect().top`)
	v.kill(0)
	v.talk(t, task.ID, "b1", "Said while the page was on its way")
	wait(t, ctx, `location.hostname === "core-2.test" || location.hostname === "core-3.test"`)
	wait(t, ctx, `document.getElementById("m-b1") !== null && document.getElementById("link").textContent.startsWith("Now on core-")`)
	wait(t, ctx, `document.querySelector("#composer textarea").value === "half a thou" && document.querySelector('[name=title]').value === "A better title"`)
	wait(t, ctx, `location.pathname === `+jsonOf(path)+` && location.search === "" && location.hash === "#m-a69"`)
	wait(t, ctx, fmt.Sprintf(`Math.abs(document.getElementById("m-a7")?.getBoundingClientRect().top - %f) < 4`, top))

	// The stream goes on, and nothing is there twice.
	v.talk(t, task.ID, "b2", "Said afterwards")
	wait(t, ctx, `document.getElementById("m-b2") !== null && document.querySelectorAll("#m-b1").length === 1`)

	// What was sent when the node died is in the log once, and the half-typed text went with it.
	on := int(script(t, ctx, `Number(location.hostname.slice(5, 6)) - 1`))
	v.kill(on)
	script(t, ctx, `document.getElementById("composer").requestSubmit(); 0`)
	wait(t, ctx, fmt.Sprintf(`location.hostname !== "core-%d.test"`, on+1))
	wait(t, ctx, `document.querySelector("#queue .text")?.textContent === "half a thou" && !document.querySelector(".sending")`)
	if q := v.kit.Get(t, task.ID).Queue; len(q) != 1 {
		t.Errorf("queue = %+v, want one message", q)
	}
	wait(t, ctx, `document.querySelector("#composer textarea").value === ""`)
}

func TestAPageLeavesANodeThatDoesNotAnswer(t *testing.T) {
	ctx := browser(t, append(deadNode, "net::ERR_ABORTED")...)
	v := newSeveral(t, "core-1", "core-2")
	task := v.sites[0].working(t, "Fix it")
	run(t, ctx, chromedp.Navigate(v.urls[0]+"/t/"+string(task.ID)))
	wait(t, ctx, `document.body.dataset.others !== ""`)
	v.hangs[0].Store(true)
	wait(t, ctx, `location.hostname === "core-2.test"`)
	v.talk(t, task.ID, "b1", "Here")
	wait(t, ctx, `document.getElementById("m-b1") !== null`)

	// A page without a stream finds out, too.
	v.hangs[0].Store(false)
	run(t, ctx, chromedp.Navigate(v.urls[0]+"/projects/new"), chromedp.SendKeys("[name=repo]", "https://a.example/x.git"))
	v.kill(0)
	wait(t, ctx, `location.hostname === "core-2.test" && document.querySelector("[name=repo]").value === "https://a.example/x.git"`)
}

// A node that answers is not left, whatever became of its stream, and one that
// is silent is not left for nodes that are silent, too: it is the reader's own
// network then.
func TestAPageStaysWhereNobodyIsBetter(t *testing.T) {
	ctx := browser(t, append(deadNode, "net::ERR_ABORTED")...)
	v := newSeveral(t, "core-1", "core-2")
	task := v.sites[0].working(t, "Fix it")
	run(t, ctx, chromedp.Navigate(v.urls[0]+"/t/"+string(task.ID)))
	wait(t, ctx, `document.body.dataset.others !== ""`)
	script(t, ctx, `window.here = 1; window.asked = []; window.ask = window.fetch; window.fetch = (url, ...more) => { asked.push(String(url)); return ask(url, ...more); }; 0`)

	v.mute[0].Store(true)
	wait(t, ctx, `asked.filter((url) => url.startsWith("/api")).length > 2`)
	v.mute[0].Store(false)
	v.talk(t, task.ID, "b1", "By another stream")
	wait(t, ctx, `document.getElementById("m-b1") !== null && window.here === 1`)

	v.hangs[1].Store(true)
	v.hangs[0].Store(true)
	script(t, ctx, `asked = []; 0`)
	wait(t, ctx, `asked.filter((url) => url.startsWith("/api")).length > 1 && asked.some((url) => url.includes("core-2.test")) && document.getElementById("link").textContent.startsWith("Reconnecting to core-1")`)
	v.talk(t, task.ID, "b2", "After a while")
	v.hangs[0].Store(false)
	wait(t, ctx, `document.getElementById("m-b2") !== null && window.here === 1`)
	v.hangs[1].Store(false)
}

func TestALinkMovesNothing(t *testing.T) {
	ctx := browser(t)
	v := newSeveral(t, "core-1", "core-2")
	task := v.sites[0].working(t, "Fix it")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<meta charset=utf-8><link rel=icon href="data:,"><a id=a referrerpolicy=unsafe-url href="%s">x</a>`, r.URL.Query().Get("to"))
	}))
	t.Cleanup(evil.Close)
	brought := `{"says":[{"id":"01JD0000000000000000000009","text":"rm -rf /"}],"posts":[{"id":"1","url":"/t/` + string(task.ID) + `/stop","body":"id=1"}],"fields":[["composer text  1","and more"]]}`
	to := v.urls[0] + "/t/" + string(task.ID) + "#moved=" + url.PathEscape(brought)
	run(t, ctx, chromedp.Navigate(evil.URL+"?to="+url.QueryEscape(to)))
	script(t, ctx, `document.getElementById("a").click(); 0`)
	wait(t, ctx, `document.querySelector("#composer textarea")?.value === "and more\n\nrm -rf /" && document.querySelector("#composer .note").textContent.startsWith("This text came from a link.")`)
	wait(t, ctx, `location.hash === ""`)
	if got := v.kit.Get(t, task.ID); len(got.Queue) != 0 || got.Stopping {
		t.Errorf("a link did something: %+v", got)
	}
}

// Under samnode open the address stays, and its proxy goes to a node that lives.
func TestAPageBehindTheProxyStays(t *testing.T) {
	ctx := browser(t, append(deadNode, "502")...)
	v := newSeveral(t, "core-1", "core-2")
	task := v.sites[0].working(t, "Fix it")
	var alive atomic.Int32
	proxy := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		target, err := url.Parse(v.http[alive.Load()].URL)
		if err != nil {
			t.Error(err)
		}
		r.SetURL(target)
	}})
	t.Cleanup(func() { proxy.CloseClientConnections(); proxy.Close() })
	run(t, ctx, chromedp.Navigate(proxy.URL+"/t/"+string(task.ID)), chromedp.SendKeys("#composer textarea", "half a thou"))
	v.talk(t, task.ID, "b1", "Here")
	wait(t, ctx, `document.getElementById("m-b1") !== null`)
	alive.Store(1)
	v.kill(0)
	v.talk(t, task.ID, "b2", "There")
	wait(t, ctx, `document.getElementById("m-b2") !== null && document.querySelector(".brand .node").textContent === "core-2"`)
	wait(t, ctx, `location.origin === `+jsonOf(proxy.URL)+` && document.querySelector("#composer textarea").value === "half a thou"`)
}

// A browser has six connections for a node; hidden pages give theirs up.
func TestManyTabsLeaveRoomForAnother(t *testing.T) {
	ctx := browser(t)
	s := newSite(t)
	task := s.working(t, "Fix it")
	var open sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			open.Store(r, true)
			defer open.Delete(r)
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { s.Close(); server.Close() })
	address := server.URL + "/t/" + string(task.ID)
	var first context.Context
	for range 6 {
		tab, cancel := chromedp.NewContext(ctx)
		t.Cleanup(cancel)
		if first == nil {
			first = tab
		}
		hide := cdpage.AddScriptToEvaluateOnNewDocumentParams{Source: `let away = true; Object.defineProperty(document, "hidden", { get: () => away });
			window.comeBack = () => { away = false; document.dispatchEvent(new Event("visibilitychange")); }`}
		if _, err := chromedp.Call(tab, cdpage.AddScriptToEvaluateOnNewDocument, hide); err != nil {
			t.Fatal(err)
		}
		run(t, tab, chromedp.Navigate(address))
		wait(t, tab, `document.readyState === "complete"`)
	}
	run(t, ctx, chromedp.Navigate(address))
	s.kit.Emit(t, task.ID, chat.Item{ID: "b1", Kind: chat.KindAgent, Text: "Here"})
	wait(t, ctx, `document.getElementById("m-b1") !== null`)
	n := 0
	open.Range(func(any, any) bool { n++; return true })
	if n > 5 {
		t.Errorf("%d streams of one browser are open", n)
	}
	if script(t, first, `document.querySelectorAll("#m-b1").length`) != 0 {
		t.Error("the first page still streams")
	}
	script(t, first, `window.comeBack(); 0`)
	wait(t, first, `document.getElementById("m-b1") !== null`)
}

func TestNodesAreKeptInABrowser(t *testing.T) {
	ctx := browser(t)
	m := newFakeMesh()
	s := newSite(t, m.with)
	url := strings.Replace(listen(t, s).URL, "127.0.0.1", "core-1.test", 1) // no secure context, as on a tailnet
	run(t, ctx, chromedp.Navigate(url+"/"))
	wait(t, ctx, `document.readyState === "complete"`)
	script(t, ctx, `for (const key of ["g", "m"]) document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); 0`)
	wait(t, ctx, `location.pathname === "/nodes" && document.readyState === "complete"`)
	script(t, ctx, `window.shifted = 0; window.moved = ""; new PerformanceObserver((list) => {
		for (const e of list.getEntries()) if (!e.hadRecentInput) {
			window.shifted += e.value;
			window.moved += e.sources.map((s) => (s.node?.id || s.node?.className || s.node?.nodeName) + " " + JSON.stringify(s.previousRect) + JSON.stringify(s.currentRect)).join(", ") + "; ";
		}
	}).observe({ type: "layout-shift" }); 0`)

	// What changes on a node shows by itself, and nothing jumps.
	m.set(func(a *around) {
		a.Nodes[2].Load = &api.Load{CPUs: 2, Load: 1.9, MemoryMax: 4 << 30}
		a.Nodes[1].Online = true
	})
	wait(t, ctx, `document.getElementById("node-core-3").textContent.includes("1.9 of 2") && document.getElementById("node-core-2").textContent.includes("Online")`)
	run(t, ctx, chromedp.Click(`#node-core-2 [name=on]`))
	wait(t, ctx, `document.getElementById("node-core-2").textContent.includes("Undrain")`)
	if shifted := script(t, ctx, `window.shifted`); shifted > 0.02 {
		moved, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`window.moved`))
		t.Errorf("the layout shifted by %.3f: %s", shifted, moved)
	}
	m.set(func(a *around) {
		a.Nodes = append(slices.Clone(a.Nodes), api.Node{Name: "fresh", Online: true, Slots: 1})
	})
	wait(t, ctx, `document.getElementById("node-fresh") !== null`)

	run(t, ctx, chromedp.Click("#invite [type=submit]"), chromedp.Click(".made [data-copy]"))
	wait(t, ctx, `document.querySelector(".made .command").textContent === "samnode join s3cret" && document.querySelector("#toasts").textContent === "Copied"`)

	run(t, ctx, chromedp.Click(`#node-core-3 a.danger`))
	wait(t, ctx, `location.pathname === "/nodes/core-3/remove" && document.activeElement.textContent.trim() === "Keep it"`)
	run(t, ctx, chromedp.Click("form .danger"))
	wait(t, ctx, `location.pathname === "/nodes" && document.getElementById("node-core-3") === null`)
}

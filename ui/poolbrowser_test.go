package ui

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/ui/api"
)

// nowPool is a pool whose times are about now, as a page counts them.
func nowPool() *fakePool {
	p := newFakePool()
	by := time.Since(p.info.At)
	p.info.At = p.info.At.Add(by)
	for i := range p.info.Machines {
		m := &p.info.Machines[i]
		for _, at := range []*time.Time{&m.Since, &m.Created, &m.PaidUntil, &m.Until, &m.Keep, &m.Deadline} {
			if !at.IsZero() {
				*at = at.Add(by)
			}
		}
	}
	for i := range p.info.Ops {
		p.info.Ops[i].Began = p.info.Ops[i].Began.Add(by)
	}
	return p
}

func TestABrowserFollowsThePool(t *testing.T) {
	ctx := browser(t)
	p := nowPool()
	s := newSite(t, newFakeMesh().with, p.with)
	server := listen(t, s)
	run(t, ctx, chromedp.Navigate(server.URL+"/pool"))
	wait(t, ctx, `document.querySelector("#machine-samnode-5f6j [data-left]").textContent === "in 19 min" || document.querySelector("#machine-samnode-5f6j [data-left]").textContent === "in 20 min"`)

	// What is typed stays while the page changes around it, as does what was opened.
	run(t, ctx, chromedp.SendKeys("#set-machines", "7"), chromedp.Click("#op-01JD1 summary"))
	script(t, ctx, `document.querySelector("#set-shared").checked = true; 0`)
	run(t, ctx, chromedp.Click(`#machine-samnode-5f6j form[action$="/keep"] button`))
	wait(t, ctx, `document.getElementById("machine-samnode-5f6j").textContent.includes("kept until") && document.getElementById("machine-samnode-5f6j").textContent.includes("Let go")`)
	run(t, ctx, chromedp.Click("#brake button"))
	wait(t, ctx, `document.querySelector("#brake form") === null`)
	p.set(func(i *api.PoolInfo) {
		i.Stopped, i.Resume = "Buying is stopped until somebody lifts that (samnode pool resume).", true
		i.Ops = append([]api.PoolOp{{ID: "01JD9", Kind: "delete", State: "open", Machine: "samnode-6k5p", Reason: "It is idle.", Began: i.At}}, i.Ops...)
	})
	wait(t, ctx, `document.getElementById("pool-notes").textContent.includes("Buying is stopped") && document.getElementById("op-01JD9") && document.querySelector("#choices button") === null`)
	wait(t, ctx, `["78", "87"].includes(document.getElementById("set-machines").value) && document.getElementById("set-shared").checked && document.getElementById("op-01JD1").open`)
	run(t, ctx, chromedp.Click("#pool-notes button"))
	wait(t, ctx, `document.getElementById("pool-notes").textContent.trim() === "" && document.querySelector("#brake form") !== null`)

	// A machine is bought from its row; the page goes to where it comes.
	run(t, ctx, chromedp.Click(`#choices button[value="hel1"]`))
	wait(t, ctx, `location.hash === "#machines" && document.getElementById("machine-samnode-new1")?.textContent.includes("Wanted")`)
	p.set(func(i *api.PoolInfo) {
		i.Machines[len(i.Machines)-1].State, i.Machines[len(i.Machines)-1].Type = booting, "cx33"
	})
	wait(t, ctx, `document.getElementById("machine-samnode-new1").textContent.includes("Booting")`)
	did := p.done()
	if last := did[len(did)-1]; !strings.Contains(last, "buy {ID: CPUs:0 Memory:0 Location:hel1}") {
		t.Errorf("the last thing done is %q", last)
	}
}

func TestThePoolWorksWithoutScripts(t *testing.T) {
	ctx := browser(t)
	p := nowPool()
	s := newSite(t, newFakeMesh().with, p.with)
	server := listen(t, s)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	run(t, ctx, chromedp.Navigate(server.URL+"/pool"))
	click := func(selector, shows string) {
		t.Helper()
		run(t, ctx, chromedp.Click(selector), chromedp.WaitVisible(shows))
	}
	click(`#machine-samnode-5f6j form[action$="/keep"] button`, `#machine-samnode-5f6j .chip:nth-of-type(2)`)
	click("#brake button", `#set-stopped[checked]`)
	p.set(func(i *api.PoolInfo) { i.Stopped, i.Resume = "Buying is stopped.", true })
	run(t, ctx, chromedp.Navigate(server.URL+"/pool"))
	click("#pool-notes button", "#brake button")
	click(`#choices button[value="nbg1"]`, "#machine-samnode-new1")
	run(t, ctx, chromedp.SendKeys(`.need [name="cpus"]`, "8"))
	click(".need button", "#machine-samnode-new2")
	click(`#machine-samnode-1d7h a.danger`, ".effects")
	click("form button.danger", "#machine-samnode-1d7h .c-needs")
	run(t, ctx, chromedp.SetValue("#set-warm", "45"))
	click(`#settings [name="try"]`, `#settings .note`)
	run(t, ctx, chromedp.Click("#settings button.primary"), chromedp.WaitNotPresent("#settings .note"), chromedp.WaitVisible(`#set-warm[value="45"]`))
	want := []string{"keep samnode-5f6j", "set {Stopped:true", "resume", "buy {ID: CPUs:0 Memory:0 Location:nbg1}", "buy {ID: CPUs:8", "delete samnode-1d7h", "set {Stopped:false"}
	did := p.done()
	if len(did) != len(want) {
		t.Fatalf("done = %q", did)
	}
	for i, w := range want {
		if !strings.Contains(did[i], w) {
			t.Errorf("done %d = %q, want %q", i, did[i], w)
		}
	}
}

// audit lists what a reader who does not see, or sees badly, would miss: in the
// page as it is now.
const audit = `(() => {
const found = [], name = (el) => (el.getAttribute("aria-label") || el.textContent).trim();
const shown = (el) => el.checkVisibility();
for (const el of document.querySelectorAll("input:not([type=hidden]), select, textarea")) if (shown(el) && !el.labels.length && !el.getAttribute("aria-label")) found.push("no label: " + el.outerHTML);
for (const el of document.querySelectorAll("button, a")) if (shown(el) && !name(el)) found.push("no name: " + el.outerHTML);
const ids = [...document.querySelectorAll("[id]")].map((el) => el.getAttribute("id"));
for (const id of new Set(ids)) if (id !== "" && ids.filter((x) => x === id).length > 1) found.push("twice: #" + id);
for (const attr of ["for", "aria-describedby", "form"]) for (const el of document.querySelectorAll("[" + attr + "]")) if (!document.getElementById(el.getAttribute(attr))) found.push(attr + " leads nowhere: " + el.outerHTML);
let level = 0;
for (const el of document.querySelectorAll("main :is(h1, h2, h3, h4)")) { const n = +el.tagName[1]; if (n > level + 1) found.push("skips a level: " + el.outerHTML); level = n; }
if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
const draw = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgb = (colours) => { draw.globalAlpha = 1; for (const c of colours) { draw.fillStyle = c; draw.fillRect(0, 0, 1, 1); } return [...draw.getImageData(0, 0, 1, 1).data]; };
const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => { const x = c[i] / 255; return sum + w * (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); }, 0);
for (const el of document.querySelectorAll("main *")) {
  if (!shown(el) || ![...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || el.closest("svg, :disabled, .sr")) continue;
  const under = [];
  for (let up = el; up; up = up.parentElement) under.unshift(getComputedStyle(up).backgroundColor);
  const behind = rgb(["white", ...under]), front = rgb(["white", ...under, getComputedStyle(el).color]);
  const [a, b] = [light(behind), light(front)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(ratio.toFixed(2) + ": " + el.outerHTML.slice(0, 200));
}
for (const el of document.querySelectorAll("main :is(a, button, input, select, summary)")) {
  const box = el.getBoundingClientRect();
  if (shown(el) && (el.matches("button, .button, input, select, summary")) && Math.min(box.width, box.height) < 16) found.push("too small: " + el.outerHTML);
}
return found.join("\n");
})()`

func TestThePoolCanBeReadByAll(t *testing.T) {
	ctx := browser(t)
	m, p := newFakeMesh(), nowPool()
	s := newSite(t, m.with, p.with)
	server := listen(t, s)
	for _, role := range []Role{Owner, Viewer} {
		for _, stopped := range []bool{false, true} {
			s.role = role
			p.set(func(i *api.PoolInfo) {
				*i = nowPool().info
				if stopped {
					i.Stopped, i.Resume, i.Alarms = "Buying is stopped.", true, samplePool().Alarms
				}
			})
			for _, width := range []int64{390, 1280} {
				for _, theme := range []string{"light", "dark"} {
					run(t, ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(server.URL+"/pool"))
					script(t, ctx, `document.documentElement.dataset.theme = "`+theme+`"; 0`)
					found, err := chromedp.Run(ctx, chromedp.Evaluate[string](audit))
					if err != nil || found != "" {
						t.Errorf("%s, %d px, %s, stopped %v: %v\n%s", role, width, theme, stopped, err, found)
					}
				}
			}
		}
	}
	s.role = Owner
	run(t, ctx, chromedp.Navigate(server.URL+"/pool/machines/samnode-1d7h/delete"))
	if found, err := chromedp.Run(ctx, chromedp.Evaluate[string](audit)); err != nil || found != "" {
		t.Errorf("the page that deletes: %v\n%s", err, found)
	}
	wait(t, ctx, `document.activeElement.textContent === "Keep it"`) // a key pressed by chance must not delete
}

package ui

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// holds checks what a page says, and what it does not.
func holds(t *testing.T, name, body string, wants ...string) {
	t.Helper()
	text := strings.ReplaceAll(body, "\u00a0", " ")
	for _, want := range wants {
		if no, ok := strings.CutPrefix(want, "!"); ok && strings.Contains(text, no) {
			t.Errorf("%s has %q", name, no)
		} else if !ok && !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
}

func TestThePoolIsShown(t *testing.T) {
	m, p := newFakeMesh(), newFakePool()
	m.set(func(a *around) {
		a.Nodes = append(a.Nodes, api.Node{Name: "samnode-1d7h", Online: true, Version: "0.4.0"}, api.Node{Name: "samnode-5f6j", Version: "0.4.0"})
	})
	s := newSite(t, m.with, p.with)
	task := s.working(t, "Fix login redirect")
	p.set(func(i *api.PoolInfo) {
		i.Machines[3].Tasks[0].Task, i.Ops[0].Task, i.Ops[0].Reason = task.ID, string(task.ID), "Task "+string(task.ID)+" finds no free slot."
	})
	w := s.get(t, "/pool")
	if w.Code != 200 {
		t.Fatalf("GET /pool = %d %s", w.Code, w.Body)
	}
	holds(t, "the page", w.Body.String(),
		`<a href="/pool" aria-current>Pool</a>`, `data-events="/events/pool"`,
		"5 ready · 1 booting · 1 creating · 1 wanted · 2 draining · 1 deleting · 1 failed · 4 slots free",
		"4.31 €", "of at most 5.00 €", "18.40 €", "of at most 8 at once", "14:01 UTC", "311", "may be made now; the provider allows 3,600 an hour, and 90 are kept for deleting",
		"On their way", "Wanted", "not ordered yet", "The account may have 5 servers", "tried again <time", "in 1 min", "of at most 10 min", "Task “Fix login redirect” finds no free slot.",
		"cx33 at fsn1 · 0.0144 € an hour", "cx43 at fsn1 · 0.0264 € an hour", "In use", `href="/nodes/samnode-1d7h"`, `href="/t/`+string(task.ID)+`"`, "14m 00s",
		"26 of 60 min, paid until", "It is idle.", "in 20 min", "made <time", "ready since <time", `samnode <span class="mono">0.4.0`, "owner ana@example.com",
		"kept until", "Let go", "Draining, 1 task left", "Deleting", "It costs until the provider says that it is gone.", "It is deleted at the provider next.", "Its node was not heard within 10 minutes.", "Silent",
		"joined, costs nothing here", "Ready, 1 of 2 slots free", "Ready, no slots",
		"Attempt 2: the provider is asked for cx33 at nbg1", "It is tried again", "Asked for by ana@example.com", "It took 1m 00s", "Withdrawn", "Nobody waits for it any more.",
		"It was sold out there at 13:59 UTC, and is asked for again from 14:09 UTC.", "First choice", "The provider does not sell it there.", "Without a wish it is cx33 at nbg1, with 2 slots: 0.0144 € an hour, 0.35 € for a whole day.",
		"8 × 0.35 € = 2.76 € a day, if all run all day.", "At most 150.00 € in 30 days. Enough for 14 × cx33 all day.", "cpx22=1 amd", "0.77 € a day at fsn1, 0.77 € a slot",
		"!Nothing is bought", "!Only owners", "!"+string(task.ID)+" finds")
	bar := regexp.MustCompile(`<svg class="paid".*?</svg>`).FindString(strings.ReplaceAll(w.Body.String(), "\n", ""))
	holds(t, "the paid hour", bar, `class="gone" width="26"`, `class="used" x="12" width="14"`, "!goes")
}

func TestAPoolThatDoesNotBuySaysWhy(t *testing.T) {
	const token = "The mesh has no Hetzner token: samnode secret set HCLOUD_TOKEN."
	empty := func(i *api.PoolInfo) { i.Machines, i.Ops, i.Budget, i.Swept = nil, nil, nil, time.Time{} }
	for name, c := range map[string]struct {
		set   func(*api.PoolInfo)
		role  Role
		wants []string
	}{
		"the breaker": {
			func(i *api.PoolInfo) { *i = samplePool() }, Owner,
			[]string{"Nothing is bought until 20 Nov 14:15 UTC; then one machine is tried.", "Resume buying", "is being deleted since 20 Nov 13:50 UTC, and costs on", "Nothing is bought now: the page says why at its top.", "!>Buy</button></td>", "Stop buying"},
		},
		"the breaker, to a viewer": {
			func(i *api.PoolInfo) { *i = samplePool() }, Viewer,
			[]string{"Nothing is bought until 20 Nov 14:15 UTC", "!Resume buying", "!<form", "!Delete…", "Only owners change these, buy and delete.", "<strong>8 </strong>", "cx33=2"},
		},
		"the brake": {
			func(i *api.PoolInfo) {
				i.Settings.Stopped, i.Resume, i.Stopped = true, true, "Buying is stopped until somebody lifts that (samnode pool resume)."
			}, Owner,
			[]string{"Buying is stopped until somebody lifts that", "Resume buying", "!Stop buying", `name="stopped" value="1" checked`},
		},
		"a breaker that tries again": {
			func(i *api.PoolInfo) { i.Resume, i.Alarms = true, []string{"One machine is tried."} }, Owner,
			[]string{"One machine is tried.", "Resume buying", "!Until then"},
		},
		"no token": {
			func(i *api.PoolInfo) { i.Stopped = token }, Owner,
			[]string{token, "Until then tasks run on machines that joined.", `href="/settings#secrets"`, `href="/nodes#invite"`, "!Resume buying"},
		},
		"no token and no machine": {
			func(i *api.PoolInfo) { empty(i); i.Stopped = token }, Owner,
			[]string{"No machine takes tasks", "And none is bought", "Set the provider's token", "Invite a machine", "None yet. Each one will show here", "0 ready · 0 slots free", "none are made now"},
		},
		"no machine": {
			empty, Owner,
			[]string{"No machine takes tasks", "The next task that finds no free slot has one bought.", "!Set the provider", "Invite a machine"},
		},
		"no machine, to a member": {empty, Member, []string{"No machine takes tasks", "Ask an owner of the mesh for it.", "!Invite a machine</a>"}},
		"nothing to buy": {
			func(i *api.PoolInfo) { i.Choices, i.Settings.Sizes = nil, nil }, Owner,
			[]string{"The settings name nothing to buy: say which sizes, below.", "Nothing can be bought now: the table says why.", "The prices are not known yet."},
		},
		"no prices": {
			func(i *api.PoolInfo) {
				i.Choices = []api.PoolChoice{{Type: "cx33", Location: "fsn1", Slots: 2, Refused: "the provider does not sell it there"}}
			}, Owner,
			[]string{"The provider was not asked for its prices yet.", "!does not sell it", "no price yet", "!>Buy</button></td>"},
		},
		"few calls":      {func(i *api.PoolInfo) { i.Budget.Left = 80 }, Owner, []string{"left, for deletions only"}},
		"a pause":        {func(i *api.PoolInfo) { i.Budget.Until = i.At.Add(time.Minute) }, Owner, []string{"the provider wants to be left alone until 14:03 UTC"}},
		"many old ops":   {func(i *api.PoolInfo) { i.Ops = manyOps(30) }, Owner, []string{"10 older ones not shown"}},
		"many slots":     {func(i *api.PoolInfo) { i.Machines[4].Slots = 12 }, Owner, []string{"and 4 more, 12 free"}},
		"an unknown one": {func(i *api.PoolInfo) { i.Machines[4].State, i.Ops[0].Kind = "melting", "mend" }, Owner, []string{"melting", "mend samnode-4w9s"}},
		"hostile words": {
			func(i *api.PoolInfo) {
				i.Ops[0].Text, i.Alarms, i.Machines[8].Failed = "<script>x</script>", []string{"\u202egnp.exe"}, "\x1b[31m<b>"
			}, Owner,
			[]string{"!<script>x", "&lt;script&gt;x", "!\u202e", "⟨U+202E⟩gnp.exe", "!<b>", "!\x1b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newFakePool()
			p.set(c.set)
			s := newSite(t, newFakeMesh().with, p.with)
			s.role = c.role
			w := s.get(t, "/pool")
			if w.Code != 200 {
				t.Fatalf("GET /pool = %d", w.Code)
			}
			_, main, _ := strings.Cut(w.Body.String(), "<main")
			holds(t, "the page", main, c.wants...)
		})
	}
}

func manyOps(n int) (ops []api.PoolOp) {
	for i := range n {
		ops = append(ops, api.PoolOp{ID: fmt.Sprint("old", i), Kind: "delete", State: "done", Machine: fmt.Sprint("m", i), Began: sampleNow, Ended: sampleNow})
	}
	return ops
}

func TestTheLeaderAloneKnowsTheCalls(t *testing.T) {
	m, p := newFakeMesh(), newFakePool()
	p.info.Budget = nil
	m.set(func(a *around) { a.Mesh.Node, a.Mesh.Leader = "core-1", "core-2" })
	s := newSite(t, m.with, p.with)
	holds(t, "a follower's page", s.get(t, "/pool").Body.String(), "the leader makes them: see the page on core-2")
}

func TestANodeWithoutAPoolHasNoPageOfIt(t *testing.T) {
	s := newSite(t)
	holds(t, "the first page", s.get(t, "/").Body.String(), `!href="/pool"`)
	for _, path := range []string{"/pool", "/events/pool", "/pool/machines/x/delete"} {
		if w := s.get(t, path); w.Code != 501 {
			t.Errorf("GET %s = %d, want 501", path, w.Code)
		}
	}
	for _, path := range poolChanges {
		if w := s.post(t, path, url.Values{}); w.Code != 501 {
			t.Errorf("POST %s = %d, want 501", path, w.Code)
		}
	}
}

var poolChanges = []string{"/pool/settings", "/pool/machines", "/pool/machines/samnode-5f6j/keep", "/pool/machines/samnode-5f6j/delete", "/pool/stop", "/pool/resume"}

func TestThePoolIsChangedByOwnersOnly(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	for _, role := range []Role{Viewer, Member} {
		s.role = role
		for _, path := range poolChanges {
			if w := s.post(t, path, url.Values{}); w.Code != 403 {
				t.Errorf("POST %s as %s = %d, want 403", path, role, w.Code)
			}
		}
		if w := s.get(t, "/pool/machines/samnode-5f6j/delete"); w.Code != 403 {
			t.Errorf("the form to delete as %s = %d", role, w.Code)
		}
		holds(t, "the page", s.get(t, "/pool").Body.String(), "!<form", "!Delete…", "!Stop buying", "Only owners change these")
	}
	if len(p.done()) != 0 {
		t.Errorf("done = %q", p.done())
	}
}

func TestMachinesAreKeptAndBuyingStops(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	for _, step := range []struct {
		path string
		form url.Values
	}{
		{"/pool/machines/samnode-5f6j/keep", url.Values{"on": {"1"}}},
		{"/pool/machines/samnode-5f6j/keep", nil},
		{"/pool/stop", nil},
		{"/pool/resume", nil},
	} {
		if w := s.post(t, step.path, step.form); w.Code != 303 || w.Header().Get("Location") != "/pool" {
			t.Errorf("POST %s = %d to %s", step.path, w.Code, w.Header().Get("Location"))
		}
		if w := s.post(t, step.path, step.form, "X-Samnode", "1"); w.Code != 204 {
			t.Errorf("POST %s by the script = %d", step.path, w.Code)
		}
	}
	did := p.done()
	if len(did) != 8 || did[0] != "ana@example.com keep samnode-5f6j 18:02" || did[2] != "ana@example.com keep samnode-5f6j 00:00" ||
		!strings.HasPrefix(did[4], "ana@example.com set {Stopped:true Machines:8 PerDay:5 ") || did[6] != "ana@example.com resume" {
		t.Errorf("done = %q", did)
	}
	p.refuse = fmt.Errorf("keeping: %w: machine samnode-5f6j is being deleted", chat.ErrRefused)
	for _, path := range []string{"/pool/machines/samnode-5f6j/keep", "/pool/stop", "/pool/resume"} {
		w := s.post(t, path, nil)
		if w.Code != 409 {
			t.Errorf("a refused POST %s = %d", path, w.Code)
		}
		holds(t, "the page", w.Body.String(), "It was refused", "machine samnode-5f6j is being deleted", "On their way")
		if w := s.post(t, path, nil, "X-Samnode", "1"); w.Code != 409 || strings.Contains(w.Body.String(), "<") {
			t.Errorf("the script got %d %s", w.Code, w.Body)
		}
	}
	p.err = errors.New("reading 10.0.0.7: broken")
	if w := s.get(t, "/pool"); w.Code != 500 || strings.Contains(w.Body.String(), "10.0.0.7") {
		t.Errorf("a pool that cannot be read = %d", w.Code)
	}
}

func TestAMachineIsBoughtOnce(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	id := idIn(t, s.get(t, "/pool").Body.String(), "/pool/machines#buy")
	buy := func(form url.Values) int {
		form.Set("id", id)
		return s.post(t, "/pool/machines", form).Code
	}
	for range 2 {
		if code := buy(url.Values{"location": {"nbg1"}}); code != 303 {
			t.Errorf("buying = %d", code)
		}
	}
	if code := buy(url.Values{"cpus": {"4"}, "memory": {"7,5"}}); code != 303 {
		t.Errorf("buying with wishes = %d", code)
	}
	if len(p.ids) != 2 {
		t.Errorf("%d purchases, want 2: one form twice is one, another wish is another", len(p.ids))
	}
	want := []string{"ana@example.com buy {ID: CPUs:0 Memory:0 Location:nbg1}", "ana@example.com buy {ID: CPUs:0 Memory:0 Location:nbg1}", "ana@example.com buy {ID: CPUs:4 Memory:8053063680 Location:}"}
	if got := p.done(); !slices.Equal(got, want) {
		t.Errorf("done = %q, want %q", got, want)
	}
	holds(t, "the page", s.get(t, "/pool").Body.String(), "samnode-new1", "samnode-new2")

	for _, bad := range []url.Values{{"cpus": {"many"}}, {"cpus": {"-1"}}, {"memory": {"1e9"}}, {"memory": {"NaN"}}} {
		bad.Set("location", "hel1")
		w := s.post(t, "/pool/machines", bad)
		if w.Code != 422 {
			t.Errorf("buying %v = %d", bad, w.Code)
		}
		holds(t, "the page", w.Body.String(), "That is not right yet", `value="`+bad.Get("cpus")+`"`, `value="`+bad.Get("memory")+`"`, `<option value="hel1" selected>`)
	}
	p.refuse = fmt.Errorf("%w: 8 of at most 8 machines are bought", chat.ErrRefused)
	if w := s.post(t, "/pool/machines", nil); w.Code != 409 || !strings.Contains(w.Body.String(), "8 of at most 8 machines are bought") {
		t.Errorf("a refused purchase = %d", w.Code)
	}
	p.refuse = nil
	p.set(func(i *api.PoolInfo) { i.Stopped = "The mesh has no Hetzner token." })
	if code := buy(url.Values{"location": {"fsn1"}}); code != 409 || len(p.ids) != 2 {
		t.Errorf("buying while nothing is bought = %d, %d purchases", code, len(p.ids))
	}
}

func TestDeletingSaysWhatIsLost(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	for machine, wants := range map[string][]string{
		"samnode-4w9s": {"Nothing was ordered for it yet: the purchase is withdrawn, and costs nothing."},
		"samnode-2b8k": {"Its server, cx33 at fsn1, is deleted at the provider as soon as it is known, and the purchase ends."},
		"samnode-1d7h": {"It gets no new tasks. Those below go on until they give their slots back", "2 tasks on it", "It is paid until 14:36 UTC: nothing comes back", "Its node leaves the mesh", "Keep it", "Delete samnode-1d7h"},
		"samnode-5f6j": {"is deleted at the provider now, with its disk", "paid until 14:25 UTC"},
		"samnode-7q2m": {"It is on its way out already."},
	} {
		holds(t, machine, s.get(t, "/pool/machines/"+machine+"/delete").Body.String(), wants...)
	}
	for machine, want := range map[string]int{"core-3": 409, "nope": 404} {
		if w := s.get(t, "/pool/machines/"+machine+"/delete"); w.Code != want {
			t.Errorf("the form to delete %s = %d, want %d", machine, w.Code, want)
		}
	}
	for range 2 {
		if w := s.post(t, "/pool/machines/samnode-5f6j/delete", nil); w.Code != 303 || w.Header().Get("Location") != "/pool" {
			t.Errorf("deleting = %d", w.Code)
		}
	}
	if w := s.post(t, "/pool/machines/gone/delete", nil); w.Code != 303 {
		t.Errorf("deleting one that is gone = %d", w.Code)
	}
	if got := p.done(); len(got) != 1 {
		t.Errorf("done = %q", got)
	}
	p.refuse = fmt.Errorf("%w: the mesh is upside down", chat.ErrRefused)
	if w := s.post(t, "/pool/machines/samnode-1d7h/delete", nil); w.Code != 409 || !strings.Contains(w.Body.String(), "the mesh is upside down") || !strings.Contains(w.Body.String(), "2 tasks on it") {
		t.Errorf("a refused deletion = %d", w.Code)
	}
}

// settingsIn reads the form of the settings as a browser would send it.
func settingsIn(t *testing.T, body string) url.Values {
	t.Helper()
	_, form, ok := strings.Cut(body, `action="/pool/settings#settings"`)
	if !ok {
		t.Fatal("the page has no settings")
	}
	out := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="(\w+)"[^>]* name="(\w+)"[^>]*?value="([^"]*)"([^>]*)>`).FindAllStringSubmatch(form, -1) {
		if m[1] != "checkbox" || strings.Contains(m[4], "checked") {
			out.Set(m[2], m[3])
		}
	}
	out.Set("seen", regexp.MustCompile(`name="seen" value="(\w+)"`).FindStringSubmatch(form)[1])
	out.Set("sizes", regexp.MustCompile(`(?s)<textarea[^>]*>(.*?)</textarea>`).FindStringSubmatch(form)[1])
	return out
}

func TestThePoolIsSet(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	before := p.info.Settings
	form := settingsIn(t, s.get(t, "/pool").Body.String())
	if w := s.post(t, "/pool/settings", form); w.Code != 303 || w.Header().Get("Location") != "/pool#settings" {
		t.Fatalf("saving = %d %s", w.Code, w.Body)
	}
	if got := p.info.Settings; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", before) {
		t.Errorf("saved without a change: %+v, want %+v", got, before)
	}

	form.Set("per_day", "2,50")
	form.Set("sizes", "cx43=4 big, fast\r\n\r\ncx33=1\r\n")
	form.Set("locations", "hel1; fsn1")
	form.Set("shared", "1")
	form.Del("whole_hours")
	try := url.Values{"try": {"1"}}
	for k, v := range form {
		try[k] = v
	}
	w := s.post(t, "/pool/settings", try)
	if len(p.done()) != 1 || w.Code != 200 {
		t.Errorf("asking what it would cost = %d, done %q", w.Code, p.done())
	}
	holds(t, "the trial", w.Body.String(), "Nothing is saved yet", "At most 75.00 € in 30 days. Enough for 3 × cx43 all day.", `value="2,50"`, "hel1; fsn1", "cx43=4 big, fast")
	if code := s.post(t, "/pool/settings", form).Code; code != 303 {
		t.Errorf("saving = %d", code)
	}
	want := api.PoolSettings{
		Machines: 8, PerDay: 2.5, Sizes: []api.PoolSize{{Type: "cx43", Slots: 4, Labels: []string{"big", "fast"}}, {Type: "cx33", Slots: 1}}, Locations: []string{"hel1", "fsn1"}, Image: "docker-ce",
		WarmMinutes: 30, Free: 1, BootMinutes: 10, LifeHours: 24, Shared: true,
	}
	if got := p.info.Settings; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("saved %+v, want %+v", got, want)
	}
}

func TestSettingsThatAreWrongAreNotLost(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	form := settingsIn(t, s.get(t, "/pool").Body.String())
	for name, c := range map[string]struct{ field, value, want string }{
		"words":           {"machines", "three", "Write a whole number, 0 or more."},
		"less than none":  {"warm", "-5", "Write a whole number, 0 or more."},
		"too many":        {"life", "99999999999", "Write a whole number, 0 or more."},
		"no amount":       {"per_day", "NaN", "Write an amount of euros, such as 5.00."},
		"a size alone":    {"sizes", "cx33", "is no size: write a type and its slots"},
		"a size of none":  {"sizes", "cx33=0", "is no size: write a type and its slots"},
		"nothing at once": {"boot", "", "Write a whole number, 0 or more."},
	} {
		old := form.Get(c.field)
		form.Set(c.field, c.value)
		form.Set("image", "my-image")
		w := s.post(t, "/pool/settings", form)
		if w.Code != 422 {
			t.Errorf("%s = %d", name, w.Code)
		}
		holds(t, name, w.Body.String(), "one field is not understood, see below. Nothing was saved", c.want, c.value, `value="my-image"`, "aria-invalid")
		if w := s.post(t, "/pool/settings", form, "X-Samnode", "1"); w.Code != 422 {
			t.Errorf("%s by a script = %d", name, w.Code)
		}
		form.Set(c.field, old)
	}
	form.Set("machines", "x")
	form.Set("free", "x")
	holds(t, "two", s.post(t, "/pool/settings", form).Body.String(), "2 fields are not understood")
	if got := p.done(); len(got) != 0 {
		t.Errorf("done = %q", got)
	}
	form.Set("machines", "2")
	form.Set("free", "0")
	p.refuse = fmt.Errorf("setting: %w: the provider sells no cx33", chat.ErrInvalid)
	if w := s.post(t, "/pool/settings", form); w.Code != 422 || !strings.Contains(w.Body.String(), "the provider sells no cx33") || !strings.Contains(w.Body.String(), `value="my-image"`) {
		t.Errorf("refused settings = %d", w.Code)
	}
	for _, path := range []string{"/pool/settings", "/pool/machines"} {
		if w := s.get(t, path); w.Code != 303 || w.Header().Get("Location") != "/pool" {
			t.Errorf("reading %s, where a refused form stands = %d", path, w.Code)
		}
	}
}

func TestAFormDoesNotTakeBackWhatOthersSet(t *testing.T) {
	p := newFakePool()
	s := newSite(t, p.with)
	form := settingsIn(t, s.get(t, "/pool").Body.String())
	s.post(t, "/pool/stop", nil) // somebody's brake, meanwhile
	form.Set("machines", "2")
	w := s.post(t, "/pool/settings", form)
	if w.Code != 409 || !p.info.Settings.Stopped {
		t.Fatalf("an old form = %d, stopped %v", w.Code, p.info.Settings.Stopped)
	}
	holds(t, "the page", w.Body.String(), "somebody has changed the settings since this page was made", `value="2"`)
	again := settingsIn(t, w.Body.String())
	if code := s.post(t, "/pool/settings", again).Code; code != 303 || p.info.Settings.Machines != 2 {
		t.Errorf("saved once more = %d, %+v", code, p.info.Settings)
	}
}

func TestWhatSettingsCost(t *testing.T) {
	p := samplePool()
	set := p.Settings
	for name, c := range map[string]struct {
		change func(*api.PoolSettings)
		field  string
		want   string
	}{
		"machines within the day":   {func(s *api.PoolSettings) { s.Machines = 2 }, "machines", "2 × 0.35 € = 0.69 € a day, if all run all day."},
		"more than the day allows":  {func(s *api.PoolSettings) { s.Machines = 100 }, "machines", "100 × 0.35 € = 34.56 € a day, if all run all day; 5.00 € a day end that sooner."},
		"a warm time":               {func(s *api.PoolSettings) { s.WarmMinutes = 15 }, "warm", "0.0036 € each time a cx33 falls idle; 0.35 € a day if it never goes."},
		"no free slot":              {func(s *api.PoolSettings) { s.Free = 0 }, "free", "0.00 € a day."},
		"slots ahead":               {func(s *api.PoolSettings) { s.Prewarm = 3 }, "prewarm", "3 × 0.17 € = 0.52 € a day, at most."},
		"a long boot":               {func(s *api.PoolSettings) { s.BootMinutes = 90 }, "boot", "0.0288 € for each cx33 that does not come up: its first hour is paid."},
		"a life":                    {func(s *api.PoolSettings) { s.LifeHours = 48 }, "life", "0.69 € for a cx33 from first to last."},
		"another size":              {func(s *api.PoolSettings) { s.Sizes = s.Sizes[1:] }, "free", "1 × 0.16 € = 0.16 € a day, if tasks come all day."},
		"a location that sells it":  {func(s *api.PoolSettings) { s.Locations = []string{"fsn1"} }, "free", "1 × 0.16 € = 0.16 € a day, if tasks come all day."},
		"any location":              {func(s *api.PoolSettings) { s.Locations = nil }, "per_day", "At most 150.00 € in 30 days. Enough for 14 × cx33 all day."},
		"sizes that nobody sells":   {func(s *api.PoolSettings) { s.Sizes = []api.PoolSize{{Type: "xx99", Slots: 1}} }, "free", ""},
		"a location of no provider": {func(s *api.PoolSettings) { s.Locations = []string{"moon"} }, "free", ""},
	} {
		s := set
		c.change(&s)
		if got := strings.ReplaceAll(costsOf(s, p).By[c.field], "\u00a0", " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := costsOf(api.PoolSettings{Sizes: []api.PoolSize{{Type: "xx99", Slots: 1}}}, p); got.Sizes[0].Day != "no price yet" || got.Locations != "The prices are not known yet." {
		t.Errorf("a size without a price: %+v", got)
	}
}

func TestThePoolStreams(t *testing.T) {
	t.Parallel()
	p := newFakePool()
	s := newSite(t, newFakeMesh().with, p.with)
	f := openFeed(t, listen(t, s), "/events/pool", "")
	f.until(`id="machines"`)
	p.set(func(i *api.PoolInfo) {
		i.Machines = slices.Clone(i.Machines)
		i.Machines[4].Keep = i.At.Add(time.Hour)
	})
	if e := f.until(`id="machine-samnode-5f6j"`); strings.Contains(e.Data, `id="machine-samnode-1d7h"`) || !strings.Contains(e.Data, "kept until") {
		t.Errorf("one machine changed: %s", e.Data)
	}
	p.set(func(i *api.PoolInfo) {
		i.Ops = slices.Clone(i.Ops)
		i.Ops[2].Text = "The provider answered 503."
	})
	if e := f.until(`id="op-01JD2"`); strings.Contains(e.Data, `id="ops"`) {
		t.Errorf("one op changed: %s", e.Data)
	}
	p.set(func(i *api.PoolInfo) { i.Settings.Stopped, i.Stopped, i.Resume = true, "Buying is stopped.", true })
	if e := f.until(`id="pool-notes"`); !strings.Contains(e.Data, "Buying is stopped.") || !strings.Contains(e.Data, `id="brake"`) || strings.Contains(e.Data, "Stop buying") || strings.Contains(e.Data, `name="machines"`) {
		t.Errorf("buying stopped: %s", e.Data)
	}
	p.set(func(i *api.PoolInfo) {
		i.Machines = slices.Clone(i.Machines)
		i.Machines[2].State = ready
	})
	if e := f.until(`id="machines"`); !strings.Contains(e.Data, "Bought") {
		t.Errorf("a machine came up: %s", e.Data)
	}
	p.set(func(i *api.PoolInfo) { i.Ops = i.Ops[1:] })
	f.until(`id="ops"`)
	p.set(func(i *api.PoolInfo) { i.Machines = nil })
	f.until("No machine takes tasks")
}

func TestATaskShowsWhatMachinesCost(t *testing.T) {
	cost := 0.0
	s := newSite(t, func(c *Config) { c.MachineCost = func(chat.TaskID) float64 { return cost } })
	task := s.working(t, "Fix it")
	holds(t, "a task on a joined machine", s.get(t, "/t/"+string(task.ID)).Body.String(), "!<th>Machines</th>")
	cost = 0.0123
	holds(t, "a task on a bought one", s.get(t, "/t/"+string(task.ID)).Body.String(), "<th>Machines</th><td>0.0123 €</td>")
}

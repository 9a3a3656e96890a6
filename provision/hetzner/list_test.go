package hetzner

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

func TestR4TheListHasAllPages(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		want := []string{}
		for i := range 120 {
			s := d.cloud.Put(fmt.Sprintf("ours%03d", i), provision.Labels(testMesh, "op", time.Now()))
			want = append(want, strconv.FormatInt(s.ID, 10))
			d.cloud.Put(fmt.Sprintf("theirs%03d", i), provision.Labels("other", "op", time.Now()))
		}
		list, err := d.Servers(d.Context())
		if err != nil {
			d.Fatal(err)
		}
		got := []string{}
		for _, s := range list {
			got = append(got, s.ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			d.Errorf("%d servers, want %d: %v", len(got), len(want), got)
		}
		if n := d.calls("GET /v1/servers"); n != 3 {
			d.Errorf("%d calls, want one for every 50", n)
		}
	})
}

// A reaper that took one of these for an empty list would think that its
// machines are gone.
func TestR4R7WhatIsNoListIsNotEmpty(t *testing.T) {
	t.Parallel()
	page := `{"servers":[],"meta":{"pagination":{"page":1,"per_page":50,"previous_page":null,"next_page":%d,"last_page":2,"total_entries":60}}}`
	for name, f := range map[string]hetznertest.Fault{
		"no page number": {Status: 200, Body: `{"servers":[]}`},
		"goes round":     {Status: 200, Body: fmt.Sprintf(page, 1)},
		"has no end":     {Status: 200, Body: fmt.Sprintf(page, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{}.run(t, func(d *desk) {
				d.mustCreate()
				f.On = "GET /servers"
				d.cloud.Break(f)
				list, err := d.Servers(d.Context())
				d.refused(err, provision.Unreachable)
				if n := d.calls("GET /v1/servers"); len(list) != 0 || n > 2 {
					d.Errorf("%d servers in %d calls", len(list), n)
				}
			})
		})
	}
	bench{}.run(t, func(d *desk) {
		for i := range 60 {
			d.cloud.Put(fmt.Sprint("s", i), provision.Labels(testMesh, "op", time.Now()))
		}
		d.cloud.Break(hetznertest.Fault{On: "GET /servers", Times: 1, Delay: time.Second})
		d.cloud.Break(hetznertest.Fault{On: "GET /servers", Times: 1, Status: 500, Code: "server_error"})
		list, err := d.Servers(d.Context())
		d.refused(err, provision.Unreachable)
		if len(list) != 0 {
			d.Errorf("half a list: %d servers", len(list))
		}
	})
}

// The mesh's label is in every selector, and what is listed in spite of it is
// left out.
func TestR32EverySelectorHasTheMesh(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		s := d.mustCreate()
		stranger := `{"id":7,"name":"db","status":"running","labels":{},"created":"2000-01-01T00:00:00Z"}`
		if _, err := d.SweepAddresses(d.Context()); err != nil {
			d.Error(err)
		}
		list, err := d.Servers(d.Context())
		if err != nil || len(list) != 1 || list[0].ID != s.ID {
			d.Errorf("Servers = %+v, %v", list, err)
		}
		d.cloud.Break(hetznertest.Fault{On: "GET /servers", Times: 1, Status: 200, Body: `{"servers":[` + stranger +
			`],"meta":{"pagination":{"page":1,"per_page":50,"previous_page":null,"next_page":null,"last_page":1,"total_entries":1}}}`})
		list, err = d.Servers(d.Context())
		if err != nil || len(list) != 0 || !strings.Contains(d.log.String(), "does not match") {
			d.Errorf("Servers = %+v, %v", list, err)
		}
		lists := 0
		for _, c := range d.cloud.Calls() {
			path, query, _ := strings.Cut(c.Path, "?")
			q, err := url.ParseQuery(query)
			if c.Method != "GET" || path != "/v1/servers" && path != "/v1/primary_ips" || q.Has("name") {
				continue
			}
			lists++
			for _, term := range []string{"managed-by=samnode", "mesh=" + testMesh, "role=worker"} {
				if !slices.Contains(strings.Split(q.Get("label_selector"), ","), term) {
					d.Errorf("%s lacks %s (%v)", c.Path, term, err)
				}
			}
		}
		if lists != 3 {
			d.Errorf("%d lists were asked for", lists)
		}
	})
}

func TestR19DeletesDirectlyAndUntilItIsGone(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		s := d.mustCreate()
		d.cloud.SlowDelete(30 * time.Second)
		before := len(d.cloud.Calls())
		if err := d.Delete(d.Context(), s.ID); err != nil {
			d.Fatal(err)
		}
		if calls := d.cloud.Calls()[before:]; len(calls) != 1 || calls[0].Method != "DELETE" {
			d.Errorf("calls = %+v, want one DELETE", calls)
		}
		if now, err := d.Server(d.Context(), s.ID); err != nil || now.Status != "deleting" {
			d.Errorf("Server = %+v, %v", now, err)
		}
		if err := d.Delete(d.Context(), s.ID); err != nil {
			d.Errorf("Delete while it is being deleted = %v", err)
		}
		time.Sleep(30 * time.Second)
		_, err := d.Server(d.Context(), s.ID)
		d.refused(err, provision.Gone)
		for _, id := range []string{s.ID, "999999"} {
			if err := d.Delete(d.Context(), id); err != nil {
				d.Errorf("Delete(%s), which is gone = %v", id, err)
			}
		}
		if left := d.cloud.Alive(); len(left) != 0 {
			d.Errorf("left: %+v", left)
		}
	})
}

func TestR19ADeleteThatIsRefusedIsTriedAgain(t *testing.T) {
	t.Parallel()
	on := "DELETE /servers/*"
	for name, c := range map[string]struct {
		f     hetznertest.Fault
		want  provision.Trouble
		parts []string
	}{
		"423":              {hetznertest.Locked(on, 1), provision.Busy, []string{"tried again later"}},
		"409":              {hetznertest.Conflict(on, 1), provision.Busy, []string{"tried again later"}},
		"protected":        {hetznertest.Fault{On: on, Times: 1, Status: 403, Code: "protected", Message: "protected"}, provision.Busy, []string{"take the protection away"}},
		"503":              {hetznertest.Fault{On: on, Times: 1, Status: 503, Code: "service_error"}, provision.Unreachable, []string{"tries again"}},
		"429":              {hetznertest.Fault{On: on, Times: 1, Status: 429, Code: "rate_limit_exceeded", RetryAfter: "5"}, provision.NoBudget, []string{"goes on in 5s"}},
		"hang":             {hetznertest.Fault{On: on, Times: 1, Hang: true}, provision.Unreachable, []string{"did not answer"}},
		"reset":            {hetznertest.Fault{On: on, Times: 1, Reset: true, After: true}, provision.Unreachable, []string{"no answer"}},
		"no action":        {hetznertest.Fault{On: on, Times: 1, Status: 200, Body: "{}"}, provision.Unreachable, []string{"cannot be read"}},
		"read only":        {hetznertest.Fault{On: on, Times: 1, Status: 403, Code: "forbidden"}, provision.Denied, []string{"make a new one"}},
		"a 404 of a proxy": {hetznertest.Fault{On: on, Times: 1, Status: 404}, provision.Unreachable, []string{"tried again"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{}.run(t, func(d *desk) {
				s := d.mustCreate()
				d.cloud.Break(c.f)
				d.refused(d.Delete(d.Context(), s.ID), c.want, c.parts...)
				time.Sleep(10 * time.Second)
				if err := d.Delete(d.Context(), s.ID); err != nil {
					d.Errorf("Delete again = %v", err)
				}
				time.Sleep(10 * time.Second)
				if left := d.cloud.Alive(); len(left) != 0 {
					d.Errorf("left: %+v", left)
				}
			})
		})
	}
}

func TestR20OnlyHetznersOwn404IsGone(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		s := d.mustCreate()
		for _, f := range []hetznertest.Fault{
			{Status: 404},
			{Status: 404, Body: `{"message":"no Route matched with those values"}`},
			{Status: 404, Code: "route_not_found", Message: "x"},
			{Status: 410},
			{Status: 200, Body: `{"server":null}`},
			{Status: 200, Body: `{"server":{"id":7,"name":"other"}}`},
		} {
			f.On, f.Times = "GET /servers/*", 1
			d.cloud.Break(f)
			if _, err := d.Server(d.Context(), s.ID); err == nil || provision.TroubleOf(err) == provision.Gone {
				d.Errorf("%d %s: Server = %v", f.Status, f.Body, err)
			}
		}
		for _, id := range []string{"", "x", "0", "-4", "12345678901234567890"} {
			_, err := d.Server(d.Context(), id)
			d.refused(err, provision.BadOrder, "its servers have numbers")
			d.refused(d.Delete(d.Context(), id), provision.BadOrder)
		}
	})
}

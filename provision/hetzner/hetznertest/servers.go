package hetznertest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serversLocked answers what is below /servers.
func (c *Cloud) serversLocked(r *http.Request, p []string, body []byte) (answer, func()) {
	now := c.cfg.Now()
	switch {
	case len(p) == 1 && r.Method == http.MethodGet:
		return c.listLocked(now, r.URL.Query()), nil
	case len(p) == 1 && r.Method == http.MethodPost:
		a, s := c.createLocked(body)
		if s == nil || c.cfg.OnCreate == nil {
			return a, nil
		}
		view := s.view(now)
		return a, func() { c.cfg.OnCreate(view, []byte(view.UserData)) }
	case len(p) > 1 && p[1] == "actions" && r.Method == http.MethodGet:
		return c.actionsLocked(r, p[2:]), nil
	}
	at := slices.IndexFunc(c.servers, func(s *server) bool {
		return len(p) > 1 && p[1] == strconv.FormatInt(s.id, 10) && s.there(now)
	})
	if at < 0 {
		return missing("server"), nil
	}
	s := c.servers[at]
	switch rest := strings.Join(p[2:], "/"); {
	case r.Method == http.MethodGet && rest == "":
		return c.showLocked(s, now), nil
	case r.Method == http.MethodPut && rest == "":
		return c.updateLocked(s, body), nil
	case r.Method == http.MethodDelete && rest == "":
		return c.deleteLocked(s)
	case r.Method == http.MethodGet && rest == "actions":
		return c.actionsOfLocked(s, now, r.URL.Query()), nil
	case r.Method == http.MethodGet && strings.HasPrefix(rest, "actions/"):
		return c.actionsLocked(r, p[3:]), nil
	case r.Method == http.MethodPost && strings.HasPrefix(rest, "actions/"):
		return c.powerLocked(s, now, strings.TrimPrefix(rest, "actions/")), nil
	}
	return missing("endpoint"), nil
}

func (c *Cloud) showLocked(s *server, now time.Time) answer {
	return answer{status: 200, body: object{"server": s.wire(now, c.busyLocked(s, now))}}
}

// listLocked shows who was there a lag ago, as they are now.
func (c *Cloud) listLocked(now time.Time, q url.Values) answer {
	then := c.since(now)
	var some []*server
	for _, s := range c.servers {
		seen := !s.created.After(then) && s.there(then)
		named := q.Get("name") == "" || q.Get("name") == s.name
		status := len(q["status"]) == 0 || slices.Contains(q["status"], s.status(now))
		if seen && named && status && selects(q.Get("label_selector"), s.labels) {
			some = append(some, s)
		}
	}
	for _, by := range slices.Backward(q["sort"]) {
		key, way, _ := strings.Cut(by, ":")
		slices.SortStableFunc(some, func(a, b *server) int {
			n := map[string]int{"id": cmp.Compare(a.id, b.id), "name": cmp.Compare(a.name, b.name), "created": a.created.Compare(b.created)}[key]
			if way == "desc" {
				n = -n
			}
			return n
		})
	}
	return listed("servers", wires(some, func(s *server) object {
		o := s.wire(now, c.busyLocked(s, now))
		if !s.there(now) {
			o["status"] = "deleting" // the list does not know yet
		}
		return o
	}), q)
}

func (c *Cloud) updateLocked(s *server, body []byte) answer {
	var change struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	}
	now := c.cfg.Now()
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&change); err != nil {
		return fail(400, "json_error", "invalid JSON", nil)
	}
	if flaw := labelFlaw(change.Labels); flaw != "" {
		return invalid("labels", "the label "+flaw+" is not valid")
	}
	taken := slices.ContainsFunc(c.servers, func(o *server) bool { return o != s && o.there(now) && o.name == change.Name })
	if taken {
		return fail(409, "uniqueness_error", "server name is already used", nil)
	}
	s.name = cmp.Or(change.Name, s.name)
	if change.Labels != nil {
		s.labels = maps.Clone(change.Labels)
	}
	return c.showLocked(s, now)
}

func (c *Cloud) deleteLocked(s *server) (answer, func()) {
	now := c.cfg.Now()
	if c.busyLocked(s, now) {
		return fail(423, "locked", "server is locked", nil), nil
	}
	a := c.actLocked("delete_server", s, c.rules.deleteTime)
	if a.code == "" {
		s.steps = append(s.steps, step{now, "deleting"}, step{a.ends, gone})
		s.gone = a.ends
	}
	out := answer{status: 200, body: object{"action": a.wire(now)}}
	if c.cfg.OnDelete == nil || a.code != "" {
		return out, nil
	}
	view := s.view(now)
	return out, func() { c.cfg.OnDelete(view) }
}

func (c *Cloud) actionsOfLocked(s *server, now time.Time, q url.Values) answer {
	some := []object{}
	for _, a := range c.actions {
		if a.server == s.id {
			some = append(some, a.wire(now))
		}
	}
	return listed("actions", some, q)
}

// powerLocked switches a server on or off.
func (c *Cloud) powerLocked(s *server, now time.Time, what string) answer {
	way, known := map[string][3]string{ // command, meanwhile, then
		"poweron": {"start_server", "starting", "running"}, "poweroff": {"stop_server", "stopping", "off"},
		"shutdown": {"shutdown_server", "stopping", "off"}, "reboot": {"reboot_server", "starting", "running"},
		"reset": {"reset_server", "starting", "running"},
	}[what]
	switch {
	case !known:
		return missing("endpoint")
	case c.busyLocked(s, now):
		return fail(423, "locked", "server is locked", nil)
	}
	a := c.actLocked(way[0], s, c.cfg.StartTime)
	if a.code == "" {
		s.steps = append(s.steps, step{now, way[1]}, step{a.ends, way[2]})
	}
	return answer{status: 201, body: object{"action": a.wire(now)}}
}

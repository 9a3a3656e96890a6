package hetznertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody  = 1 << 20
	jsonType = "application/json; charset=utf-8"
)

// ServeHTTP answers one call.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	began := c.cfg.Now()
	a, f, hook := c.take(r, body)
	if hook != nil {
		hook()
	}
	if !f.answers(r.Context()) {
		c.note(r, began, 0)
		if f.Reset {
			panic(http.ErrAbortHandler)
		}
		return
	}
	data := []byte(a.plain)
	if a.plain == "" && a.body != nil {
		if data, err = json.Marshal(a.body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", jsonType)
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	c.mu.Lock()
	c.rate.headers(c.cfg.Now(), w.Header())
	c.mu.Unlock()
	c.compare(r, body, a, w.Header(), data)
	c.note(r, began, a.status)
	w.WriteHeader(a.status)
	_, _ = w.Write(data) // the client may be gone; the server was made all the same
}

func (c *Cloud) note(r *http.Request, began time.Time, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, Call{At: began, Method: r.Method, Path: r.URL.RequestURI(), Status: status})
}

// take does what was asked, and says what goes wrong with it. hook is to be
// called without the lock.
func (c *Cloud) take(r *http.Request, body []byte) (a answer, f Fault, hook func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	where := "/" + strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/v1"), "/")
	if refusal := c.gateLocked(r); refusal != nil {
		return *refusal, f, nil
	}
	if found := c.faultLocked(r.Method, where); found != nil {
		f = *found
	}
	done := f.After || !f.Hang && !f.Reset && f.Status == 0
	if done {
		a, hook = c.routeLocked(r, strings.Split(where[1:], "/"), body)
	}
	if f.Status != 0 {
		a = f.answer()
	}
	return a, f, hook
}

// answers waits for an answer's time, and is whether there is one.
func (f Fault) answers(ctx context.Context) bool {
	if f.Hang {
		<-ctx.Done()
	}
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil && !f.Reset
}

// gateLocked is what stands before the API.
func (c *Cloud) gateLocked(r *http.Request) *answer {
	now := c.cfg.Now()
	token, has := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	no := func(a answer) *answer { return &a }
	switch {
	case !c.rate.take(now):
		return no(fail(429, "rate_limit_exceeded", fmt.Sprintf("limit of %d requests per hour reached", c.rate.limit), nil))
	case !has || token == "" || c.rules.revoked || c.cfg.Token != "" && token != c.cfg.Token:
		return no(fail(401, "unauthorized", "unable to authenticate", nil))
	case c.rules.readOnly && r.Method != http.MethodGet:
		return no(fail(403, "forbidden", "insufficient permissions for this request", nil))
	}
	return nil
}

// routeLocked: p is the path below /v1.
func (c *Cloud) routeLocked(r *http.Request, p []string, body []byte) (answer, func()) {
	q := r.URL.Query()
	switch p[0] {
	case "servers":
		return c.serversLocked(r, p, body)
	case "primary_ips":
		return c.addressesLocked(r, p, body), nil
	case "actions":
		return c.actionsLocked(r, p[1:]), nil
	case "datacenters":
		return fail(410, "deprecated_api_endpoint", "this API endpoint was removed", object{"announcement": "https://docs.hetzner.cloud/changelog#2026-06-02-datacenters-deprecated"}), nil
	}
	if r.Method != http.MethodGet {
		return missing("endpoint"), nil
	}
	switch p[0] {
	case "pricing":
		return answer{status: 200, body: c.pricingLocked()}, nil
	case "locations":
		return pick("location", locations(), p, q.Get("name"), func(l location) (int64, string) { return l.ID, l.Name }, q), nil
	case "server_types":
		sold := slices.DeleteFunc(slices.Clone(c.types), func(t *serverType) bool { return c.rules.noType[t.name] })
		return pick("server_type", wires(sold, (*serverType).wire), p, q.Get("name"), idName, q), nil
	case "images":
		there := slices.DeleteFunc(slices.Clone(c.images), func(i *image) bool {
			return i.gone || q.Get("architecture") != "" && i.arch != q.Get("architecture")
		})
		return pick("image", wires(there, (*image).wire), p, q.Get("name"), idName, q), nil
	case "ssh_keys":
		keys := slices.DeleteFunc(slices.Clone(c.keys), func(k sshKey) bool {
			return q.Get("fingerprint") != "" && k.Fingerprint != q.Get("fingerprint")
		})
		return pick("ssh_key", keys, p, q.Get("name"), func(k sshKey) (int64, string) { return k.ID, k.Name }, q), nil
	}
	return missing("endpoint"), nil
}

func wires[T any](all []T, wire func(T) object) (out []object) {
	for _, t := range all {
		out = append(out, wire(t))
	}
	return out
}

func idName(o object) (int64, string) { return o["id"].(int64), o["name"].(string) }

// pick answers a list, or one of it by its id in the path.
func pick[T any](name string, all []T, p []string, wanted string, key func(T) (int64, string), q map[string][]string) answer {
	if len(p) == 1 {
		some := slices.DeleteFunc(slices.Clone(all), func(t T) bool {
			_, n := key(t)
			return wanted != "" && n != wanted
		})
		return listed(name+"s", some, q)
	}
	for _, t := range all {
		if id, _ := key(t); len(p) == 2 && p[1] == strconv.FormatInt(id, 10) {
			return answer{status: 200, body: object{name: t}}
		}
	}
	return missing(name)
}

// actionsLocked: /actions?id=1&id=2 and /actions/1.
func (c *Cloud) actionsLocked(r *http.Request, p []string) answer {
	now := c.cfg.Now()
	ids := r.URL.Query()["id"]
	if len(p) == 1 {
		ids = p
	}
	some := []object{}
	for _, a := range c.actions {
		if contains(ids, strconv.FormatInt(a.id, 10)) {
			some = append(some, a.wire(now))
		}
	}
	switch {
	case r.Method != http.MethodGet:
		return missing("endpoint")
	case len(p) == 0:
		return answer{status: 200, body: object{"actions": some}}
	case len(some) == 0:
		return missing("action")
	}
	return answer{status: 200, body: object{"action": some[0]}}
}

// addressesLocked: list, read, label, unassign, delete.
func (c *Cloud) addressesLocked(r *http.Request, p []string, body []byte) answer {
	now, q := c.cfg.Now(), r.URL.Query()
	if len(p) == 1 && r.Method == http.MethodGet {
		some := []object{}
		for _, a := range c.addresses {
			if a.there(now) && selects(q.Get("label_selector"), a.labels) {
				some = append(some, a.wire(now))
			}
		}
		return listed("primary_ips", some, q)
	}
	at := slices.IndexFunc(c.addresses, func(a *address) bool {
		return len(p) > 1 && p[1] == strconv.FormatInt(a.id, 10) && a.there(now)
	})
	if at < 0 {
		return missing("primary IP")
	}
	a := c.addresses[at]
	switch r.Method + " " + strings.Join(p[2:], "/") {
	case "GET ":
	case "PUT ":
		var change struct {
			Labels map[string]string `json:"labels"`
		}
		if json.NewDecoder(bytes.NewReader(body)).Decode(&change) != nil || labelFlaw(change.Labels) != "" {
			return invalid("labels")
		}
		if change.Labels != nil {
			a.labels = maps.Clone(change.Labels)
		}
	case "DELETE ":
		if a.holder(now) != nil {
			return fail(422, "must_be_unassigned", "primary IP must be unassigned", nil)
		}
		a.deleted = true
		return answer{status: 204}
	default:
		return missing("endpoint")
	}
	return answer{status: 200, body: object{"primary_ip": a.wire(now)}}
}

// since is how long a list lags behind.
func (c *Cloud) since(now time.Time) time.Time { return now.Add(-c.rules.lag) }

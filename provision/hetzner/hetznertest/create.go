package hetznertest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

type createRequest struct {
	Name      string            `json:"name"`
	Type      word              `json:"server_type"`
	Image     word              `json:"image"`
	Location  word              `json:"location"`
	Keys      []word            `json:"ssh_keys"`
	UserData  string            `json:"user_data"`
	Labels    map[string]string `json:"labels"`
	Start     *bool             `json:"start_after_create"`
	PublicNet *struct {
		V4 *bool `json:"enable_ipv4"`
		V6 *bool `json:"enable_ipv6"`
	} `json:"public_net"`
}

// order is a request with its words looked up.
type order struct {
	createRequest
	kind     *serverType
	image    *image
	location location
	v4, v6   bool
}

func (c *Cloud) createLocked(body []byte) (answer, *server) {
	o, refusal := c.orderLocked(body)
	if refusal != nil {
		return *refusal, nil
	}
	if refusal := c.roomLocked(o); refusal != nil {
		return *refusal, nil
	}
	s, made, started := c.bringUpLocked(o)
	now := c.cfg.Now()
	next := []object{}
	if started != nil {
		next = append(next, started.wire(now))
	}
	var password any
	if len(o.Keys) == 0 {
		password = rand.Text()
	}
	return answer{status: 201, body: object{
		"server": s.wire(now, true), "action": made.wire(now), "next_actions": next, "root_password": password,
	}}, s
}

// orderLocked checks what is asked for.
func (c *Cloud) orderLocked(body []byte) (order, *answer) {
	o := order{v4: true, v6: true}
	no := func(a answer) (order, *answer) { return o, &a }
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&o.createRequest); err != nil {
		return no(fail(400, "json_error", "invalid JSON: "+err.Error(), nil))
	}
	if !hostName(o.Name) {
		return no(invalid("name", "must be a valid hostname"))
	}
	if o.kind = c.typeLocked(o.Type); o.kind == nil {
		return no(invalid("server_type", "server type not found"))
	}
	if o.image = c.imageLocked(o.Image, o.kind.arch); o.image == nil {
		return no(invalid("image", "image not found or not for this architecture"))
	}
	at := slices.IndexFunc(locations(), func(l location) bool { return o.Location == "" && o.kind.soldAt(l) || o.Location.is(l.ID, l.Name) })
	if at < 0 {
		return no(invalid("location", "location not found"))
	}
	o.location = locations()[at]
	if len(o.UserData) > 32<<10 {
		return no(invalid("user_data", "must be 32 KiB at most"))
	}
	if flaw := labelFlaw(o.Labels); flaw != "" {
		return no(invalid("labels", "the label "+flaw+" is not valid"))
	}
	for _, k := range o.Keys {
		if !slices.ContainsFunc(c.keys, func(key sshKey) bool { return k.is(key.ID, key.Name) }) {
			return no(invalid("ssh_keys", "SSH key not found"))
		}
	}
	if p := o.PublicNet; p != nil {
		o.v4, o.v6 = p.V4 == nil || *p.V4, p.V6 == nil || *p.V6
	}
	return o, nil
}

// roomLocked is what an order is refused for that is as it should be.
func (c *Cloud) roomLocked(o order) *answer {
	no := func(a answer) *answer { return &a }
	now := c.cfg.Now()
	servers, addresses := 0, 0
	for _, s := range c.servers {
		if !s.there(now) {
			continue
		}
		servers++
		if s.name == o.Name {
			return no(fail(409, "uniqueness_error", "server name is already used", object{"fields": []object{{"name": "name"}}}))
		}
	}
	for _, a := range c.addresses {
		if a.there(now) {
			addresses++
		}
	}
	limit := func(name string) *answer {
		return no(fail(403, "resource_limit_exceeded", "resource limit exceeded", object{"limits": []object{{"name": name}}}))
	}
	place := o.kind.name + "@" + o.location.Name
	switch {
	case servers >= c.rules.servers:
		return limit("server_limit")
	case addresses >= c.cfg.AddressLimit && (o.v4 || o.v6):
		return limit("primary_ip_limit")
	case c.rules.closed[o.location.Name]:
		return no(fail(412, "resource_unavailable", "server location disabled", nil))
	case c.rules.unsupported[place], !o.kind.soldAt(o.location):
		return no(fail(422, "invalid_input", "unsupported location for server type", nil))
	case c.rules.soldOut[place]:
		return no(fail(412, "resource_unavailable", "error during placement: resource unavailable", nil))
	}
	return nil
}

func (c *Cloud) bringUpLocked(o order) (s *server, made, started *action) {
	now := c.cfg.Now()
	s = &server{
		id: c.idLocked(), name: o.Name, kind: o.kind, at: o.location, image: o.image, labels: o.Labels,
		userData: o.UserData, created: now, steps: []step{{now, "initializing"}},
	}
	if s.labels == nil {
		s.labels = map[string]string{}
	}
	if o.v4 {
		s.v4 = c.addressLocked("ipv4", s)
	}
	if o.v6 {
		s.v6 = c.addressLocked("ipv6", s)
	}
	c.servers = append(c.servers, s)
	made = c.actLocked("create_server", s, c.cfg.CreateTime)
	after := "off"
	if o.Start == nil || *o.Start {
		started = c.actLocked("start_server", s, c.cfg.CreateTime+c.cfg.StartTime)
		after = "starting"
	}
	if made.code != "" {
		after = "off"
		if started != nil {
			started.ends, started.code, started.why = made.ends, made.code, made.why
		}
	}
	s.steps = append(s.steps, step{made.ends, after})
	if started != nil && started.code == "" {
		s.steps = append(s.steps, step{started.ends, "running"})
	} else if started != nil {
		s.steps = append(s.steps, step{started.ends, "off"})
	}
	c.peak = max(c.peak, c.makingLocked(now))
	return s, made, started
}

// makingLocked is how many servers have yet to be finished.
func (c *Cloud) makingLocked(now time.Time) (n int) {
	for _, a := range c.actions {
		last := a.command == "start_server" // always the later one
		if last && a.runs(now) {
			n++
		}
	}
	return n
}

func (c *Cloud) typeLocked(w word) *serverType {
	for _, t := range c.types {
		if w.is(t.id, t.name) && !c.rules.noType[t.name] {
			return t
		}
	}
	return nil
}

func (c *Cloud) imageLocked(w word, arch string) *image {
	for _, i := range c.images {
		if w.is(i.id, i.name) && i.arch == arch && !i.gone {
			return i
		}
	}
	return nil
}

func hostName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		odd := func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, odd) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// AddSSHKey adds a key to the project and returns its id.
func (c *Cloud) AddSSHKey(name, fingerprint string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := sshKey{
		ID: c.idLocked(), Name: name, Fingerprint: fingerprint, PublicKey: fmt.Sprintf("ssh-ed25519 AAAA %s", name),
		Labels: map[string]string{}, Created: stamp(c.cfg.Now()),
	}
	c.keys = append(c.keys, k)
	return k.ID
}

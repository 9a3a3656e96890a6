package hetznertest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/samnode/samnode/provision"
)

// Server is a server as a test sees it.
type Server struct {
	ID       int64
	Name     string
	Type     string
	Location string
	Image    string
	Labels   map[string]string
	Status   string // "gone" once it is deleted
	Created  time.Time
	Gone     time.Time // zero: not yet
	Address  string
	UserData string
}

// server is one that was ever made. Cloud.mu covers it.
type server struct {
	id       int64
	name     string
	kind     *serverType
	at       location
	image    *image
	labels   map[string]string
	userData string
	created  time.Time
	steps    []step // in order of time; the first is at created
	gone     time.Time
	v4, v6   *address // nil: none
}

type step struct {
	at     time.Time
	status string
}

const gone = "gone"

func (s *server) status(now time.Time) string {
	status := s.steps[0].status
	for _, st := range s.steps {
		if !st.at.After(now) {
			status = st.status
		}
	}
	return status
}

func (s *server) there(now time.Time) bool { return s.gone.IsZero() || s.gone.After(now) }

// action is what the cloud does to a server. Cloud.mu covers it.
type action struct {
	id        int64
	command   string
	server    int64
	began     time.Time
	ends      time.Time
	code, why string // of a failure
}

func (a *action) runs(now time.Time) bool { return now.Before(a.ends) }

// address is a primary IP. Cloud.mu covers it.
type address struct {
	id       int64
	name     string
	kind     string // ipv4, ipv6
	ip       string
	at       location
	labels   map[string]string
	created  time.Time
	assignee *server // nil: none
	auto     bool    // goes with its server
	deleted  bool
}

func (a *address) there(now time.Time) bool {
	return !a.deleted && (!a.auto || a.assignee == nil || a.assignee.there(now))
}

// holder is the server that has the address.
func (a *address) holder(now time.Time) *server {
	if a.assignee == nil || !a.assignee.there(now) {
		return nil
	}
	return a.assignee
}

func (c *Cloud) idLocked() int64 {
	c.next++
	return c.next
}

func (c *Cloud) actLocked(command string, s *server, takes time.Duration) *action {
	now := c.cfg.Now()
	a := &action{id: c.idLocked(), command: command, server: s.id, began: now, ends: now.Add(takes)}
	if f := c.failureLocked(command); f != nil {
		a.code, a.why = f.Code, f.Message
	}
	c.actions = append(c.actions, a)
	return a
}

// busyLocked is whether something is done to a server.
func (c *Cloud) busyLocked(s *server, now time.Time) bool {
	return slices.ContainsFunc(c.actions, func(a *action) bool { return a.server == s.id && a.runs(now) })
}

func (c *Cloud) addressLocked(kind string, s *server) *address {
	id := c.idLocked()
	a := &address{id: id, name: fmt.Sprintf("primary_ip-%d", id), kind: kind, at: s.at, created: c.cfg.Now(), assignee: s, auto: true, labels: map[string]string{}}
	a.ip = fmt.Sprintf("198.18.%d.%d", id>>8&0xff, id&0xff) // set aside for benchmarks
	if kind == "ipv6" {
		a.ip = fmt.Sprintf("2001:db8:%x::/64", id&0xffff)
	}
	c.addresses = append(c.addresses, a)
	return a
}

func (s *server) view(now time.Time) Server {
	v := Server{
		ID: s.id, Name: s.name, Type: s.kind.name, Location: s.at.Name, Image: s.image.name,
		Labels: maps.Clone(s.labels), Status: s.status(now), Created: s.created, UserData: s.userData,
	}
	if !s.there(now) {
		v.Gone = s.gone
	}
	if s.v4 != nil {
		v.Address = s.v4.ip
	}
	return v
}

// Ever are all servers there ever were, by id.
func (c *Cloud) Ever() (all []Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		all = append(all, s.view(c.cfg.Now()))
	}
	return all
}

// Alive are the servers that are there now, those that are being deleted among them.
func (c *Cloud) Alive() []Server {
	return slices.DeleteFunc(c.Ever(), func(s Server) bool { return !s.Gone.IsZero() })
}

// Addresses is how many primary IPs there are, and how many of them have no server.
func (c *Cloud) Addresses() (all, loose int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	for _, a := range c.addresses {
		if !a.there(now) {
			continue
		}
		all++
		if a.holder(now) == nil {
			loose++
		}
	}
	return all, loose
}

// Put makes a server that samnode did not ask for: of the type cx23 in nbg1,
// running since now.
func (c *Cloud) Put(name string, labels map[string]string) Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	s := &server{
		id: c.idLocked(), name: name, kind: c.typeLocked("cx23"), at: locations()[1], image: c.images[0],
		labels: map[string]string{}, created: now, steps: []step{{now, "running"}},
	}
	maps.Copy(s.labels, labels)
	s.v4 = c.addressLocked("ipv4", s)
	c.servers = append(c.servers, s)
	return s.view(now)
}

// Remove deletes a server at once, as somebody at the console may.
func (c *Cloud) Remove(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	for _, s := range c.servers {
		if s.id == id && s.there(now) {
			s.gone = now
			s.steps = append(s.steps, step{now, gone})
		}
	}
}

// Loosen takes a server's addresses away from it, so that they stay when it goes.
func (c *Cloud) Loosen(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.addresses {
		if a.assignee != nil && a.assignee.id == id {
			a.assignee = nil
		}
	}
}

// Bill is what one server cost until now.
type Bill struct {
	Server Server
	Hours  int // started ones, from when it was created
	Cost   provision.Money
}

// Bills are those of all servers. Every hour begun is paid, whether the server
// runs or not, up to the month's price for every 30 days begun.
func (c *Cloud) Bills() (all []Bill) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	for _, s := range c.servers {
		end := now
		if !s.there(now) {
			end = s.gone
		}
		hours := max(1, int((end.Sub(s.created)+time.Hour-1)/time.Hour))
		months := (hours + 30*24 - 1) / (30 * 24)
		cost := min(provision.Money(hours)*s.kind.hourly(), provision.Money(months)*s.kind.monthly())
		all = append(all, Bill{Server: s.view(now), Hours: hours, Cost: cost})
	}
	return all
}

// Paid is the sum of all bills.
func (c *Cloud) Paid() (sum provision.Money) {
	for _, b := range c.Bills() {
		sum += b.Cost
	}
	return sum
}

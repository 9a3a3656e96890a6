package broker

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/samnode/samnode/chat"
)

// Kind says what was refused.
type Kind string

// The kinds of refusal.
const (
	KindEgress Kind = "egress" // What is the host
	KindPath   Kind = "path"   // What is a path of a model API that is not for agents
	KindKey    Kind = "key"    // What is the provider: it has no key, or the vendor refused it
	KindBudget Kind = "budget" // What is the model that was asked for
	KindBusy   Kind = "busy"   // What is a provider that refuses calls for want of capacity
	KindPrice  Kind = "price"  // What is a model whose price is not known: the budget does not see it
)

// Refusal is one status message of the chat, in words.
type Refusal struct {
	Kind Kind
	What string
	Why  string // one sentence
	Todo string // what a person can do about it
}

// Call is one model call that went to the vendor.
type Call struct {
	Provider string     // anthropic, openai, gemini
	Model    string     // as the vendor named it in the answer, else as the agent asked
	Usage    chat.Usage // Input without Cached; Cost 0 when the price is unknown
	Status   int        // HTTP status of the answer; 502 when there was none
	Aborted  bool       // broken off before the vendor said what it cost
	Priced   bool       // the model is in the price table
}

// Stats are counts since Open.
type Stats struct {
	Calls, Failed             int64 // model calls; those with a status of 400 or more
	Git, Stale                int64 // git requests; requests with a stale token
	Tunnels, Requests, Denied int64 // egress: CONNECT, plain HTTP, refused
	Open                      int64 // tunnels open now
	In, Out                   int64 // bytes of tunnels from and to the workspace, counted at their end
	Models                    map[string]chat.Usage
}

type counters struct {
	Calls, Failed, Git, Stale atomic.Int64
	Tunnels, Requests, Denied atomic.Int64
	In, Out                   atomic.Int64

	mu     sync.Mutex
	models map[string]chat.Usage // by model
}

// Stats returns the counters and, by model, what was spent.
func (b *Broker) Stats() Stats {
	c := &b.stats
	s := Stats{
		Calls: c.Calls.Load(), Failed: c.Failed.Load(), Git: c.Git.Load(), Stale: c.Stale.Load(),
		Tunnels: c.Tunnels.Load(), Requests: c.Requests.Load(), Denied: c.Denied.Load(),
		Open: b.tunnels.count(), In: c.In.Load(), Out: c.Out.Load(),
		Models: map[string]chat.Usage{},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for m, u := range c.models {
		s.Models[m] = u
	}
	return s
}

func (c *counters) add(model string, u chat.Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.models == nil {
		c.models = map[string]chat.Usage{}
	}
	sum := c.models[model]
	sum.Input += u.Input
	sum.Output += u.Output
	sum.Cached += u.Cached
	sum.Cost += u.Cost
	c.models[model] = sum
}

// The same refusal is said once a minute; so many are remembered.
const (
	sayEvery = time.Minute
	maxNotes = 512
)

// notes keeps an agent that tries again and again from filling the chat.
type notes struct {
	say  func(Refusal)
	mu   sync.Mutex
	last map[noteKey]time.Time
}

type noteKey struct {
	kind Kind
	what string
}

func (n *notes) tell(r Refusal) {
	if n.say == nil || !n.due(noteKey{r.Kind, r.What}, time.Now()) {
		return
	}
	n.say(r)
}

// forget makes the next refusal of a kind news.
func (n *notes) forget(kind Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.last, func(k noteKey, _ time.Time) bool { return k.kind == kind })
}

// due reports whether the refusal is to be said now. While more different ones
// come in a minute than are remembered, the rest is silent: an agent that
// probes a thousand hosts makes a log, not a chat.
func (n *notes) due(k noteKey, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, known := n.last[k]; known && now.Sub(at) < sayEvery {
		return false
	}
	if n.last == nil {
		n.last = map[noteKey]time.Time{}
	}
	if len(n.last) >= maxNotes {
		for k, at := range n.last {
			if now.Sub(at) >= sayEvery {
				delete(n.last, k)
			}
		}
		if len(n.last) >= maxNotes {
			return false
		}
	}
	n.last[k] = now
	return true
}

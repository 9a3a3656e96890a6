package workspace

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/samnode/samnode/workspace/broker"
)

// patience counts refusals for want of capacity. Agents try again for minutes
// without a word, so after a few in a row the chat is told.
type patience struct {
	say func(broker.Refusal)
	mu  sync.Mutex
	row map[string]int // by provider
}

// patient is how many refusals in a row are nobody's business.
const patient = 3

func (p *patience) called(c broker.Call) {
	busy := c.Status == http.StatusTooManyRequests || c.Status == http.StatusServiceUnavailable || c.Status == 529
	p.mu.Lock()
	if p.row == nil {
		p.row = map[string]int{}
	}
	if p.row[c.Provider]++; !busy {
		delete(p.row, c.Provider)
	}
	tell := p.row[c.Provider] == patient+1
	p.mu.Unlock()
	if tell {
		p.say(broker.Refusal{Kind: broker.KindBusy, What: c.Provider,
			Why:  fmt.Sprintf("The model API of %s refuses calls for now (%d). The agent tries again by itself.", c.Provider, c.Status),
			Todo: "Wait, or stop the turn and try again later."})
	}
}

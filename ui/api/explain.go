package api

import (
	"net/http"
	"time"

	"github.com/samnode/samnode/chat"
)

// Explanation is why a task is where it is: of one that waits what the
// scheduler says of each machine, of one that was placed what it said then.
type Explanation struct {
	Task       chat.TaskID `json:"task"`
	State      string      `json:"state"`
	Reason     string      `json:"reason"`
	Node       string      `json:"node,omitempty"`
	Since      time.Time   `json:"since,omitzero"` // in this state
	Candidates []Candidate `json:"candidates"`     // by node name

	Machine string       `json:"machine,omitempty"` // on its way, which the task waits for
	Buys    bool         `json:"buys,omitempty"`    // a machine is bought for it now
	Again   time.Time    `json:"again,omitzero"`    // when what keeps a machine from being bought may be over
	Choices []PoolChoice `json:"choices"`           // what could be bought for it, best first
	Cost    float64      `json:"machine_cost"`      // euros, net: see [Config.MachineCost]
}

// Candidate is one machine as the scheduler sees it.
type Candidate struct {
	Node    string `json:"node"`
	Free    int    `json:"free"`              // slots
	Refused string `json:"refused,omitempty"` // why it cannot take the task
}

func (s *server) explain(w http.ResponseWriter, r *request) error {
	t := r.task
	if s.c.Explain == nil {
		return errNotHere
	}
	out, waits := s.c.Explain(t.ID)
	if !waits {
		out = Explanation{Reason: "It does not wait for a machine."}
		if t.Lease != nil {
			out.Node = string(t.Lease.Node)
			for _, step := range t.Steps {
				if step.Name == chat.StepPlace && step.Note != "" {
					out.Reason = step.Note
				}
			}
		}
	}
	out.Task, out.State, out.Since = t.ID, string(t.State), t.Since
	out.Candidates = append([]Candidate{}, out.Candidates...)
	out.Choices = append([]PoolChoice{}, out.Choices...)
	out.Cost = s.machineCost(t.ID)
	return answer(w, http.StatusOK, out)
}

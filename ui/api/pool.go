package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/samnode/samnode/chat"
)

// Pool is the machines that tasks run on, and what the mesh buys of them.
type Pool interface {
	Pool(context.Context) (PoolInfo, error)
	// SetPool replaces the settings; what is wrong with them wraps
	// chat.ErrInvalid.
	SetPool(ctx context.Context, by chat.Author, set PoolSettings) error
	// Buy begins to buy a machine, and returns its op.
	Buy(ctx context.Context, by chat.Author, need PoolNeed) (op string, err error)
	// DeleteMachine has a bought machine deleted once its tasks have ended.
	DeleteMachine(ctx context.Context, by chat.Author, machine string) error
	// KeepMachine has an idle machine stay until then; the zero time takes it
	// back.
	KeepMachine(ctx context.Context, by chat.Author, machine string, until time.Time) error
	// ResumeBuying ends what keeps the mesh from buying.
	ResumeBuying(ctx context.Context, by chat.Author) error
	// CheckBuying says whether machines can be bought, part by part.
	CheckBuying(ctx context.Context) []PoolCheck
}

// PoolCheck is one thing that buying needs.
type PoolCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Todo   string `json:"todo,omitempty"` // what to do where it is not
}

// PoolInfo is the pool as this node sees it. Money is euros, net.
type PoolInfo struct {
	At       time.Time     `json:"at"` // all of it is of this time
	Machines []PoolMachine `json:"machines"`
	Ops      []PoolOp      `json:"ops"` // the newest first
	Settings PoolSettings  `json:"settings"`
	Choices  []PoolChoice  `json:"choices"` // what would be bought now, best first
	Today    float64       `json:"today"`
	Month    float64       `json:"month"`
	Stopped  string        `json:"stopped,omitempty"` // why nothing is bought now, as a sentence
	Resume   bool          `json:"resume"`            // ResumeBuying would make a difference
	Alarms   []string      `json:"alarms"`            // sentences
	Swept    time.Time     `json:"swept,omitzero"`    // when the provider's list was compared with the machines
	Budget   *PoolBudget   `json:"budget,omitempty"`  // on the leader only
}

// PoolMachine is a machine that joined, or that is bought.
type PoolMachine struct {
	Name  string    `json:"name"`
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`
	Slots int       `json:"slots"`
	Tasks []Lease   `json:"tasks"`

	Bought    bool      `json:"bought"`
	Type      string    `json:"type,omitempty"`
	Location  string    `json:"location,omitempty"`
	Server    string    `json:"server,omitempty"` // the provider's id
	Hour      float64   `json:"hour,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	PaidUntil time.Time `json:"paid_until,omitzero"`
	Until     time.Time `json:"until,omitzero"`    // when it goes if it stays idle
	Keep      time.Time `json:"keep,omitzero"`     // somebody wants it until then
	Deadline  time.Time `json:"deadline,omitzero"` // of what it is doing now
	Leaves    bool      `json:"leaves,omitempty"`  // it is to be deleted
	Stay      string    `json:"stay,omitempty"`    // why it stays, or goes
	Why       string    `json:"why,omitempty"`     // it was bought
	Owner     string    `json:"owner,omitempty"`
	Failed    string    `json:"failed,omitempty"`
}

// PoolOp is one intent to buy or to delete a machine.
type PoolOp struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`  // buy, delete
	State   string    `json:"state"` // open, done, failed, withdrawn
	Machine string    `json:"machine"`
	Reason  string    `json:"reason"`
	Task    string    `json:"task,omitempty"`
	By      string    `json:"by,omitempty"`
	Text    string    `json:"text,omitempty"` // what is in its way now
	Next    time.Time `json:"next,omitzero"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	History []Event   `json:"history"`
}

// PoolChoice is a type at a location that could be bought.
type PoolChoice struct {
	Type     string  `json:"type"`
	Location string  `json:"location"`
	Slots    int     `json:"slots"`
	Hour     float64 `json:"hour"`
	Day      float64 `json:"day"`               // if it ran for a whole one
	Refused  string  `json:"refused,omitempty"` // why it is not taken
}

// PoolBudget is the allowance of calls to the provider's API.
type PoolBudget struct {
	Limit   int            `json:"limit"`
	Left    int            `json:"left"`
	Reserve int            `json:"reserve"`
	Until   time.Time      `json:"until,omitzero"` // the provider wants to be left alone
	Calls   map[string]int `json:"calls"`
}

// PoolSettings is how the mesh buys machines, and how long it keeps them.
type PoolSettings struct {
	Stopped     bool       `json:"stopped"`
	Machines    int        `json:"machines"` // at once, at most
	PerDay      float64    `json:"per_day"`  // euros, at most
	Sizes       []PoolSize `json:"sizes"`    // best first
	Locations   []string   `json:"locations"`
	Image       string     `json:"image"`
	WarmMinutes int        `json:"warm_minutes"` // an idle machine stays
	WholeHours  bool       `json:"whole_hours"`  // and then to the end of the hour that is paid
	Free        int        `json:"free"`         // slots kept while the last task is under an hour old
	Prewarm     int        `json:"prewarm"`      // slots bought ahead, at most
	BootMinutes int        `json:"boot_minutes"` // a machine may take to come up
	LifeHours   int        `json:"life_hours"`
	Shared      bool       `json:"shared"` // among persons
}

// PoolSize is a type of machine and how many tasks share one.
type PoolSize struct {
	Type   string   `json:"type"`
	Slots  int      `json:"slots"`
	Labels []string `json:"labels,omitempty"`
}

// PoolNeed is what a machine must have at least.
type PoolNeed struct {
	ID       string `json:"id,omitempty"` // a ULID, of the op: the same one twice buys one machine
	CPUs     int    `json:"cpus,omitempty"`
	Memory   int64  `json:"memory,omitempty"` // bytes
	Location string `json:"location,omitempty"`
}

// CheckPool refuses numbers that cannot be counted with, before anything is
// made of them. What else may be wrong with settings is for SetPool to say.
func CheckPool(s PoolSettings) error {
	const most = 1_000_000
	for _, n := range []int{s.Machines, s.WarmMinutes, s.Free, s.Prewarm, s.BootMinutes, s.LifeHours} {
		if n < 0 || n > most {
			return fmt.Errorf("%w: %d is out of range: write a whole number from 0 to %d", chat.ErrInvalid, n, most)
		}
	}
	if !(s.PerDay >= 0 && s.PerDay <= most) { // what is no number is neither
		return fmt.Errorf("%w: a day may cost 0 to %d euros", chat.ErrInvalid, most)
	}
	return nil
}

func (s *server) pool(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	p, err := s.c.Pool.Pool(r.Context())
	if err != nil {
		return fmt.Errorf("reading the pool: %w", err)
	}
	p.Machines, p.Ops, p.Choices, p.Alarms = notNil(p.Machines), notNil(p.Ops), notNil(p.Choices), notNil(p.Alarms)
	p.Settings.Sizes, p.Settings.Locations = notNil(p.Settings.Sizes), notNil(p.Settings.Locations)
	return answer(w, http.StatusOK, p)
}

func (s *server) checkPool(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	return answer(w, http.StatusOK, map[string][]PoolCheck{"checks": append([]PoolCheck{}, s.c.Pool.CheckBuying(r.Context())...)})
}

func (s *server) setPool(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	var in PoolSettings
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := CheckPool(in); err != nil {
		return err
	}
	if err := s.c.Pool.SetPool(r.Context(), r.by, in); err != nil {
		return fmt.Errorf("setting how machines are bought: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) buyMachine(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	var in PoolNeed
	if err := decode(r, &in); err != nil {
		return err
	}
	if _, err := ulid.ParseStrict(in.ID); in.ID != "" && err != nil {
		return fmt.Errorf("%.40q is not a ULID: %w", in.ID, chat.ErrInvalid)
	}
	op, err := s.c.Pool.Buy(r.Context(), r.by, in)
	if err != nil {
		return fmt.Errorf("buying a machine: %w", err)
	}
	return answer(w, http.StatusCreated, map[string]string{"op": op})
}

func (s *server) deleteMachine(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	if err := s.c.Pool.DeleteMachine(r.Context(), r.by, r.PathValue("machine")); err != nil {
		return fmt.Errorf("deleting a machine: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) keepMachine(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	var in struct {
		Until time.Time `json:"until"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := s.c.Pool.KeepMachine(r.Context(), r.by, r.PathValue("machine"), in.Until); err != nil {
		return fmt.Errorf("keeping a machine: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) resumeBuying(w http.ResponseWriter, r *request) error {
	if s.c.Pool == nil {
		return errNotHere
	}
	if err := s.c.Pool.ResumeBuying(r.Context(), r.by); err != nil {
		return fmt.Errorf("resuming to buy: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

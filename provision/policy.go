package provision

import (
	"slices"
	"time"
)

// Policy is how a mesh buys machines, and how long it keeps them.
type Policy struct {
	Stopped   bool     `json:"stopped,omitempty"` // buy nothing until a person lifts it
	Machines  int      `json:"machines"`          // bought machines at once, at most; 0: none is bought
	PerDay    Money    `json:"per_day"`           // what bought machines cost in a day (UTC), at most; see [Pool.Spent]
	Sizes     []Size   `json:"sizes"`             // what is bought, best first
	Locations []string `json:"locations"`         // where, best first; empty: anywhere
	Image     string   `json:"image"`             // a stock image that has Docker

	Warm       time.Duration `json:"warm"`        // how long an idle machine is kept at least
	WholeHours bool          `json:"whole_hours"` // and then to the end of the hour that is paid
	Free       int           `json:"free"`        // slots kept free while the last task is under an hour old
	Prewarm    int           `json:"prewarm"`     // slots, at most, bought ahead of the tasks that the last two hours make likely; 0: none

	BootFor time.Duration `json:"boot_for"` // from the provider's answer until the node must have been heard
	Life    time.Duration `json:"life"`     // after that a machine gets no more tasks, and goes when it has none
	Shared  bool          `json:"shared"`   // one person's bought machine takes another's tasks, too
}

// Size is one of a provider's types, and how many tasks share a machine of it.
type Size struct {
	Type   string   `json:"type"`
	Slots  int      `json:"slots"`
	Labels []string `json:"labels,omitempty"` // that its machines have, for tasks that ask for one
}

// DefaultPolicy is what holds until a person says otherwise. The reasons are
// the table of BenchmarkWarmPolicy: two tasks on a machine cost no more than
// one from two tasks an hour up, and half an hour and then to the paid hour's
// end beats any fixed time.
func DefaultPolicy() Policy {
	return Policy{
		Machines:  3,
		PerDay:    5 * Euro,
		Sizes:     []Size{{Type: "cx33", Slots: 2}, {Type: "cx43", Slots: 4}, {Type: "cpx22", Slots: 1}, {Type: "cpx32", Slots: 2}},
		Locations: []string{"fsn1", "nbg1", "hel1"},
		Image:     "docker-ce",
		Warm:      30 * time.Minute, WholeHours: true, Free: 1,
		BootFor: 10 * time.Minute, Life: 24 * time.Hour,
	}
}

// Need is what a task asks of a machine, of the whole of it.
type Need struct {
	CPUs     int      `json:"cpus,omitempty"` // at least, as the next two
	Mem      int64    `json:"mem,omitempty"`  // bytes
	Disk     int64    `json:"disk,omitempty"` // bytes
	Labels   []string `json:"labels,omitempty"`
	Location string   `json:"location,omitempty"` // empty: any
}

// covers tells whether a machine that was bought for n will do for o.
func (n Need) covers(o Need) bool {
	return n.CPUs >= o.CPUs && n.Mem >= o.Mem && n.Disk >= o.Disk && has(n.Labels, o.Labels) && (o.Location == "" || n.Location == o.Location)
}

// any tells whether every machine will do.
func (n Need) any() bool {
	return n.CPUs <= 0 && n.Mem <= 0 && n.Disk <= 0 && len(n.Labels) == 0 && n.Location == ""
}

// has tells whether all of these labels are among those.
func has(those, these []string) bool {
	return !slices.ContainsFunc(these, func(l string) bool { return !slices.Contains(those, l) })
}

// Bounds of what a policy says.
const (
	maxBought = 100
	maxSizes  = 20
	maxKept   = 16 // slots
	maxLabels = 16
	maxPerDay = 10_000 * Euro
)

// Check says what is wrong with the policy, or nothing.
func (p Policy) Check() error {
	switch {
	case p.Machines < 0 || p.Machines > maxBought:
		return refuse(CodeInvalid, "A mesh buys 0 to %d machines, not %d.", maxBought, p.Machines)
	case p.PerDay < 0 || p.PerDay > maxPerDay:
		return refuse(CodeInvalid, "A day may cost 0 to %s, not %s.", maxPerDay, p.PerDay)
	case len(p.Sizes) == 0 || len(p.Sizes) > maxSizes:
		return refuse(CodeInvalid, "Name 1 to %d types of machines to buy, best first.", maxSizes)
	case len(p.Locations) > maxSizes:
		return refuse(CodeInvalid, "Name at most %d locations, best first.", maxSizes)
	case p.Image == "":
		return refuse(CodeInvalid, "Name the image that a machine boots, such as %s.", DefaultPolicy().Image)
	case p.Warm < 0 || p.Warm > 24*time.Hour:
		return refuse(CodeInvalid, "An idle machine is kept for 0 minutes to 24 hours, not %s.", p.Warm)
	case p.Free < 0 || p.Free > maxKept || p.Prewarm < 0 || p.Prewarm > maxKept:
		return refuse(CodeInvalid, "Keep 0 to %d slots free, and buy 0 to %d ahead.", maxKept, maxKept)
	case p.BootFor < time.Minute || p.BootFor > time.Hour:
		return refuse(CodeInvalid, "A machine gets 1 minute to 1 hour to come up, not %s.", p.BootFor)
	case p.Life < time.Hour || p.Life > 30*24*time.Hour:
		return refuse(CodeInvalid, "A machine lives for 1 hour to 30 days, not %s.", p.Life)
	}
	for _, s := range p.Sizes {
		if s.Type == "" || s.Slots < 1 || s.Slots > 64 {
			return refuse(CodeInvalid, "A size is a type of the provider's and 1 to 64 slots, not %q and %d.", short(s.Type, 40), s.Slots)
		}
		if err := checkLabels(s.Labels); err != nil {
			return err
		}
	}
	return checkText(append([]string{p.Image}, p.Locations...)...)
}

func checkLabels(labels []string) error {
	if len(labels) > maxLabels {
		return refuse(CodeInvalid, "A machine has at most %d labels.", maxLabels)
	}
	for _, l := range labels {
		if CheckName(l) != nil {
			return refuse(CodeInvalid, "%q cannot be a label: use 1 to %d small letters, digits and hyphens.", short(l, 80), maxName)
		}
	}
	return nil
}

// Policy is what holds now.
func (p Pool) Policy() Policy {
	if p.Rules == nil {
		return DefaultPolicy()
	}
	return *p.Rules
}

// size returns what the policy says of a type.
func (p Policy) size(name string) (Size, bool) {
	i := slices.IndexFunc(p.Sizes, func(s Size) bool { return s.Type == name })
	if i < 0 {
		return Size{}, false
	}
	return p.Sizes[i], true
}

package provision

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Money is an amount in millionths of a euro, net.
type Money int64

// Euro is one euro.
const Euro Money = 1_000_000

// String is the amount in euros with at least two decimals: 0.0096 €, 12.00 €.
func (m Money) String() string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	cents := fmt.Sprintf("%06d", m%Euro)
	return fmt.Sprintf("%s%d.%s%s €", sign, m/Euro, cents[:2], strings.TrimRight(cents[2:], "0"))
}

// Offer is one type of machine at one location, as the provider sells it now.
type Offer struct {
	Type     string `json:"type"`
	Location string `json:"location"`
	Arch     string `json:"arch"` // as GOARCH: amd64, arm64
	CPUs     int    `json:"cpus"`
	Mem      int64  `json:"mem"`  // bytes
	Disk     int64  `json:"disk"` // bytes
	Hour     Money  `json:"hour"` // with its public IPv4 address
	Month    Money  `json:"month"`
	// Orderable is what the provider says of this location now. It is a hint:
	// only an order shows.
	Orderable bool   `json:"orderable"`
	Leaving   string `json:"leaving,omitempty"` // that the type is going away, and when; empty: it stays
}

// Order is one machine to be made.
type Order struct {
	Op       string // whose machine it is; a server of that name without this op's label is not ours
	Name     string // a function of the op
	Type     string
	Location string
	Image    string
	UserData []byte            // as it is sent
	Labels   map[string]string // of [Labels]
}

// Server is a machine as the provider has it.
type Server struct {
	ID       string            `json:"id"` // the provider's
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Location string            `json:"location"`
	Labels   map[string]string `json:"labels,omitempty"`
	Status   string            `json:"status"`  // the provider's word
	Created  time.Time         `json:"created"` // from which its hours are counted
	Address  string            `json:"address,omitempty"`
}

// The labels of every server that samnode makes. A server is a mesh's own when
// managed-by, mesh and role all say so; nothing else is ever touched.
const (
	LabelManagedBy = "managed-by" // ManagedBy
	LabelMesh      = "mesh"       // the mesh's id
	LabelOp        = "op"         // the op it was made for
	LabelRole      = "role"       // RoleWorker
	LabelExpires   = "expires"    // unix seconds: it is not to live longer, whatever the state says

	ManagedBy  = "samnode"
	RoleWorker = "worker"
)

// Labels are those of a server to be made.
func Labels(mesh, op string, expires time.Time) map[string]string {
	return map[string]string{
		LabelManagedBy: ManagedBy, LabelMesh: mesh, LabelOp: op, LabelRole: RoleWorker,
		LabelExpires: strconv.FormatInt(expires.Unix(), 10),
	}
}

// Expires is the time until which a server may live at most; false where its
// label is missing or is not a time.
func (s Server) Expires() (time.Time, bool) {
	sec, err := strconv.ParseInt(s.Labels[LabelExpires], 10, 64)
	return time.Unix(sec, 0).UTC(), err == nil
}

// Budget is the state of a provider's allowance of API calls, as this process
// keeps it. Of what the provider allows, half is used at most: the rest is for
// people and for other programs.
type Budget struct {
	Limit   int            `json:"limit"`           // calls an hour that the provider allows, as it said last
	Hourly  int            `json:"hourly"`          // calls in any hour that are made at most
	Left    int            `json:"left"`            // calls that may be made now
	Reserve int            `json:"reserve"`         // of those, kept for deletes
	Reset   time.Time      `json:"reset"`           // when Left is whole again if nobody calls
	Until   time.Time      `json:"until,omitzero"`  // the provider wants to be left alone until then
	Calls   map[string]int `json:"calls,omitempty"` // since the process began, by kind: create, delete, list, ...
}

// Trouble is what a provider's refusal means for who asked.
type Trouble string

// The kinds of trouble. What is none of them is worth another try later.
const (
	SoldOut     Trouble = "sold out"    // this type at this location: take the next candidate
	NoQuota     Trouble = "quota"       // the account may not have more: wait, and tell a person
	Denied      Trouble = "denied"      // the token is wrong or may only read: stop buying, tell a person
	BadOrder    Trouble = "bad order"   // the order itself is wrong, an image that is gone: stop buying, tell a person
	BadOffer    Trouble = "bad offer"   // this type or location is gone or closed: take the next candidate
	Foreign     Trouble = "foreign"     // a server of that name is not ours: take another name
	Gone        Trouble = "gone"        // there is no such server
	Busy        Trouble = "busy"        // something is being done to it: the same again later
	NoBudget    Trouble = "no budget"   // the allowance of API calls is used up: wait
	Unreachable Trouble = "unreachable" // no answer, or the provider's own fault: it may be done or not
	Broken      Trouble = "broken"      // the provider made it and then failed: it is to be deleted
)

// ProviderError is a provider's refusal.
type ProviderError struct {
	Trouble Trouble
	Text    string        // a sentence for a person, without secrets
	Wait    time.Duration // how long the provider wants to be left alone; 0: it does not say
	Err     error
}

func (e *ProviderError) Error() string { return e.Text }
func (e *ProviderError) Unwrap() error { return e.Err }

// TroubleOf is the kind of a provider's refusal, Unreachable for what is none.
func TroubleOf(err error) Trouble {
	var p *ProviderError
	if errors.As(err, &p) {
		return p.Trouble
	}
	return Unreachable
}

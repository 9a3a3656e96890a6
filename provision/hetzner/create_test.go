package hetzner

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

func TestR1TheServerIsTheOrder(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		o := order(op1, 1)
		s, err := d.Create(d.Context(), o)
		if err != nil {
			d.Fatal(err)
		}
		made := d.one()
		if made.Name != o.Name || made.Type != o.Type || made.Location != o.Location || made.Image != o.Image || made.UserData != string(o.UserData) {
			d.Errorf("made %+v of the order %+v", made, o)
		}
		for name, want := range provision.Labels(testMesh, op1, time.Now().Add(24*time.Hour)) {
			if made.Labels[name] == "" || name != provision.LabelExpires && made.Labels[name] != want {
				d.Errorf("label %s = %q, want %q", name, made.Labels[name], want)
			}
		}
		if s.Name != o.Name || s.Status != "running" || s.Address != made.Address || !s.Created.Equal(made.Created) || s.Labels[provision.LabelOp] != op1 {
			d.Errorf("Create = %+v, made %+v", s, made)
		}
		again, err := d.Create(d.Context(), o)
		if err != nil || again.ID != s.ID {
			d.Errorf("Create again = %+v, %v", again, err)
		}
		d.one()
	})
}

// lost are the ways in which a server was made and nobody was told.
func lost() map[string]hetznertest.Fault {
	after := func(f hetznertest.Fault) hetznertest.Fault {
		f.On, f.Times, f.After = "POST /servers", 1, true
		return f
	}
	return map[string]hetznertest.Fault{
		"504 after it":         hetznertest.AnswerLost(),
		"an answer that hangs": hetznertest.AnswerHangs(),
		"a connection reset":   hetznertest.AnswerReset(),
		"half an answer":       hetznertest.AnswerGarbled(),
		"a proxy's 502":        after(hetznertest.BadGateway(1)),
		"a proxy's 404":        after(hetznertest.Fault{Status: 404}),
		"a proxy's page":       after(hetznertest.Fault{Status: 200}),
		"a redirect":           after(hetznertest.Fault{Status: 302}),
		"an empty object":      after(hetznertest.Fault{Status: 201, Body: "{}"}),
		"503":                  after(hetznertest.Down(0)),
		"an answer of 10 MB":   after(hetznertest.Fault{Status: 201, Body: `"` + strings.Repeat("x", 10<<20) + `"`}),
	}
}

func TestR2AdoptsWhatALostAnswerMade(t *testing.T) {
	t.Parallel()
	for name, fault := range lost() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{}.run(t, func(d *desk) {
				d.cloud.Break(fault)
				s := d.mustCreate()
				if made := d.one(); s.Name != made.Name || s.Status != "running" {
					d.Errorf("Create = %+v, made %+v", s, made)
				}
				if n := d.calls("POST /v1/servers"); n != 1 {
					d.Errorf("%d POSTs, want 1", n)
				}
			})
		})
	}
}

func TestR2AdoptsInSpiteOfListsThatLag(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.cloud.Lag(20 * time.Second)
		d.cloud.Break(hetznertest.AnswerLost())
		_, err := d.create()
		d.refused(err, provision.Unreachable)
		d.mustCreate() // is told that the name is taken, and looks until the list has it
		d.one()
		d.cloud.Lag(time.Hour)
		_, err = d.create()
		d.refused(err, provision.Unreachable, "does not show it")
		d.one()
	})
}

func TestR2LeavesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	ours := func(change func(l map[string]string)) map[string]string {
		l := provision.Labels(testMesh, op1, time.Now().Add(time.Hour))
		change(l)
		return l
	}
	for name, labels := range map[string]map[string]string{
		"a person's":        nil,
		"another op's":      ours(func(l map[string]string) { l[provision.LabelOp] = "01J0000000000000000000OP02" }),
		"another mesh's":    ours(func(l map[string]string) { l[provision.LabelMesh] = "other" }),
		"another role's":    ours(func(l map[string]string) { l[provision.LabelRole] = "core" }),
		"another program's": ours(func(l map[string]string) { l[provision.LabelManagedBy] = "terraform" }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{}.run(t, func(d *desk) {
				d.cloud.Put(order(op1, 1).Name, labels)
				s, err := d.create()
				d.refused(err, provision.Foreign, "left alone", "another name is taken")
				if s.ID != "" {
					d.Errorf("Create = %+v", s)
				}
				if made := d.one(); made.Status != "running" || len(made.Labels) != len(labels) {
					d.Errorf("the server is %+v now", made)
				}
				if _, err := d.Create(d.Context(), order(op1, 2)); err != nil {
					d.Errorf("under another name: %v", err)
				}
			})
		})
	}
}

// A name that is taken says nothing of who took it. Were it said to be foreign,
// the op would get a second server.
func TestR2ANameThatIsTakenIsForeignOnlyOnceSeen(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(d *desk) (context.Context, context.CancelFunc){
		"nobody answers": func(d *desk) (context.Context, context.CancelFunc) {
			d.cloud.Break(hetznertest.Fault{On: "GET /servers", Status: 503, Code: "service_error"})
			return context.WithCancel(d.Context())
		},
		"there is no time": func(d *desk) (context.Context, context.CancelFunc) {
			d.cloud.Lag(time.Hour)
			return context.WithTimeout(d.Context(), 5*time.Second)
		},
		"no call is left": func(d *desk) (context.Context, context.CancelFunc) {
			d.cloud.Break(hetznertest.Fault{On: "GET /servers", Status: 429, Code: "rate_limit_exceeded", RetryAfter: "3000"})
			return context.WithCancel(d.Context())
		},
		"the token is revoked": func(d *desk) (context.Context, context.CancelFunc) {
			d.cloud.Break(hetznertest.Fault{On: "GET /servers", Status: 401, Code: "unauthorized"})
			return context.WithCancel(d.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{}.run(t, func(d *desk) {
				first := d.mustCreate()
				ctx, cancel := spoil(d)
				defer cancel()
				began := time.Now()
				_, err := d.Create(ctx, order(op1, 1))
				d.refused(err, provision.Unreachable)
				if took := time.Since(began); took > time.Minute {
					d.Errorf("it took %s", took)
				}
				d.cloud.Heal()
				time.Sleep(time.Hour) // for the allowance
				if again := d.mustCreate(); again.ID != first.ID {
					d.Errorf("Create = %+v, want %+v", again, first)
				}
				d.one()
			})
		})
	}
}

// The keeper forgets a machine whose order was refused. So an order whose
// server may exist is never said to be refused.
func TestR2AnOpenOutcomeIsNotARefusal(t *testing.T) {
	t.Parallel()
	for name, no := range map[string]hetznertest.Fault{
		"denied":     {Status: 401, Code: "unauthorized", Message: "unable to authenticate"},
		"forbidden":  {Status: 403, Code: "forbidden", Message: "insufficient permissions"},
		"removed":    {Status: 410, Code: "deprecated_api_endpoint", Message: "gone"},
		"bad":        {Status: 422, Code: "invalid_input", Message: "invalid input"},
		"sold out":   {Status: 412, Code: "resource_unavailable", Message: "nothing left"},
		"over quota": {Status: 403, Code: "resource_limit_exceeded", Message: "no more"},
		"not found":  {Status: 404, Code: "not_found", Message: "not here"},
	} {
		for _, where := range []string{"GET /servers", "GET /actions", "GET /servers/*/actions", "GET /servers/*", "PUT /primary_ips/*"} {
			t.Run(name+" at "+where, func(t *testing.T) {
				t.Parallel()
				bench{}.run(t, func(d *desk) {
					if where == "GET /servers" || where == "GET /servers/*/actions" {
						d.cloud.Break(hetznertest.AnswerLost())
					}
					no.On = where
					d.cloud.Break(no)
					s, err := d.create()
					harmless := where == "GET /servers/*" || where == "PUT /primary_ips/*"
					switch trouble := provision.TroubleOf(err); {
					case harmless && err == nil, trouble == provision.Gone && name == "not found":
					case !harmless:
						d.refused(err, provision.Unreachable)
						if where != "GET /servers" && s.ID == "" {
							d.Error("the server is not named")
						}
					default:
						d.Errorf("Create = %v", err)
					}
					d.cloud.Heal()
					d.mustCreate()
					d.one()
				})
			})
		}
	}
}

func TestR2OneThatIsBeingDeletedIsNotAdopted(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		s := d.mustCreate()
		if err := d.Delete(d.Context(), s.ID); err != nil {
			d.Fatal(err)
		}
		_, err := d.create()
		d.refused(err, provision.Busy, "is being deleted", "asks for it again")
		time.Sleep(5 * time.Second)
		if again := d.mustCreate(); again.ID == s.ID {
			d.Error("the deleted server was adopted")
		}
	})
}

// Two leaders, one of which does not know yet that it is none, make one server.
func TestR3TwoAtOnceMakeOne(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		other := d.newClient(Config{})
		d.cloud.Break(hetznertest.Fault{On: "POST /servers", Delay: 5 * time.Second})
		ids := make(chan string)
		for _, c := range []*Client{d.Client, other, d.Client} {
			go func() {
				s, err := c.Create(d.Context(), order(op1, 1))
				if err != nil {
					d.Error(err)
				}
				ids <- s.ID
			}()
		}
		if a, b, c := <-ids, <-ids, <-ids; a != b || b != c {
			d.Errorf("servers %s, %s and %s", a, b, c)
		}
		d.one()
	})
}

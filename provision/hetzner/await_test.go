package hetzner

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
	"github.com/samnode/samnode/provision/hetzner/hetznertest"
)

func TestR8AwaitsEveryAction(t *testing.T) {
	t.Parallel()
	slow := hetznertest.Config{CreateTime: 40 * time.Second, StartTime: time.Minute}
	for name, spoil := range map[string]func(*hetznertest.Cloud){
		"all goes well":       func(*hetznertest.Cloud) {},
		"the answer was lost": func(c *hetznertest.Cloud) { c.Break(hetznertest.AnswerLost()) },
		"polls fail": func(c *hetznertest.Cloud) {
			c.Break(hetznertest.Fault{On: "GET /actions", Times: 3, Status: 503, Code: "service_error"})
			c.Break(hetznertest.Fault{On: "GET /actions", Times: 1, Status: 502})
			c.Break(hetznertest.Fault{On: "GET /actions", Times: 1, Status: 200, Body: "{"})
			c.Break(hetznertest.Fault{On: "GET /actions", Times: 1, Reset: true})
			c.Break(hetznertest.Fault{On: "GET /actions", Times: 1, Status: 429, Code: "rate_limit_exceeded", RetryAfter: "20"})
		},
		"a poll shows nothing": func(c *hetznertest.Cloud) {
			c.Break(hetznertest.Fault{On: "GET /actions", Times: 4, Status: 200, Body: `{"actions":[]}`})
		},
		"the server cannot be read afterwards": func(c *hetznertest.Cloud) {
			c.Break(hetznertest.Fault{On: "GET /servers/*", Status: 500, Code: "server_error"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{cloud: slow}.run(t, func(d *desk) {
				spoil(d.cloud)
				began := time.Now()
				s := d.mustCreate()
				if took := time.Since(began); took < 100*time.Second || took > 3*time.Minute {
					d.Errorf("it returned after %s", took)
				}
				if made := d.one(); made.Status != "running" || s.ID != strconv.FormatInt(made.ID, 10) {
					d.Errorf("Create = %+v, made %+v", s, made)
				}
			})
		})
	}
}

func TestR8AFailedActionIsBroken(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"create_server", "start_server"} {
		for name, spoil := range map[string]func(*hetznertest.Cloud){
			"told":        func(*hetznertest.Cloud) {},
			"answer lost": func(c *hetznertest.Cloud) { c.Break(hetznertest.AnswerLost()) },
			"answer hung": func(c *hetznertest.Cloud) { c.Break(hetznertest.AnswerHangs()) },
		} {
			t.Run(command+", "+name, func(t *testing.T) {
				t.Parallel()
				bench{}.run(t, func(d *desk) {
					spoil(d.cloud)
					d.cloud.FailAction(hetznertest.Failure{Command: command, Code: "internal_error", Message: "the host caught fire", Times: 1})
					s, err := d.create()
					d.refused(err, provision.Broken, "could not finish it", "caught fire", "it is deleted")
					if made := d.one(); s.ID != strconv.FormatInt(made.ID, 10) {
						d.Fatalf("Create names server %q, made %d", s.ID, made.ID)
					}
					if _, err := d.create(); provision.TroubleOf(err) != provision.Broken {
						d.Errorf("Create again = %v", err)
					}
					if err := d.Delete(d.Context(), s.ID); err != nil {
						d.Error(err)
					}
					time.Sleep(time.Minute)
					if left := d.cloud.Alive(); len(left) != 0 {
						d.Errorf("left: %+v", left)
					}
				})
			})
		}
	}
}

func TestR8AWaitHasAnEnd(t *testing.T) {
	t.Parallel()
	bench{cloud: hetznertest.Config{CreateTime: time.Hour}, client: Config{ActionWait: 2 * time.Minute}}.run(t, func(d *desk) {
		began := time.Now()
		s, err := d.create()
		d.refused(err, provision.Unreachable, "took too long", "looks again later")
		if took := time.Since(began); took > 3*time.Minute || s.ID == "" {
			d.Errorf("it gave up after %s, with server %q", took, s.ID)
		}
		time.Sleep(time.Hour)
		if again := d.mustCreate(); again.ID != s.ID {
			d.Errorf("Create = %+v", again)
		}
		d.one()
	})
}

// It ends with its context at once, whatever it waits for.
func TestCreateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	gone := errors.New("the leadership was lost")
	for name, spoil := range map[string]func(d *desk){
		"an answer": func(d *desk) { d.cloud.Break(hetznertest.CreateHangs()) },
		"an action": func(*desk) {},
		"a look":    func(d *desk) { d.cloud.Lag(time.Hour); d.cloud.Break(hetznertest.AnswerLost()) },
		"a slot": func(d *desk) {
			for range MaxCreates {
				d.slots <- struct{}{}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{cloud: hetznertest.Config{CreateTime: time.Hour}}.run(t, func(d *desk) {
				spoil(d)
				ctx, cancel := context.WithCancelCause(d.Context())
				time.AfterFunc(2*time.Second, func() { cancel(gone) })
				began := time.Now()
				_, err := d.Create(ctx, order(op1, 1))
				d.refused(err, provision.Unreachable)
				if took := time.Since(began); took > 2*time.Second {
					d.Errorf("it ended %s after its context", took-2*time.Second)
				}
			})
		})
	}
}

func TestR18ACallMayTakeAMinute(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		d.cloud.Break(hetznertest.Fault{On: "POST /servers", Times: 1, Delay: 59 * time.Second})
		d.mustCreate()
		if n := d.calls("POST /v1/servers"); n != 1 {
			d.Errorf("%d POSTs, want 1", n)
		}
		d.one()
		began := time.Now()
		d.cloud.Break(hetznertest.Fault{On: "GET /servers/*", Hang: true})
		_, err := d.Server(d.Context(), "1")
		d.refused(err, provision.Unreachable, "did not answer in time")
		if took := time.Since(began); took != MinTimeout {
			d.Errorf("a call that hangs took %s, want %s", took, MinTimeout)
		}
	})
}

func TestR18NothingIsRepeatedUnseen(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]hetznertest.Fault{
		"504 timeout": {Status: 504, Code: "timeout"}, "502": {Status: 502}, "502 in JSON": {Status: 502, Code: "bad_gateway"},
		"conflict": {Status: 409, Code: "conflict"}, "429": {Status: 429, Code: "rate_limit_exceeded"}, "503": {Status: 503, Code: "service_error"},
		"locked": {Status: 423, Code: "locked"}, "hang": {Hang: true}, "reset": {Reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bench{}.run(t, func(d *desk) {
				for _, f.On = range []string{"POST /servers", "DELETE /servers/*"} {
					d.cloud.Break(f)
				}
				if _, err := d.create(); err == nil {
					d.Error("Create = nil")
				}
				time.Sleep(time.Minute)
				_ = d.Delete(d.Context(), "7") // nil where a look shows that there is none
				if posts, deletes := d.calls("POST /v1/servers"), d.calls("DELETE /v1/servers/7"); posts != 1 || deletes != 1 {
					d.Errorf("%d POSTs and %d DELETEs, want one of each", posts, deletes)
				}
			})
		})
	}
}

func TestR18ThreeAreMadeAtATime(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if _, err := d.Create(d.Context(), order("01J000000000000000000000"+strconv.Itoa(10+i), 1)); err != nil {
					d.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(d.cloud.Alive()); n != 8 {
			d.Errorf("%d servers, want 8", n)
		}
		if n := d.cloud.Peak(); n != MaxCreates {
			d.Errorf("%d servers were made at a time, want %d", n, MaxCreates)
		}
	})
}

func TestR25HasAnIPv4Address(t *testing.T) {
	t.Parallel()
	bench{}.run(t, func(d *desk) {
		if s := d.mustCreate(); s.Address == "" || s.Address != d.one().Address {
			d.Errorf("address = %q, want the IPv4 address %q", s.Address, d.one().Address)
		}
		if all, _ := d.cloud.Addresses(); all != 2 {
			d.Errorf("%d addresses, want one of each kind", all)
		}
	})
}

func TestR26KeysAreFoundAndNeverMade(t *testing.T) {
	t.Parallel()
	const print = "b7:2f:30:a0:2f:6c:58:6c:21:04:58:61:ba:06:3b:2f"
	bench{client: Config{SSHKey: print}}.run(t, func(d *desk) {
		_, err := d.create()
		d.refused(err, provision.BadOrder, "has no SSH key with the fingerprint", "add it")
		d.cloud.AddSSHKey("people", print)
		for i := range 3 {
			if _, err := d.Create(d.Context(), order("01J000000000000000000000"+strconv.Itoa(10+i), 1)); err != nil {
				d.Error(err)
			}
		}
		if n := d.calls("GET /v1/ssh_keys"); n != 2 {
			d.Errorf("the key was looked for %d times, want twice", n)
		}
		// Somebody made it anew: the next order looks again.
		d.cloud.Break(hetznertest.Fault{On: "POST /servers", Times: 1, Status: 422, Code: "invalid_input", Message: "invalid input in field 'ssh_keys'"})
		_, err = d.create()
		d.refused(err, provision.BadOrder, "SSH key", "add it to the project")
		d.mustCreate()
		if n := d.calls("GET /v1/ssh_keys"); n != 3 {
			d.Errorf("the key was looked for %d times, want three times", n)
		}
		for _, c := range d.cloud.Calls() {
			if c.Method != "GET" && c.Path == "/v1/ssh_keys" {
				d.Errorf("call %+v", c)
			}
		}
	})
}

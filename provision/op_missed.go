package provision

import (
	"fmt"
	"slices"
	"time"
)

// stall is how long the provider is left alone after so many calls in a row
// that did not bring what they were to bring.
func stall(times int) time.Duration { return min(5*time.Second<<min(times, 10), 2*time.Minute) }

func (a *applier) missed(d Missed) error {
	m, err := a.machineAt(d.Machine, d.Token)
	if err != nil {
		return err
	}
	if m.State != Creating {
		return refuse(CodeRefused, "Machine %s is %s: nobody waits for the provider's answer.", m.Node, m.State)
	}
	if err := checkText(d.Server); err != nil {
		return err
	}
	d.Text = short(d.Text, maxReason)
	o, _ := a.Op(m.Bought.Op)
	o.Tried = slices.Clone(o.Tried)
	o.Tried[len(o.Tried)-1].Trouble = d.Trouble
	o.Text = d.Text
	a.log(&o, fmt.Sprintf("%s at %s: %s", m.Bought.Type, m.Bought.Location, d.Text))
	a.putOp(o)
	switch d.Trouble {
	case SoldOut:
		a.other(m, o, soldOutFor)
	case BadOffer:
		a.other(m, o, badOfferFor)
	case NoQuota:
		a.trip(NoQuota, d.Text, d.Wait, quotaPause, quotaMost)
		a.again(m, o, d.Wait)
	case Denied, BadOrder:
		a.trip(d.Trouble, d.Text, 0, 0, 0)
		a.giveUp(m, o, d.Text)
	case Foreign:
		m.Bought.Calls = 0 // the name is another's: there is none of ours
		a.failed(m, d.Text)
	case NoBudget, Busy, NoKey:
		a.again(m, o, d.Wait)
	case Broken:
		m.Bought.Server = d.Server
		a.failed(m, d.Text)
	default: // Unreachable, and whatever else leaves it open
		a.unknown(m, o, d.Wait)
	}
	return nil
}

// again has a machine wanted as before: this call made none.
func (a *applier) again(m Machine, o Op, wait time.Duration) {
	m.Bought.Calls-- // an earlier one may have: the name is the same, so that the next call finds it
	o.Stalls++
	o.Next = a.now.Add(max(wait, stall(o.Stalls-1)))
	a.putOp(o)
	a.step(m, Wanted)
}

// other has the next choice tried at once.
func (a *applier) other(m Machine, o Op, lasts time.Duration) {
	a.lacks(m.Bought.Type, m.Bought.Location, o.Tried[len(o.Tried)-1].Trouble, lasts)
	m.Bought.Calls--
	o.Stalls, o.Next = 0, time.Time{}
	a.putOp(o)
	a.step(m, Wanted)
}

// unknown leaves a machine as one that may exist: the same call is made again
// after a while.
func (a *applier) unknown(m Machine, o Op, wait time.Duration) {
	o.Stalls++
	o.Next = a.now.Add(max(wait, stall(o.Stalls-1)))
	a.putOp(o)
	a.step(m, Creating)
}

// giveUp ends a purchase that another attempt would not help.
func (a *applier) giveUp(m Machine, o Op, why string) {
	m.Bought.Calls--
	a.end(o, OpFailed, why)
	a.failed(m, why)
}

func (a *applier) fail(f Fail) error {
	m, err := a.machineAt(f.Machine, f.Token)
	if err != nil {
		return err
	}
	switch m.State {
	case Creating, Booting, Ready, Draining:
		a.failed(m, f.Reason)
		return nil
	default:
		return refuse(CodeRefused, "Machine %s is %s already.", m.Node, m.State)
	}
}

// failed makes a machine one that is to be deleted. One that the provider
// cannot have is gone at once.
func (a *applier) failed(m Machine, why string) {
	if m.State == Failed || m.State == Deleting {
		return
	}
	why = short(why, maxReason)
	a.logTo(m.Bought.Op, "Machine "+m.Node+" has failed: "+why)
	if m.Bought.Delete != "" {
		a.logTo(m.Bought.Delete, "The machine has failed: "+why)
	}
	m.Bought.Why, m.Bought.Deadline = why, time.Time{}
	if !m.Bought.exists() {
		a.gone(m, why)
		return
	}
	a.step(m, Failed)
}

// gone forgets a machine of which the provider has no server, and goes on with
// the purchase that it was for.
func (a *applier) gone(m Machine, why string) {
	a.settle(m)
	a.drop(m)
	a.endOp(m.Bought.Delete, OpDone, "The provider has no such server any more.")
	o, is := a.Op(m.Bought.Op)
	switch {
	case !is:
		return
	case o.State != OpOpen:
		a.log(&o, "Machine "+m.Node+" is gone: "+why)
		a.putOp(o)
		return
	}
	attempts := MaxAttempts
	if a.Breaker.Trouble == Broken {
		attempts = 1 // it is the one that shows whether machines come up again
	}
	if o.Attempt >= attempts {
		times := "one attempt"
		if o.Attempt > 1 {
			times = fmt.Sprintf("%d attempts", o.Attempt)
		}
		a.trip(Broken, fmt.Sprintf("A machine did not come up in %s. %s", times, why), 0, failPause, failMost)
		a.end(o, OpFailed, why)
		return
	}
	o.Text, o.Stalls, o.Next = "", 0, time.Time{}
	a.log(&o, "Another one is tried.")
	a.want(o, m)
}

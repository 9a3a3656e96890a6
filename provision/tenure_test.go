package provision

import (
	"testing"
	"testing/synctest"
	"time"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// expect checks all that a tenure says of itself.
func expect(t *testing.T, tenure *Tenure, err string) {
	t.Helper()
	got := ""
	if e := tenure.Err(); e != nil {
		got = e.Error()
	}
	if got != err {
		t.Errorf("Err() = %q, want %q", got, err)
	}
	if lost, held := isClosed(tenure.Lost()), isClosed(tenure.Held()); lost != (err != "") || held != (err == "") {
		t.Errorf("lost %t, held %t, with %q", lost, held, err)
	}
}

func TestTenure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenure := NewTenure(30 * time.Second)
		expect(t, tenure, "this node has not reached the mesh yet: it has no leases")
		held := tenure.Held()
		sent := time.Now()
		time.Sleep(4 * time.Second) // the way there and back
		tenure.Renewed(sent)
		expect(t, tenure, "")
		if !isClosed(held) {
			t.Error("who waited for the tenure was not told")
		}
		time.Sleep(20 * time.Second)
		tenure.Renewed(time.Now().Add(-time.Second))
		tenure.Renewed(sent) // an answer that comes late takes nothing away
		lost := tenure.Lost()
		time.Sleep(29*time.Second - 1)
		synctest.Wait()
		expect(t, tenure, "")
		time.Sleep(1)
		synctest.Wait()
		if !isClosed(lost) {
			t.Error("who holds a lease was not told that it ran out")
		}
		expect(t, tenure, "this node has not reached the mesh for 30 s: its leases may be another's now")
		time.Sleep(time.Minute)
		tenure.Renewed(time.Now().Add(-31 * time.Second)) // acknowledged too late
		expect(t, tenure, "this node has not reached the mesh for 31 s: its leases may be another's now")
		tenure.Renewed(time.Now())
		expect(t, tenure, "")
		if !isClosed(lost) {
			t.Error("a lost tenure is held again in the eyes of who lost it")
		}
	})
}

// TestTenureAsleep lets a laptop sleep: its monotonic clock and its timers
// stand still, its wall clock goes on.
func TestTenureAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenure := NewTenure(0)
		var asleep time.Duration
		tenure.wall = func() time.Time { return time.Now().Add(asleep) }
		tenure.Renewed(time.Now())
		time.Sleep(5 * time.Second)
		lost := tenure.Lost()
		tenure.mu.Lock()
		asleep = time.Hour
		tenure.mu.Unlock()
		time.Sleep(wake)
		synctest.Wait()
		if !isClosed(lost) {
			t.Error("a second after it woke the laptop still holds its leases")
		}
		expect(t, tenure, "this node has not reached the mesh for 3606 s: its leases may be another's now")
	})
	synctest.Test(t, func(t *testing.T) {
		tenure := NewTenure(0)
		var asleep time.Duration
		tenure.wall = func() time.Time { return time.Now().Add(asleep) }
		tenure.Renewed(time.Now())
		asleep = time.Hour // and it is asked before any timer
		expect(t, tenure, "this node has not reached the mesh for 3600 s: its leases may be another's now")
	})
}

// TestTenureClockSetBack sets the wall clock back: the other clock counts on.
func TestTenureClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenure := NewTenure(0)
		tenure.wall = func() time.Time { return time.Now().Add(-24 * time.Hour) }
		tenure.Renewed(time.Now())
		time.Sleep(DefaultLeaseFor - 1)
		expect(t, tenure, "")
		time.Sleep(1)
		synctest.Wait()
		expect(t, tenure, "this node has not reached the mesh for 30 s: its leases may be another's now")
	})
}

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/provision"
)

// The pace of a run.
const (
	beatEvery = 30 * time.Second
	leaseFor  = 2 * time.Minute
	lookEvery = 20 * time.Second
	longest   = 36 * time.Hour
)

// flaws are ways in which an implementation could be broken; the checks must
// see each.
type flaws struct {
	renames bool // a name is not a function of the op
	blind   bool // the reaper sees nothing
	hasty   bool // what is not listed is gone
	greedy  bool // whether a machine is idle is not looked at again
	double  bool // each purchase is begun twice
}

// world is one run: a provider, the log, leaders one after the other, machines
// and tasks.
type world struct {
	t     testing.TB
	plan  *plan
	flaws flaws
	ctx   context.Context
	goes  sync.WaitGroup
	began time.Time

	mu      sync.Mutex // protects all below
	state   *provision.State
	index   uint64
	stamp   time.Time
	skew    time.Duration // of the leaders' clocks
	ids     int
	cloud   *cloud
	streams map[string]*rand.Rand
	points  map[string]int // how often each was passed
	killed  bool           // killAt has happened
	mended  bool           // a person gave another token
	done    map[string]bool
	waits   map[string]time.Time // since when a task waits
	run     map[string]string    // who works on a task: a server's id
	tally   tally
	bad     []string
	lines   []string
}

func newWorld(t testing.TB, p *plan, f flaws, ctx context.Context) *world {
	w := &world{
		t: t, plan: p, flaws: f, ctx: ctx, began: time.Now(), state: provision.NewState(), streams: map[string]*rand.Rand{},
		points: map[string]int{}, done: map[string]bool{}, waits: map[string]time.Time{}, run: map[string]string{}, tally: newTally(),
	}
	w.cloud = &cloud{w: w, making: map[*reign]int{}}
	return w
}

// runPlan plays a plan in a bubble.
func runPlan(t testing.TB, p *plan, f flaws) (w *world) {
	t.Helper()
	bubble := func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		w = newWorld(t, p, f, ctx)
		w.play()
		cancel()
		w.goes.Wait()
	}
	synctest.Test(t.(*testing.T), bubble)
	return w
}

// dice is the randomness of one kind of thing: others do not change it.
func (w *world) dice(kind string) *rand.Rand {
	r := w.streams[kind]
	if r == nil {
		h := fnv.New64a()
		h.Write([]byte(kind))
		r = rand.New(rand.NewPCG(w.plan.seed, h.Sum64()))
		w.streams[kind] = r
	}
	return r
}

// hits tells whether a fault happens now. The lock is held.
func (w *world) hits(fault string, p float64) bool {
	if p == 0 || time.Since(w.began) > w.plan.reach || w.dice(fault).Float64() >= p {
		return false
	}
	w.tally.faults[fault]++
	return true
}

func (w *world) betweenLocked(kind string, least, most time.Duration) time.Duration {
	return least + time.Duration(w.dice(kind).Int64N(int64(most-least)+1))
}

func (w *world) between(kind string, least, most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.betweenLocked(kind, least, most)
}

// sleep waits, or until the run is over.
func (w *world) sleep(d time.Duration) bool { return sleep(w.ctx, d) }

func (w *world) say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf("%8s  ", time.Since(w.began).Round(time.Second))+fmt.Sprintf(format, args...))
}

// broken notes what must not be. The lock is held.
func (w *world) broken(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.bad = append(w.bad, text)
	w.say("VIOLATION: %s", text)
}

// now is the leaders' clock.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.skew)
}

// commit is the log: an entry is applied at once, stamped as the real one does.
func (w *world) commit(c provision.Command) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	w.stamp = later(time.Now().Add(w.skew), w.stamp.Add(time.Nanosecond))
	c.Version = provision.Version
	c.ID = fmt.Sprint("c", w.index)
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := w.state.Apply(w.index, w.stamp, data); err != nil {
		w.broken("applying %s: %v", data, err)
		return err
	}
	out, _ := w.state.Outcome(c.ID)
	if c.Beats == nil && !(c.Try != nil && out.Err() != nil) {
		w.say("%s -> %v", data, out.Err())
	}
	w.checkPool(c, out.Err())
	return out.Err()
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (w *world) id() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return fmt.Sprintf("OP%010d", w.ids)
}

// play runs everything until all tasks are done and all machines are gone.
func (w *world) play() {
	w.strangers()
	for _, c := range []provision.Command{
		{Found: &provision.Found{Mesh: "mesh1", Node: provision.Node{Name: "core", Addr: "core"}}},
		{Set: &provision.Set{Policy: w.plan.policy}},
	} {
		if err := w.commit(c); err != nil {
			w.t.Fatal(err)
		}
	}
	end, stop := context.WithCancel(w.ctx)
	var loops sync.WaitGroup
	loops.Go(func() { w.reigns(end) })
	loops.Go(func() { w.person(end) })
	loops.Go(func() { w.happen(end) })
	w.arrive()
	for time.Since(w.began) < longest && !w.over() {
		if !w.sleep(time.Minute) {
			break
		}
	}
	stop()
	loops.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkEnd()
}

// over tells whether there is nothing left to wait for. What is nobody's needs
// some time to be found.
func (w *world) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, _ := w.state.Pool()
	for _, j := range w.plan.jobs {
		if !w.done[j.task] {
			return false
		}
	}
	bought := slices.ContainsFunc(p.Machines, provision.Machine.IsBought)
	return !bought && len(w.orphans(p)) == 0 && time.Since(w.began) > w.plan.reach
}

// arrive has the tasks come.
func (w *world) arrive() {
	for _, j := range w.plan.jobs {
		w.goes.Go(func() {
			if w.sleep(j.at) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.waits[j.task] = time.Now()
				w.say("task %s comes", j.task)
			}
		})
	}
}

// waiting are the tasks that have no slot, in the order in which they came.
func (w *world) waiting() []provision.Waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, _ := w.state.Pool()
	var list []provision.Waiting
	for _, j := range w.plan.jobs {
		_, came := w.waits[j.task]
		if _, leased := p.Lease(j.task); came && !leased && !w.done[j.task] {
			list = append(list, provision.Waiting{Task: j.task, Need: j.need, Owner: j.owner})
		}
	}
	return list
}

// strangers are servers that nobody must touch, and one of ours that nobody
// knows: a leader of long ago left it.
func (w *world) strangers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	long := time.Now().Add(-48 * time.Hour)
	ours := provision.Labels("mesh1", "OPX", long)
	role, mesh := provision.Labels("mesh1", "OPX", long), provision.Labels("mesh2", "OPX", long)
	role[provision.LabelRole] = "core"
	for name, labels := range map[string]map[string]string{"database": nil, "samnode-core": role, "samnode-other": mesh} {
		w.cloud.add(provision.Server{Name: name, Created: long, Labels: labels, Status: "running"}).stranger = true
	}
	for _, name := range append([]string{"samnode-left"}, w.plan.strays...) {
		w.cloud.add(provision.Server{Name: name, Created: long, Labels: ours, Status: "running"}).before = true
	}
}

// happen has clocks jump, and servers deleted by hand.
func (w *world) happen(ctx context.Context) {
	var loops sync.WaitGroup
	for _, j := range w.plan.jumps {
		loops.Go(func() {
			if sleep(ctx, j.at) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.skew += j.by
				w.tally.faults["clock jumps"]++
				w.say("the leaders' clock jumps by %s", j.by)
			}
		})
	}
	for _, at := range w.plan.hand {
		loops.Go(func() {
			if sleep(ctx, at) {
				w.deleteByHand()
			}
		})
	}
	loops.Wait()
}

func (w *world) deleteByHand() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, b := range w.cloud.servers {
		if !b.stranger && b.goneAt.IsZero() && b.there(now) {
			w.say("somebody deletes server %s (%s)", b.ID, b.Name)
			w.tally.faults["deleted by hand"]++
			b.byHand = true
			w.cloud.end(b, now.Add(5*time.Second))
			return
		}
	}
}

// person mends what only a person can, some time after it broke.
func (w *world) person(ctx context.Context) {
	for sleep(ctx, 5*time.Minute) {
		p, _ := w.state.Pool()
		if b := p.Breaker; b.Reason == "" || !b.Until.IsZero() {
			continue
		}
		if !sleep(ctx, 10*time.Minute) {
			return
		}
		w.mu.Lock()
		w.mended = true
		w.mu.Unlock()
		if err := w.commit(provision.Command{Resume: &provision.Resume{}}); err != nil {
			w.t.Error(err)
		}
	}
}

// story is what happened, violations first.
func (w *world) story() string {
	return strings.Join(w.bad, "\n") + "\n\n" + strings.Join(w.lines, "\n")
}

var errDead = errors.New("this process is dead")

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

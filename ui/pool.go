package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

func (s *Server) pool(w http.ResponseWriter, r *http.Request) error {
	return s.showPool(w, r, http.StatusOK, nil)
}

func (s *Server) poolFrame(r *http.Request, title string) frame {
	f := s.frame(r, title)
	f.Nav, f.Extra = "pool", []string{s.assets.url("nodes.css"), s.assets.url("pool.css")}
	return f
}

// showPool renders the page of the pool; after a refusal fill puts the reason
// in its place, and back what was typed.
func (s *Server) showPool(w http.ResponseWriter, r *http.Request, status int, fill func(*frame, *poolView, api.PoolInfo)) error {
	p, err := s.readPool(r.Context())
	if err != nil {
		return err
	}
	f := s.poolFrame(r, "Pool")
	v := s.poolView(p, s.around(r.Context()), callerOf(r).may(Owner))
	if fill != nil {
		fill(&f, &v, p)
	}
	render(w, r, status, poolPage(f, v))
	return nil
}

func (s *Server) readPool(ctx context.Context) (api.PoolInfo, error) {
	if s.Pool == nil {
		return api.PoolInfo{}, errNoPart
	}
	p, err := s.Pool.Pool(ctx)
	if err != nil {
		return p, fmt.Errorf("reading the pool: %w", err)
	}
	return p, nil
}

// pooled ends a change of the pool: a refusal shows the page with the reason.
func (s *Server) pooled(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		return s.did(w, r, "/pool")
	}
	if scripted(r) {
		return err
	}
	p := s.problem(r, err)
	return s.showPool(w, r, p.Status, func(f *frame, _ *poolView, _ api.PoolInfo) { f.Alert = &p })
}

// keptFor is how long an owner's press keeps a machine.
const keptFor = 4 * time.Hour

func (s *Server) machineKeep(w http.ResponseWriter, r *http.Request) error {
	p, err := s.readPool(r.Context())
	if err != nil {
		return err
	}
	var until time.Time // the zero one takes it back
	if r.PostFormValue("on") != "" {
		until = p.At.Add(keptFor).UTC().Truncate(time.Second)
	}
	return s.pooled(w, r, s.Pool.KeepMachine(r.Context(), callerOf(r).author(), r.PathValue("machine"), until))
}

func (s *Server) poolResume(w http.ResponseWriter, r *http.Request) error {
	if s.Pool == nil {
		return errNoPart
	}
	return s.pooled(w, r, s.Pool.ResumeBuying(r.Context(), callerOf(r).author()))
}

// poolStop is the brake: buy nothing until somebody lifts that.
func (s *Server) poolStop(w http.ResponseWriter, r *http.Request) error {
	p, err := s.readPool(r.Context())
	if err != nil {
		return err
	}
	set := p.Settings
	set.Stopped = true
	return s.pooled(w, r, s.Pool.SetPool(r.Context(), callerOf(r).author(), set))
}

func (s *Server) poolBuy(w http.ResponseWriter, r *http.Request) error {
	p, err := s.readPool(r.Context())
	if err != nil {
		return err
	}
	get := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	form := buyForm{CPUs: get("cpus"), Memory: get("memory"), Location: get("location")}
	form.ID = derive(formID(r), form.CPUs, form.Memory, form.Location)
	need, err := readNeed(form)
	if err == nil && p.Stopped != "" { // it would wait, and be bought when nobody thinks of it any more
		err = fmt.Errorf("%w: %s", chat.ErrRefused, visible(p.Stopped))
	}
	if err == nil {
		_, err = s.Pool.Buy(r.Context(), callerOf(r).author(), need)
	}
	switch {
	case err == nil:
		return s.did(w, r, "/pool#machines")
	case scripted(r):
		return err
	}
	problem := s.problem(r, err)
	return s.showPool(w, r, problem.Status, func(_ *frame, v *poolView, _ api.PoolInfo) {
		v.Buy.Alert, v.Buy.CPUs, v.Buy.Memory, v.Buy.Location = &problem, form.CPUs, form.Memory, form.Location
	})
}

// poolSet saves the settings, or only shows what they would cost.
func (s *Server) poolSet(w http.ResponseWriter, r *http.Request) error {
	p, err := s.readPool(r.Context())
	if err != nil {
		return err
	}
	trial := r.PostFormValue("try") != "" // also parses the form
	form, set := readPoolForm(r.PostForm)
	err = form.check()
	switch {
	case err != nil || trial:
	case form.Seen != seenOf(p.Settings):
		form.Seen = seenOf(p.Settings)
		err = fmt.Errorf("%w: somebody has changed the settings since this page was made. Look at them below, and save once more if yours are to hold", chat.ErrRefused)
	default:
		err = s.Pool.SetPool(r.Context(), callerOf(r).author(), set)
	}
	switch {
	case err == nil && !trial:
		return s.did(w, r, "/pool#settings")
	case err != nil && scripted(r):
		return err
	}
	status := http.StatusOK
	if err != nil {
		problem := s.problem(r, err)
		form.Alert, status = &problem, problem.Status
	}
	form.Trial = err == nil
	return s.showPool(w, r, status, func(_ *frame, v *poolView, p api.PoolInfo) {
		form.Costs = costsOf(set, p)
		v.Set = form
	})
}

func (s *Server) machineDeleteForm(w http.ResponseWriter, r *http.Request) error {
	return s.showDisposal(w, r, nil)
}

func (s *Server) showDisposal(w http.ResponseWriter, r *http.Request, alert *problem) error {
	p, err := s.readPool(r.Context())
	if err != nil {
		return err
	}
	name := r.PathValue("machine")
	i := slices.IndexFunc(p.Machines, func(m api.PoolMachine) bool { return m.Name == name })
	switch {
	case i < 0:
		return fmt.Errorf("%w: there is no machine %.60q in the pool", chat.ErrNotFound, name)
	case !p.Machines[i].Bought:
		return fmt.Errorf("%w: machine %s was not bought: remove its node from the mesh instead, on the page of the nodes", chat.ErrRefused, visible(name))
	}
	m := p.Machines[i]
	f := s.poolFrame(r, "Delete "+line(name, 63))
	f.Alert = alert
	v := removal{Verb: "Delete", Name: line(name, 63), Back: "/pool", Effects: disposalEffects(m, p)}
	for _, l := range m.Tasks {
		v.Tasks = append(v.Tasks, *s.taskLink(string(l.Task)))
	}
	render(w, r, alert.status(), removalPage(f, v))
	return nil
}

// disposalEffects are the sentences of what happens when a machine is deleted.
func disposalEffects(m api.PoolMachine, p api.PoolInfo) []string {
	if m.Leaves || m.State == deleting || m.State == failing {
		return []string{"It is on its way out already."}
	}
	what := "Its server"
	if m.Type != "" {
		what += ", " + line(m.Type, 40) + " at " + line(m.Location, 40) + ","
	}
	var out []string
	switch {
	case m.State == wanted:
		return []string{"Nothing was ordered for it yet: the purchase is withdrawn, and costs nothing.", "A task that waits for it may have another one bought."}
	case m.State == creating || m.State == booting:
		out = append(out, what+" is deleted at the provider as soon as it is known, and the purchase ends.")
	case len(m.Tasks) > 0:
		out = append(out, "It gets no new tasks. Those below go on until they give their slots back; then "+strings.ToLower(what[:1])+what[1:]+" is deleted at the provider.")
	default:
		out = append(out, what+" is deleted at the provider now, with its disk. Branches are safe: every turn pushes its own.")
	}
	if m.PaidUntil.After(p.At) {
		out = append(out, "It is paid until "+newMoment(m.PaidUntil, p.At).Text+": nothing comes back for the rest of that hour.")
	}
	return append(out, "Its node leaves the mesh. The next task that finds no free slot may have another machine bought.")
}

func (s *Server) machineDelete(w http.ResponseWriter, r *http.Request) error {
	if s.Pool == nil {
		return errNoPart
	}
	name := r.PathValue("machine")
	err := s.Pool.DeleteMachine(r.Context(), callerOf(r).author(), name)
	if err != nil && s.goes(r.Context(), name, err) { // the same form a second time
		err = nil
	}
	if err == nil {
		return s.did(w, r, "/pool")
	}
	if scripted(r) {
		return err
	}
	p := s.problem(r, err)
	return s.showDisposal(w, r, &p)
}

// goes tells whether a machine that could not be deleted is, because somebody
// was faster.
func (s *Server) goes(ctx context.Context, name string, refusal error) bool {
	if errors.Is(refusal, chat.ErrNotFound) {
		return true
	}
	p, err := s.readPool(ctx)
	return err == nil && errors.Is(refusal, chat.ErrRefused) &&
		slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Name == name && m.Leaves })
}

// poolEvents streams what changed of the pool. The forms are left alone:
// somebody may be typing.
func (s *Server) poolEvents(w http.ResponseWriter, r *http.Request) error {
	if s.Pool == nil {
		return errNoPart
	}
	may, machines, ops := callerOf(r).may(Owner), cardList{}, cardList{}
	type found struct {
		pool   api.PoolInfo
		around around
	}
	l := looks[found]{life: r.Context(), see: func(ctx context.Context) (f found, err error) {
		f.pool, err = s.readPool(ctx)
		f.around = s.around(ctx)
		return f, err
	}}
	l.show = func(ctx context.Context, e *events, f found) ([]string, error) {
		v := s.poolView(f.pool, f.around, may)
		out, err := e.render(ctx, region{"pool-sum", poolSummaryView(v)}, region{"brake", brakeView(v)}, region{"pool-notes", poolNotes(v)},
			region{"figures", poolFiguresView(v)}, region{"choices", choicesView(v)}, region{"first", firstView(v)})
		if err != nil {
			return nil, err
		}
		shape, cards := v.cards()
		changed, err := machines.render(ctx, e, shape, region{"machines", machinesView(v)}, cards)
		if err != nil {
			return nil, err
		}
		shape, cards = v.Ops.cards()
		moved, err := ops.render(ctx, e, shape, region{"ops", opsList(v.Ops)}, cards)
		return slices.Concat(out, changed, moved), err
	}
	return s.follow(w, r, l.step)
}

// cards are the machines, each by itself, and the shape of their list.
func (v poolView) cards() (shape string, cards []region) {
	for _, g := range v.Groups {
		shape += g.Name + ": "
		for _, m := range g.Machines {
			cards, shape = append(cards, region{m.DOM, machineCard(m, v.May)}), shape+m.Name+" "
		}
	}
	if shape == "" {
		shape = "none, " + v.Stopped + v.Buy.First
	}
	return shape, cards
}

// cards are the ops, each by itself, and the shape of their list.
func (v opsView) cards() (shape string, cards []region) {
	for _, o := range v.all() {
		cards, shape = append(cards, region{o.DOM, opCard(o)}), shape+o.DOM+" "
	}
	return fmt.Sprint(len(v.Open), v.Left, shape), cards
}

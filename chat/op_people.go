package chat

import "strings"

// maxPeople and maxSettings bound what lives in memory for ever.
const (
	maxPeople   = 10_000
	maxSettings = 1000
)

func (a *applier) arrive(op *Arrive) error {
	if op.Person == "" {
		return refuse(CodeInvalid, "Say who arrived.")
	}
	if _, known := a.s.people.get(op.Person); known {
		return nil
	}
	m := &Member{Person: op.Person, Since: a.now, Author: a.by}
	switch n := len(a.s.people.keys()); {
	case n == 0:
		m.Role = RoleOwner
	case n >= maxPeople:
		return refuse(CodeRefused, "The mesh knows %d people; an owner has to give %s a role.", n, quote(string(op.Person)))
	}
	a.s.people.put(op.Person, m)
	return nil
}

func (a *applier) personPut(op *PersonPut) error {
	old, known := a.s.people.get(op.Person)
	switch {
	case op.Person == "":
		return refuse(CodeInvalid, "Say whose role it is.")
	case !op.Role.valid():
		return refuse(CodeInvalid, "%s is no role; there are owner, member and viewer.", quote(string(op.Role)))
	case !known && op.Role == RoleNone:
		return refuse(CodeNotFound, "Nobody is called %s here.", quote(string(op.Person)))
	case known && old.Role == RoleOwner && op.Role != RoleOwner && a.owners() == 1:
		return refuse(CodeRefused, "%s is the only owner; make somebody else an owner first.", old.Person)
	}
	m := &Member{Person: op.Person, Since: a.now}
	if known {
		m = new(*old)
	}
	m.Role, m.Author = op.Role, a.by
	a.s.people.put(op.Person, m)
	return nil
}

func (a *applier) owners() (n int) {
	for _, p := range a.s.people.keys() {
		if m, _ := a.s.people.get(p); m.Role == RoleOwner {
			n++
		}
	}
	return n
}

func (r Role) valid() bool {
	return r == RoleOwner || r == RoleMember || r == RoleViewer || r == RoleNone
}

func (a *applier) settingPut(op *SettingPut) error {
	_, known := a.s.settings.get(op.Name)
	switch {
	case op.Name == "" || len(op.Name) > MaxName:
		return refuse(CodeInvalid, "The name of a setting has 1 to %d bytes.", MaxName)
	case len(op.Value) > MaxSetting:
		return refuse(CodeTooLarge, "The value of a setting has at most %d bytes, this one has %d.", MaxSetting, len(op.Value))
	case op.Value == "":
		if known {
			a.s.settings.remove(op.Name)
		}
		return nil
	case !known && len(a.s.settings.keys()) >= maxSettings:
		return refuse(CodeRefused, "The mesh has %d settings already; remove one first.", maxSettings)
	}
	a.s.settings.put(op.Name, Setting{Name: op.Name, Value: op.Value, Author: a.by, Updated: a.now})
	return nil
}

// kept says in the task what a node holds of a lease that has ended. It needs
// no lease, so it can say nothing else.
func (a *applier) kept(op *Kept) error {
	t, err := a.task(op.Task)
	if err != nil {
		return err
	}
	text := line(op.Text, 1000)
	switch {
	case text == "":
		return refuse(CodeInvalid, "Say what is kept.")
	case t.Lease != nil && t.Lease.Token == op.Token:
		return refuse(CodeRefused, "The lease with token %d has not ended; its node reports by it.", op.Token)
	case op.Token == 0 || op.Token >= a.index || t.Lease != nil && op.Token > t.Lease.Token,
		op.Workspace < 1 || op.Workspace > t.Workspace || strings.ContainsFunc(op.Head, notHex):
		return refuse(CodeInvalid, "What is kept is of a lease that the task had, its workspace and a commit in it.")
	}
	m := Message{ID: "kept-" + itoa(op.Token), Kind: KindStatus, Author: new(a.by), Workspace: op.Workspace, Turn: t.Turns, Text: text, Level: "info", Closed: true}
	if op.Head != "" {
		m.Detail = "Commit " + op.Head
	}
	for n := uint64(2); ; n++ {
		old, taken, err := a.message(t.ID, m.ID)
		switch {
		case err != nil:
			return err
		case !taken:
			a.put(t, m)
			return nil
		case old.Kind == KindStatus && old.Source == 0 && old.Author != nil && *old.Author == a.by:
			return nil // said before; agents' messages have a Source
		}
		m.ID = "kept-" + itoa(op.Token) + "-" + itoa(n)
	}
}

func notHex(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }

package chat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

func (a *applier) projectPut(op *ProjectPut) error {
	p := cloneProject(op.Project)
	if err := checkProject(&p); err != nil {
		return err
	}
	for _, id := range a.s.projects.keys() {
		other, _ := a.s.projects.get(id)
		if id != p.ID && other.Name == p.Name && !other.Removed {
			return refuse(CodeRefused, "Another project has the name %s already.", p.Name)
		}
	}
	if old, ok := a.s.projects.get(p.ID); ok {
		p.Created, p.Author = old.Created, old.Author
	} else {
		p.Created, p.Author = a.now, a.by
	}
	p.Removed = false
	a.s.projects.put(p.ID, &p)
	return nil
}

// checkProject completes a project's defaults and refuses what makes no sense.
func checkProject(p *Project) error {
	p.Agent = or(p.Agent, "script")
	p.Mode = or(p.Mode, ModeAsk)
	p.Publish = or(p.Publish, PublishDraft)
	p.Egress = or(p.Egress, EgressPackages)
	p.Repo, p.Branch = strings.TrimSpace(p.Repo), strings.TrimSpace(p.Branch)
	switch {
	case p.ID == "":
		return refuse(CodeInvalid, "A project needs an id.")
	case !projectName.MatchString(p.Name) || len(p.Name) > MaxName:
		return refuse(CodeInvalid, "A project's name has a-z, 0-9 and dashes and starts with a letter or digit: %s does not.", quote(p.Name))
	case p.Repo == "" || len(p.Repo) > 1000 || strings.HasPrefix(p.Repo, "-"):
		return refuse(CodeInvalid, "A project needs the URL of its repository.")
	case badRef(p.Branch):
		return refuse(CodeInvalid, "%s is no branch name.", quote(p.Branch))
	case !validMode(p.Mode):
		return refuse(CodeInvalid, "%s is no mode; there are plan, ask, acceptEdits and everything.", quote(string(p.Mode)))
	case !slices.Contains([]Publish{PublishBranch, PublishDraft, PublishReady}, p.Publish):
		return refuse(CodeInvalid, "%s is no publish policy; there are branch, draft and ready.", quote(string(p.Publish)))
	case !slices.Contains([]Egress{EgressNone, EgressPackages, EgressListed, EgressOpen}, p.Egress):
		return refuse(CodeInvalid, "%s is no egress mode; there are none, packages, listed and open.", quote(string(p.Egress)))
	case p.Budget < 0:
		return refuse(CodeInvalid, "A budget is not below zero.")
	case p.Machine.check() != nil:
		return p.Machine.check()
	case len(p.Allow) > 500 || slices.ContainsFunc(p.Allow, func(h string) bool { return h == "" || len(h) > 255 }):
		return refuse(CodeInvalid, "The list of hosts has at most 500 entries of at most 255 bytes.")
	}
	return nil
}

// Bounds of what a machine may be asked to have.
const (
	maxCPUs   = 1024
	maxBytes  = 1 << 50
	maxLabels = 16
	maxLabel  = 63 // bytes
)

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// String says it to a person; any machine is nothing.
func (n Needs) String() string {
	var parts []string
	if n.CPUs > 0 {
		parts = append(parts, fmt.Sprintf("%d processors", n.CPUs))
	}
	if n.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%d GB of memory", n.Memory>>30))
	}
	if n.Disk > 0 {
		parts = append(parts, fmt.Sprintf("%d GB of disk", n.Disk>>30))
	}
	if len(n.Labels) > 0 {
		parts = append(parts, strings.Join(n.Labels, ", "))
	}
	if n.Location != "" {
		parts = append(parts, "in "+n.Location)
	}
	return strings.Join(parts, ", ")
}

func (n Needs) check() error {
	switch {
	case n.CPUs < 0 || n.CPUs > maxCPUs || n.Memory < 0 || n.Memory > maxBytes || n.Disk < 0 || n.Disk > maxBytes:
		return refuse(CodeInvalid, "A machine has up to %d processors, and up to %d bytes of memory and of disk.", maxCPUs, int64(maxBytes))
	case len(n.Labels) > maxLabels:
		return refuse(CodeInvalid, "A machine has at most %d labels.", maxLabels)
	case n.Location != "" && (len(n.Location) > maxLabel || !label.MatchString(n.Location)):
		return refuse(CodeInvalid, "%s is no location.", quote(n.Location))
	}
	for _, l := range n.Labels {
		if len(l) > maxLabel || !label.MatchString(l) {
			return refuse(CodeInvalid, "%s cannot be a label: use small letters, digits and hyphens.", quote(l))
		}
	}
	return nil
}

// badRef reports a branch name that git could take for something else.
func badRef(name string) bool {
	return strings.HasPrefix(name, "-") || len(name) > 250 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) ||
		strings.Contains(name, "..")
}

func validMode(m Mode) bool {
	return slices.Contains([]Mode{ModePlan, ModeAsk, ModeAcceptEdits, ModeEverything}, m)
}

func (a *applier) projectRemove(op *ProjectRemove) error {
	p, err := a.project(op.ID)
	if err != nil {
		return err
	}
	var tasks []TaskID
	for _, id := range a.s.tasks.keys() {
		t, _ := a.s.tasks.get(id)
		if t.Project != p.ID {
			continue
		}
		if t.Lease != nil {
			return refuse(CodeRefused, "The task %s still has a workspace on %s; release or stop it first.", quote(t.Title), t.Lease.Node)
		}
		tasks = append(tasks, id)
	}
	for _, id := range tasks {
		t, err := a.task(id)
		if err != nil {
			return err
		}
		if t.State.starting() || t.State.active() {
			if err := a.stopNow(t, "Stopped: the project was removed."); err != nil {
				return err
			}
		}
	}
	gone := cloneProject(*p)
	gone.Removed = true
	a.s.projects.put(p.ID, &gone)
	return nil
}

func secretKey(scope ProjectID, name string) string { return string(scope) + "/" + name }

func (a *applier) secretPut(op *SecretPut) error {
	sec := cloneSecret(op.Secret)
	switch {
	case sec.Name == "":
		return refuse(CodeInvalid, "A secret needs a name.")
	case len(sec.Sealed) == 0 || len(sec.Sealed) > 64<<10:
		return refuse(CodeInvalid, "A sealed secret has 1 to 65536 bytes.")
	}
	if sec.Scope != "" {
		if _, err := a.project(sec.Scope); err != nil {
			return err
		}
	}
	sec.Author, sec.Updated = a.by, a.now
	a.s.secrets.put(secretKey(sec.Scope, sec.Name), sec)
	return nil
}

func (a *applier) secretRemove(op *SecretRemove) error {
	key := secretKey(op.Scope, op.Name)
	if _, ok := a.s.secrets.get(key); !ok {
		return refuse(CodeNotFound, "There is no secret %s.", quote(op.Name))
	}
	a.s.secrets.remove(key)
	return nil
}

// or is the first that is not the zero value.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v != zero {
		return v
	}
	return otherwise
}

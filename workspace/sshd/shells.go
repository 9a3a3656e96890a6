package sshd

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/workspace/shim"
)

const maxName = 60 // characters of a shell's name

var shellName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// findShell attaches to the shell that is asked for: by default to one that
// this person left, where nobody types, or else to a new one. Left is when that
// shell began; zero: it is new, or was asked for.
func (s *session) findShell() (term *shim.Terminal, left time.Time, err error) {
	list, err := s.space.Shim.Terminals(s.ctx)
	switch {
	case err != nil:
		return nil, left, err
	case s.watch != "":
		term, err = s.watchShell(list)
		return term, left, err
	case s.which != "" && s.which != "new":
		term, err = s.namedShell(list)
		return term, left, err
	}
	taken := map[string]bool{}
	for _, t := range list {
		taken[t.ID] = true
		if s.which == "new" || t.Typists() > 0 || !s.numbered(t.ID) {
			continue
		}
		term, err = s.open(t.ID, "", true)
		if !errors.Is(err, shim.ErrBusy) {
			return term, t.Started, err
		}
	}
	for n := 1; ; n++ {
		id, name := s.space.Shells+"-"+strconv.Itoa(n), s.owner()+"'s shell"
		if n > 1 {
			name += " " + strconv.Itoa(n)
		}
		if taken[id] {
			continue
		}
		if term, err = s.open(id, name, true); !errors.Is(err, shim.ErrBusy) {
			return term, left, err
		}
	}
}

// namedShell is one of this person's of that name, or anybody's that is called
// so (t1, "ana's shell"), or a new one.
func (s *session) namedShell(list []shim.TerminalInfo) (*shim.Terminal, error) {
	if t, ok := s.lookup(list, s.which); ok {
		return s.open(t.ID, "", false)
	}
	if !shellName.MatchString(s.which) {
		return nil, fmt.Errorf("%s=%.40q is no name: use up to 32 letters, digits, dots, hyphens and underscores", ShellVariable, s.which)
	}
	return s.open(s.space.Shells+"-"+s.which, s.owner()+"'s "+s.which, false)
}

func (s *session) watchShell(list []shim.TerminalInfo) (*shim.Terminal, error) {
	if t, ok := s.lookup(list, s.watch); ok {
		return s.open(t.ID, "", false)
	}
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no shell %.40q: nobody has one open", s.watch)
	}
	return nil, fmt.Errorf("there is no shell %.40q; there are: %.500s", s.watch, strings.Join(names, ", "))
}

func (s *session) lookup(list []shim.TerminalInfo, name string) (shim.TerminalInfo, bool) {
	for _, is := range []func(shim.TerminalInfo) bool{
		func(t shim.TerminalInfo) bool { return t.ID == s.space.Shells+"-"+name },
		func(t shim.TerminalInfo) bool { return t.ID == name },
		func(t shim.TerminalInfo) bool { return t.Name == name },
	} {
		for _, t := range list {
			if is(t) {
				return t, true
			}
		}
	}
	return shim.TerminalInfo{}, false
}

// owner is how this person's shells are called.
func (s *session) owner() string { return visible(short(s.space.Who.Person), 30) }

func short(person string) string {
	name, _, _ := strings.Cut(person, "@")
	if name == "" {
		return "somebody"
	}
	return name
}

const recordedNote = "[samnode: this shell is recorded]\r\n"

// greeting is what a person reads before the shell's last output. Later there
// may be a program on the screen, so nothing more is said.
func (s *session) greeting(info shim.TerminalInfo, left time.Time) string {
	var b strings.Builder
	if !left.IsZero() {
		fmt.Fprintf(&b, "[samnode: your shell of %s goes on; %s=new gives a fresh one]\r\n", left.UTC().Format("2 Jan 15:04 MST"), ShellVariable)
	}
	if others := present(info); others != "" {
		fmt.Fprintf(&b, "[samnode: %s]\r\n", others)
	}
	if info.Held != "" && info.Held != s.space.Who.Person {
		fmt.Fprintf(&b, "[samnode: only %s types here]\r\n", visible(short(info.Held), 30))
	}
	if info.Recorded {
		b.WriteString(recordedNote)
	}
	if s.watch != "" {
		b.WriteString("[samnode: you watch; Ctrl-C leaves]\r\n")
	}
	return b.String()
}

// present says who else is here.
func present(info shim.TerminalInfo) string {
	var names []string
	for _, p := range info.People {
		if p.You {
			continue
		}
		how := p.By
		if p.Watches {
			how = strings.TrimLeft(how+", watching", ", ")
		}
		name := visible(short(p.Person), 30)
		if how != "" {
			name += " (" + visible(how, 20) + ")"
		}
		names = append(names, name)
	}
	switch n := len(names); {
	case n == 0:
		return ""
	case n == 1:
		return names[0] + " is here too"
	case n > 5:
		return fmt.Sprintf("%s and %d more are here too", strings.Join(names[:5], ", "), n-5)
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1] + " are here too"
	}
}

// visible is text of at most so many characters that tells a terminal nothing.
func visible(text string, limit int) string {
	runes := []rune(strings.Map(printable, strings.ToValidUTF8(text, "")))
	if len(runes) > limit {
		runes = append(runes[:limit-1], '…')
	}
	return string(runes)
}

// untilLeaves reads what a watcher types until that means that they go: Ctrl-C,
// Ctrl-D or q.
func untilLeaves(r io.Reader) {
	buf := make([]byte, 1024)
	for {
		n, err := r.Read(buf)
		if err != nil || strings.ContainsAny(string(buf[:n]), "\x03\x04q") {
			return
		}
	}
}

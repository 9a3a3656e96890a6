package preview

import (
	"strconv"
	"strings"
	"unicode"
)

// Target is a port of a task's workspace.
type Target struct {
	Task string // its whole id, in upper case
	Port int
}

const (
	between = "--"
	within  = ".localhost"
	idChars = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	idLen   = 26
)

// Host is the name of the preview on a person's own computer, without a port:
// browsers resolve it to that computer, and take each for a site of its own.
func (t Target) Host() string {
	return strconv.Itoa(t.Port) + between + strings.ToLower(t.Task) + within
}

// ParseHost reads what Host wrote, in any case. There is one way to write each.
func ParseHost(name string) (Target, bool) {
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return Target{}, false // some letters have a plain one as their upper case
	}
	name = strings.ToUpper(name)
	rest, ok := strings.CutSuffix(name, strings.ToUpper(within))
	number, task, found := strings.Cut(rest, between)
	port, err := strconv.ParseUint(number, 10, 16)
	if !ok || !found || err != nil || port == 0 || number != strconv.FormatUint(port, 10) || len(task) != idLen {
		return Target{}, false
	}
	if strings.Trim(task, idChars) != "" {
		return Target{}, false
	}
	return Target{task, int(port)}, true
}

// IsHost says whether a name is that of some preview.
func IsHost(name string) bool {
	_, ok := ParseHost(name)
	return ok
}

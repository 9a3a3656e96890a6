package git

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What can go wrong, to be found with errors.Is. The errors of this package
// are *Error values around one of these, with a sentence for a person.
var (
	ErrURL      = errors.New("unusable repository URL")
	ErrNotFound = errors.New("no such repository, branch or file")
	ErrAccess   = errors.New("the remote refused the credentials")
	ErrNoBranch = errors.New("no such branch")
	ErrEmpty    = errors.New("the repository is empty") // nothing to show yet; a task can make the first commit
	ErrNetwork  = errors.New("the remote is not reachable")
	ErrRejected = errors.New("the remote rejected the push")
	ErrMoved    = errors.New("the branch moved") // the remote has newer commits; nothing was overwritten
	ErrMerged   = errors.New("already merged")
	ErrConflict = errors.New("conflict") // Error.Files names the files
	ErrDiskFull = errors.New("the disk is full")
	ErrBroken   = errors.New("git failed") // anything else; the detail has git's words
)

// Error says what happened, in a sentence, with git's own last lines.
type Error struct {
	Kind  error    // one of the sentinels
	Text  string   // the sentence
	Out   string   // git's own words; may be empty
	Files []string // of ErrConflict
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Kind }

// Detail returns git's own words.
func (e *Error) Detail() string { return e.Out }

// Retryable says whether doing the same again can help without a person
// changing anything.
func (e *Error) Retryable() bool {
	switch e.Kind {
	case ErrNetwork, ErrMoved, ErrDiskFull, ErrBroken: //nolint:errorlint // a kind is never wrapped
		return true
	}
	return false
}

// marks are what git and its remotes write, in the order in which they are
// looked for: a refusal is often followed by a general complaint.
var marks = []struct {
	kind error
	re   *regexp.Regexp
}{
	{ErrDiskFull, regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`)},
	{ErrMoved, regexp.MustCompile(`\(stale info\)|\(fetch first\)|\(non-fast-forward\)|cannot lock ref .* but expected|failed to update ref|incorrect old value provided`)},
	{ErrRejected, regexp.MustCompile(`\[remote rejected\]|\[rejected\]|! \[`)},
	{ErrNoBranch, regexp.MustCompile(`(?i)couldn't find remote ref|src refspec .* does not match`)},
	{ErrAccess, regexp.MustCompile(`(?i)could not read (username|password)|authentication failed|permission denied|access denied|write access to repository not granted|host key verification failed|returned error: 40[13]|http basic: access denied|invalid credentials|dubious ownership|permission to .* denied|not allowed to push|saml sso`)},
	{ErrNotFound, regexp.MustCompile(`(?i)repository not found|repository '.*' not found|does not appear to be a git repository|returned error: 404|project you were looking for could not be found|repository .*does not exist|not valid: is this a git repository`)},
	{ErrNetwork, regexp.MustCompile(`(?i)could not resolve host|failed to connect|couldn't connect|connection (reset|refused|closed|timed out)|operation (timed out|too slow)|early eof|rpc failed|unexpected disconnect|hung up unexpectedly|transfer closed|returned error: (5\d\d|429|408)|network is unreachable|no route to host|temporary failure in name resolution|ssl_|gnutls|tls|broken pipe|could not read from remote repository|unexpected eof|empty reply|bad pack header|invalid index-pack output|index-pack failed|pack-objects died|bytes of (length header|body) (are still )?(expected|was received)`)},
}

// classify makes an Error of what git wrote to stderr.
func (r *Repo) classify(doing, out string) *Error {
	kind := ErrBroken
	for _, m := range marks {
		if m.re.MatchString(out) {
			kind = m.kind
			break
		}
	}
	return &Error{Kind: kind, Text: r.sentence(kind, doing, out), Out: lastLines(out, 20)}
}

func (r *Repo) sentence(kind error, doing, out string) string {
	u := r.remote.url
	switch kind {
	case ErrNotFound: //nolint:errorlint // a kind is never wrapped
		return fmt.Sprintf("%s: %s was not found, or its credentials may not see it; check the URL and the project's secrets (%s)", doing, u, r.secret())
	case ErrAccess:
		return fmt.Sprintf("%s: %s refused the credentials; check the project's secrets (%s)", doing, u, r.secret())
	case ErrNetwork:
		return fmt.Sprintf("%s: the connection to %s failed or was cut; it can be tried again", doing, u)
	case ErrDiskFull:
		return doing + ": the disk of this machine is full"
	case ErrMoved:
		return doing + ": the remote has newer commits; nothing was overwritten"
	case ErrRejected:
		return fmt.Sprintf("%s: the remote rejected it: %s", doing, rejection(out))
	case ErrNoBranch:
		return doing + ": the remote has no such branch"
	}
	return fmt.Sprintf("%s: git failed: %s", doing, lastLines(out, 1))
}

// secret names what a person has to look at when access is refused.
func (r *Repo) secret() string {
	switch r.remote.kind {
	case "ssh":
		return "the ssh key of this machine"
	case "file":
		return "the folder's owner and permissions on this machine"
	}
	if strings.Contains(r.remote.site, "github") {
		return "GITHUB_TOKEN"
	}
	return "GIT_USERNAME and GIT_PASSWORD, or GITHUB_TOKEN"
}

var reasonRE = regexp.MustCompile(`(?m)! ?\t?.*\[(?:remote )?rejected\] ?(?:[^(\n]*)\(([^\n]*)\)`)

// rejection is the shortest honest reason in what a push wrote: what the
// remote's hook said, else the reason in brackets.
func rejection(out string) string {
	var said []string
	for _, l := range remoteLines(out) {
		if l = strings.TrimSpace(l); l != "" {
			said = append(said, l)
		}
	}
	reason := ""
	if m := reasonRE.FindStringSubmatch(out); m != nil {
		reason = m[1]
	}
	if len(said) > 3 {
		said = said[len(said)-3:]
	}
	text := strings.Join(said, "; ")
	switch {
	case text == "" && reason == "":
		return lastLines(out, 1)
	case text == "":
		return reason
	case reason == "":
		return text
	}
	return reason + ": " + text
}

// remoteLines returns what the other side said ("remote: …").
func remoteLines(out string) []string {
	var lines []string
	for l := range strings.Lines(strings.ReplaceAll(out, "\r", "\n")) {
		if said, ok := strings.CutPrefix(l, "remote:"); ok {
			lines = append(lines, strings.TrimPrefix(strings.TrimRight(said, " \n"), " "))
		}
	}
	return lines
}

// lastLines returns the last n lines that say something, without the progress
// that git overwrites with carriage returns.
func lastLines(out string, n int) string {
	var lines []string
	for l := range strings.Lines(out) {
		l = strings.TrimRight(l, "\r\n")
		if i := strings.LastIndexByte(l, '\r'); i >= 0 {
			l = l[i+1:]
		}
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, strings.ToValidUTF8(l, "\ufffd"))
		}
	}
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

package git

import (
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Workspace is a task's working copy inside a container: what is to be run
// there, as data, so that the rules for it live in this package.
type Workspace struct {
	URL    string // the remote's; stays in .git/config as origin
	Mirror string // Repo.Path, mounted read-only at the same path; empty: none
	Proxy  string // where Repo.Handler answers, "http://127.0.0.1:7102/"
	Base   string // branch that the task starts from
	Branch string // the task's branch
	Dir    string // working copy, an absolute path in the container
	Author Author // of the commits
}

// Step is one thing to run in the workspace.
type Step struct {
	Argv []string
	Env  []string // besides Workspace.Env
}

//go:embed prepare.sh
var prepareScript string

//go:embed save.sh
var saveScript string

// Env makes git in the workspace reach the remote through the node, for the
// agent too. The working copy never learns of it: origin stays the real URL.
func (w Workspace) Env() []string {
	proxy := w.proxy()
	settings := []string{
		// By prefix: the rest of the name (".git" or nothing) stays.
		"url." + proxy + "repo.insteadOf", strings.TrimSuffix(w.URL, ".git"),
		"http." + proxy + ".proxy", "", // never through the web proxy
		"safe.directory", w.Dir,
		"gc.auto", "0", // borrowed objects are not to be copied behind the agent's back
	}
	env := []string{"GIT_TERMINAL_PROMPT=0", "GIT_LFS_SKIP_SMUDGE=1", "GIT_CONFIG_COUNT=" + strconv.Itoa(len(settings)/2)}
	for i := 0; i < len(settings); i += 2 {
		n := strconv.Itoa(i / 2)
		env = append(env, "GIT_CONFIG_KEY_"+n+"="+settings[i], "GIT_CONFIG_VALUE_"+n+"="+settings[i+1])
	}
	return env
}

func (w Workspace) proxy() string { return strings.TrimRight(w.Proxy, "/") + "/" }

// Prepare clones into an empty Dir, or brings an older working copy up to
// date, on the task's branch. It can be cut and run again at any moment. What
// an older disk has is kept, but never replaces newer commits of the remote.
// ParsePrepared reads what it prints; git's progress goes to stderr.
func (w Workspace) Prepare() Step {
	return Step{
		Argv: []string{"/bin/sh", "-c", prepareScript, "samnode-prepare"},
		Env: []string{
			"SAMNODE_DIR=" + w.Dir, "SAMNODE_URL=" + w.URL, "SAMNODE_MIRROR=" + w.Mirror, "SAMNODE_PROXY=" + w.proxy(),
			"SAMNODE_BASE=" + w.Base, "SAMNODE_BRANCH=" + w.Branch,
			"SAMNODE_NAME=" + w.Author.Name, "SAMNODE_EMAIL=" + w.Author.Email,
		},
	}
}

// Prepared is what Prepare did.
type Prepared struct {
	State string   // fresh, same, behind (fast-forwarded), ahead (has unpushed commits), merged, kept (its commits are on another branch now), busy (left in the middle of a rebase or merge)
	Head  string   // commit; empty in an empty repository
	Notes []string // sentences for the person and the agent
}

// ParsePrepared reads the stdout of Prepare.
func ParsePrepared(out string) (Prepared, error) {
	v := parseSaid(out)
	p := Prepared{State: v.last["state"], Head: v.last["head"], Notes: v.notes}
	if why := v.last["error"]; why != "" {
		return p, &Error{Kind: v.kind(), Text: why, Out: lastLines(out, 20)}
	}
	if p.State == "" {
		return p, errors.New("preparing the working copy: it ended without saying how")
	}
	return p, nil
}

// Save commits everything as work in progress on the task's branch and pushes
// it, with the repository's hooks off. Nothing to commit is fine.
// ParseSaved reads what it prints.
func (w Workspace) Save(message string) Step { return w.save("push", message, "") }

// Keep is Save without the push, for a workspace that ends and may not push:
// it says instead what the remote's branch lacks. Known is the newest commit
// of it that this machine knows, or empty.
func (w Workspace) Keep(message, known string) Step { return w.save("commit", message, known) }

// Aside is Keep for a workspace whose agent works: the commit is on no branch
// (refs/samnode/wip), and neither the index nor HEAD nor a file is touched.
func (w Workspace) Aside(message string) Step { return w.save("aside", message, "") }

func (w Workspace) save(do, message, known string) Step {
	return Step{
		Argv: []string{"/bin/sh", "-c", saveScript, "samnode-save"},
		Env: []string{
			"SAMNODE_DO=" + do, "SAMNODE_DIR=" + w.Dir, "SAMNODE_BASE=" + w.Base, "SAMNODE_BRANCH=" + w.Branch,
			"SAMNODE_MESSAGE=" + message, "SAMNODE_KNOWN=" + known,
			"SAMNODE_NAME=" + w.Author.Name, "SAMNODE_EMAIL=" + w.Author.Email,
		},
	}
}

// Saved is what Save, Keep or Aside did.
type Saved struct {
	Head      string   // commit of the task's branch in the workspace; empty: it has none yet
	Committed bool     // a new commit was made
	Pushed    bool     // of Save: the remote has Head
	Reason    string   // why it does not, in the remote's or the node's words
	Work      string   // of Keep and Aside: the commit that has everything
	Files     int      // of Keep and Aside: how many files of Work the remote's branch lacks
	Notes     []string // sentences for the person and the agent
}

// ParseSaved reads the stdout of Save, Keep or Aside.
func ParseSaved(out string) (Saved, error) {
	v := parseSaid(out)
	s := Saved{
		Head: v.last["head"], Committed: v.last["committed"] == "yes", Pushed: v.last["pushed"] == "yes",
		Reason: v.last["reason"], Work: v.last["work"], Notes: v.notes,
	}
	if why := v.last["error"]; why != "" {
		return s, &Error{Kind: v.kind(), Text: why, Out: lastLines(out, 20)}
	}
	if v.last["done"] == "" {
		return s, errors.New("saving the work: it ended without saying how")
	}
	if n := v.last["files"]; n != "" {
		var err error
		if s.Files, err = strconv.Atoi(n); err != nil {
			return s, fmt.Errorf("saving the work: it said %q files", n)
		}
	}
	return s, nil
}

// said are the lines "samnode:key=value" of a script.
type said struct {
	last  map[string]string
	notes []string
	all   string
}

func parseSaid(out string) said {
	v := said{last: map[string]string{}, all: out}
	for l := range strings.Lines(out) {
		kv, ok := strings.CutPrefix(strings.TrimRight(l, "\r\n"), "samnode:")
		if !ok {
			continue
		}
		key, value, _ := strings.Cut(kv, "=")
		value = strings.ToValidUTF8(value, "\ufffd")
		if key == "note" {
			v.notes = append(v.notes, value)
			continue
		}
		v.last[key] = value
	}
	return v
}

// kind classifies a script's error by its detail.
func (v said) kind() error {
	for _, m := range marks {
		if m.re.MatchString(v.all) {
			return m.kind
		}
	}
	return ErrBroken
}

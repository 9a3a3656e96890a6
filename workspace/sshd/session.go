package sshd

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
)

const (
	failed   = 255 // as of ssh itself: the program has not said how it ended
	maxEnv   = 64
	maxValue = 16 << 10 // bytes of an environment variable
	maxSide  = 1000     // rows or columns
)

// session is a channel in which one program runs.
type session struct {
	*conn
	ch      ssh.Channel
	ctx     context.Context // ends with the channel
	env     []string
	which   string // shell that is asked for by SAMNODE_SHELL
	watch   string // shell that is asked for by SAMNODE_WATCH
	pty     bool
	size    size
	sizes   chan size           // capacity 1, the newest
	signals chan syscall.Signal // what finds no room is lost, as signals are
}

type size struct{ rows, cols uint16 }

// session takes requests until one starts the program, and then those that are
// for it.
func (c *conn) session(nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return // the connection has ended
	}
	defer ch.Close()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	s := &session{conn: c, ch: ch, ctx: ctx, sizes: make(chan size, 1), signals: make(chan syscall.Signal, 16)}
	for r := range requests {
		run, ok := s.prepare(r)
		s.reply(r, ok)
		if run == nil {
			continue
		}
		go func() {
			defer cancel() // the client closed the channel
			s.while(requests)
		}()
		s.exit(s.run(run))
		return
	}
}

func (s *session) reply(r *ssh.Request, ok bool) {
	if !r.WantReply {
		return
	}
	if err := r.Reply(ok, nil); err != nil && s.ctx.Err() == nil {
		s.s.logger.Debug("answering a request", "type", r.Type, "err", err)
	}
}

// prepare handles what comes before the program, and says how to run it.
func (s *session) prepare(r *ssh.Request) (run func() (int, error), ok bool) {
	var text struct{ Value string }
	switch r.Type {
	case "env":
		return nil, s.setEnv(r.Payload)
	case "pty-req":
		return nil, s.setPTY(r.Payload)
	case "auth-agent-req@openssh.com":
		return nil, s.setAgent()
	case "shell":
		if s.pty {
			return s.shell, true
		}
		return func() (int, error) { return s.command("") }, true
	case "exec":
		if ssh.Unmarshal(r.Payload, &text) != nil || strings.ContainsRune(text.Value, 0) {
			return nil, false
		}
		if s.pty {
			return func() (int, error) { return s.commandOnPTY(text.Value) }, true
		}
		return func() (int, error) { return s.command(text.Value) }, true
	case "subsystem":
		if ssh.Unmarshal(r.Payload, &text) != nil || text.Value != "sftp" {
			return nil, false
		}
		return s.serveFiles, true
	}
	return nil, false // X11, and what nobody has thought of
}

// while handles what comes while the program runs.
func (s *session) while(requests <-chan *ssh.Request) {
	for r := range requests {
		ok := false
		switch r.Type {
		case "window-change":
			var w struct{ Cols, Rows, Width, Height uint32 }
			if ok = ssh.Unmarshal(r.Payload, &w) == nil && s.pty; ok {
				s.resize(w.Rows, w.Cols)
			}
		case "signal":
			var text struct{ Value string }
			if ssh.Unmarshal(r.Payload, &text) == nil {
				ok = s.signal(text.Value)
			}
		}
		s.reply(r, ok)
	}
}

func (s *session) resize(rows, cols uint32) {
	if rows == 0 || cols == 0 {
		return
	}
	to := size{uint16(min(rows, maxSide)), uint16(min(cols, maxSide))}
	select {
	case <-s.sizes: // an older one that nobody has seen
	default:
	}
	select {
	case s.sizes <- to:
	default:
	}
}

func (s *session) signal(name string) bool {
	number, known := map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL,
		"INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV,
		"TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}[name]
	if !known {
		return false
	}
	select {
	case s.signals <- number:
	default:
	}
	return true
}

// Taken from a client: what says how to print and to edit, and whom git names.
// What decides which programs run (PATH, LD_PRELOAD) is the workspace's own.
func allowed(name string) bool {
	for _, pattern := range []string{
		"LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "NO_COLOR", "FORCE_COLOR",
		"EDITOR", "VISUAL", "PAGER", "GIT_PROTOCOL", "GIT_AUTHOR_*", "GIT_COMMITTER_*", "VSCODE_*",
	} {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return true
		}
	}
	return false
}

// ShellVariable is the environment variable that chooses a shell: "new" for a
// fresh one, or a name that several connections may share.
const ShellVariable = "SAMNODE_SHELL"

// WatchVariable names a shell to look at without typing.
const WatchVariable = "SAMNODE_WATCH"

func (s *session) setEnv(payload []byte) bool {
	var v struct{ Name, Value string }
	if ssh.Unmarshal(payload, &v) != nil || len(v.Value) > maxValue || strings.ContainsRune(v.Value, 0) {
		return false
	}
	switch v.Name {
	case ShellVariable:
		s.which = v.Value
		return true
	case WatchVariable:
		s.watch = v.Value
		return true
	}
	if !allowed(v.Name) || len(s.env) >= maxEnv {
		return false
	}
	s.env = append(s.env, v.Name+"="+v.Value)
	return true
}

func (s *session) setAgent() bool {
	env, err := s.forwardAgent()
	if err != nil {
		s.s.logger.Info("an ssh agent was not let in", "err", err)
		return false
	}
	s.env = append(s.env, env)
	return true
}

func (s *session) setPTY(payload []byte) bool {
	var p struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	if s.pty || ssh.Unmarshal(payload, &p) != nil || len(p.Term) > 100 || strings.ContainsRune(p.Term, 0) {
		return false
	}
	s.pty = true
	s.size = size{uint16(min(p.Rows, maxSide)), uint16(min(p.Cols, maxSide))}
	if p.Term != "" {
		s.env = append(s.env, "TERM="+p.Term)
	}
	return true
}

// run is the program, unless the caller may not be here any more.
func (s *session) run(program func() (int, error)) (int, error) {
	if err := s.check(); err != nil {
		return failed, err
	}
	defer s.onDismissal()()
	return program()
}

// exit says how the program ended, or why that is not known.
func (s *session) exit(code int, err error) {
	if s.ctx.Err() != nil {
		return // nobody is there to hear it
	}
	if err != nil {
		newline := "\n"
		if s.pty {
			newline = "\r\n"
		}
		if _, err := io.WriteString(s.ch.Stderr(), told(err)+newline); err != nil {
			return
		}
	}
	status := ssh.Marshal(struct{ Status uint32 }{uint32(code)})
	if _, err := s.ch.SendRequest("exit-status", false, status); err != nil && s.ctx.Err() == nil {
		s.s.logger.Debug("saying how a program ended", "err", fmt.Errorf("code %d: %w", code, err))
	}
}

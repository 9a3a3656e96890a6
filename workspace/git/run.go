package git

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// defaultSSH never asks. A host that was never seen is trusted once and
// remembered: fresh machines know nobody, and nobody sits before them.
const defaultSSH = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o StrictHostKeyChecking=accept-new"

// command is one call of git in the mirror.
type command struct {
	args  []string
	env   []string // added last
	stdin io.Reader
	auth  *Auth        // set: may talk to the remote with it
	line  func(string) // told each line of stderr, progress included; may be nil
}

// result is what git wrote. Err of run carries stderr already.
type result struct {
	out    []byte
	stderr string
	code   int
}

// maxStderr bounds what is kept of git's complaints.
const maxStderr = 64 << 10

// run runs git in the mirror. A non-zero exit is an *Error of classify.
func (r *Repo) run(ctx context.Context, doing string, c command) (result, error) {
	var out bytes.Buffer
	res, err := r.stream(ctx, doing, c, &out)
	res.out = out.Bytes()
	return res, err
}

// stream is run with stdout going to w.
func (r *Repo) stream(ctx context.Context, doing string, c command, w io.Writer) (result, error) {
	cmd := r.command(ctx, c)
	stderr := &tail{line: c.line}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, w, stderr
	err := cmd.Run()
	if cmd.Process == nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return result{code: -1}, fmt.Errorf("%s: %w", doing, err)
	}
	stderr.flush()
	res := result{stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	if err == nil {
		return res, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // helpers that did not hear
		return res, fmt.Errorf("%s: %w", doing, cause)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		return res, fmt.Errorf("%s: %w", doing, err)
	}
	return res, r.classify(doing, res.stderr)
}

// command builds the process: its own group, so that git's helpers end with
// it, and an environment in which nothing asks, pages or translates.
func (r *Repo) command(ctx context.Context, c command) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.m.c.Git, c.args...)
	cmd.Dir = r.dir
	cmd.Env = append(r.env(c.auth), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// git removes its locks and temporary files when it is asked to end.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// env is the host's environment without its git settings, and ours. Tokens go
// here and nowhere else: arguments and files can be read by others.
func (r *Repo) env(auth *Auth) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "GIT_") && !strings.HasPrefix(name, "GIT_SSL_") ||
			strings.HasPrefix(name, "LC_") || name == "LANG" || name == "LANGUAGE" || name == "SSH_ASKPASS" {
			continue
		}
		env = append(env, kv)
	}
	env = append(env, "LC_ALL=C", "GIT_DIR="+r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+r.globalConfig(),
		"GIT_TERMINAL_PROMPT=0", "GIT_LITERAL_PATHSPECS=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_PAGER=cat", "GIT_EDITOR=false")
	settings := []string{
		"protocol.allow", "never",
		"core.hooksPath", "/dev/null",
		"core.askPass", "",
		"credential.helper", "",
		"gc.auto", "0",
		"gc.pruneExpire", "never",
		"maintenance.auto", "false",
		"core.quotePath", "true",
		"advice.pushUpdateRejected", "false",
	}
	if auth != nil {
		settings = append(settings, r.remoteSettings(*auth)...)
		ssh := auth.SSHCommand
		if ssh == "" {
			ssh = defaultSSH
		}
		env = append(env, "GIT_SSH_COMMAND="+ssh, "GIT_SSH_VARIANT=ssh")
	}
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)/2))
	for i := 0; i < len(settings); i += 2 {
		n := strconv.Itoa(i / 2)
		env = append(env, "GIT_CONFIG_KEY_"+n+"="+settings[i], "GIT_CONFIG_VALUE_"+n+"="+settings[i+1])
	}
	return env
}

// remoteSettings allow this remote's protocol only, and carry the token for
// this remote's site only.
func (r *Repo) remoteSettings(a Auth) []string {
	s := []string{
		"protocol." + r.remote.kind + ".allow", "always",
		"http.lowSpeedLimit", "1000",
		"http.lowSpeedTime", "60",
		"transfer.fsckObjects", "false", // old histories have harmless faults; the remote is the judge
	}
	if a.Password != "" && r.remote.site != "" {
		user := a.Username
		if user == "" {
			user = "x-access-token"
		}
		basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + a.Password))
		s = append(s, "http."+r.remote.site+".extraHeader", "Authorization: Basic "+basic)
	}
	return s
}

// globalConfig is a file with the one setting that git takes from a file only:
// a local remote may belong to another user of this machine.
func (r *Repo) globalConfig() string {
	if r.remote.kind != "file" {
		return os.DevNull
	}
	return r.dir + "/samnode.gitconfig"
}

// tail keeps the last maxStderr bytes, and tells lines as they come. git ends
// progress with a carriage return.
type tail struct {
	line func(string)
	buf  []byte
	part []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if n := len(t.buf); n > 2*maxStderr {
		t.buf = append(t.buf[:0], t.buf[n-maxStderr:]...)
	}
	if t.line == nil {
		return len(p), nil
	}
	t.part = append(t.part, p...)
	for {
		i := bytes.IndexAny(t.part, "\r\n")
		if i < 0 {
			break
		}
		t.tell(t.part[:i])
		t.part = t.part[i+1:]
	}
	if len(t.part) > maxStderr {
		t.part = nil
	}
	return len(p), nil
}

func (t *tail) tell(b []byte) {
	if s := strings.TrimSpace(strings.ToValidUTF8(string(b), "\ufffd")); s != "" {
		t.line(s)
	}
}

func (t *tail) flush() {
	if t.line != nil {
		t.tell(t.part)
	}
}

func (t *tail) String() string {
	if len(t.buf) > maxStderr {
		return string(t.buf[len(t.buf)-maxStderr:])
	}
	return string(t.buf)
}

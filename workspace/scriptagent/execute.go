package scriptagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxLive   = 1 << 20 // output of a block that is sent as it comes
	maxTail   = 32 << 10
	readSize  = 32 << 10
	killAfter = 2 * time.Second        // between asking a block to end and killing it
	drain     = 500 * time.Millisecond // for what a block's background processes still print
)

// execute runs a block in a process group of its own and streams its output.
// The code is 128 + n for a block that signal n ended.
func (j *job) execute(call string, b block) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("making a pipe: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(shell(b.shell), "-e", "-c", b.code) //nolint:noctx // wait ends the whole group
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.v.Cwd, w, w
	cmd.Env = append(os.Environ(), j.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		j.update(call, map[string]any{"status": "failed", "content": textContent(err.Error())})
		return 0, fmt.Errorf("starting the shell: %w", err)
	}
	j.s.mu.Lock()
	out := &output{job: j, call: call, live: j.s.live}
	j.s.mu.Unlock()
	out.begin()
	read := make(chan struct{})
	go func() { defer close(read); out.copy(r) }()
	code := j.wait(cmd)
	select {
	case <-read:
	case <-time.After(drain): // a background process keeps the pipe
		r.Close()
		<-read
	}
	out.end(code)
	j.turn.Runs = append(j.turn.Runs, run{Call: call, Code: b.code, Output: string(out.tail), Exit: code})
	return code, nil
}

// shell falls back to sh where there is no bash.
func shell(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "sh"
}

// wait waits for the block and ends its process group when the turn is
// cancelled.
func (j *job) wait(cmd *exec.Cmd) int {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-j.ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // gone is fine
		select {
		case err = <-done:
		case <-time.After(killAfter):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			err = <-done
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the shell left behind
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// output streams what a block prints.
type output struct {
	job  *job
	call string
	live bool   // in parts as it comes, else once at the end
	sent int64  // bytes that went out
	left int64  // bytes that did not
	rest []byte // start of a character whose end has not come
	tail []byte // the last bytes
}

func (o *output) begin() {
	fields := map[string]any{"status": "in_progress"}
	if o.live {
		fields["content"] = []any{map[string]any{"type": "terminal", "terminalId": o.call}}
		fields["_meta"] = map[string]any{"terminal_info": map[string]any{"terminal_id": o.call, "cwd": o.job.v.Cwd}}
	}
	o.job.update(o.call, fields)
}

// copy reads until the pipe is closed on either side.
func (o *output) copy(r io.Reader) {
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			o.take(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (o *output) take(b []byte) {
	o.tail = append(o.tail, b...)
	if len(o.tail) > 2*maxTail {
		o.tail = append([]byte(nil), o.tail[len(o.tail)-maxTail:]...)
	}
	if !o.live || o.sent > maxLive {
		o.left += int64(len(b))
		return
	}
	b = append(o.rest, b...)
	n := whole(b)
	o.rest = append([]byte(nil), b[n:]...)
	o.send(string(b[:n]))
}

func (o *output) send(text string) {
	if text == "" {
		return
	}
	o.sent += int64(len(text))
	o.job.update(o.call, map[string]any{"_meta": map[string]any{
		"terminal_output_delta": map[string]any{"terminal_id": o.call, "data": text},
	}})
}

// whole is how many bytes of b end with a whole character.
func whole(b []byte) int {
	for n := 1; n <= min(3, len(b)); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return len(b) - n
			}
			break
		}
	}
	return len(b)
}

// fromWhole is b without the end of a character whose start was cut off.
func fromWhole(b []byte) []byte {
	for n := range min(4, len(b)) {
		if utf8.RuneStart(b[n]) {
			return b[n:]
		}
	}
	return b
}

// end sends what is missing and how the block ended.
func (o *output) end(code int) {
	if o.left > 0 {
		o.left, o.rest = o.left+int64(len(o.rest)), nil // its end came later
	}
	if len(o.tail) > maxTail {
		o.tail = o.tail[len(o.tail)-maxTail:]
	}
	if o.left > int64(len(o.tail)) {
		o.tail = fromWhole(o.tail)
	}
	status := "completed"
	if code != 0 {
		status = "failed"
	}
	fields := map[string]any{"status": status, "rawOutput": map[string]any{"exit_code": code}}
	if o.live {
		o.send(string(o.rest))
		if o.left > int64(len(o.tail)) {
			o.send(fmt.Sprintf("\n… %d bytes left out …\n", o.left-int64(len(o.tail))))
		}
		if o.left > 0 {
			o.send(string(o.tail[max(0, int64(len(o.tail))-o.left):]))
		}
	} else {
		fields["content"] = textContent(string(o.tail))
	}
	fields["_meta"] = map[string]any{"terminal_exit": map[string]any{"terminal_id": o.call, "exit_code": code, "signal": nil}}
	o.job.update(o.call, fields)
}

func textContent(text string) []any {
	return []any{map[string]any{"type": "content", "content": map[string]any{"type": "text", "text": text}}}
}

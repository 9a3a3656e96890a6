package shim

import (
	"fmt"
	"os"
	"slices"
	"syscall"
)

// pipeNames are the names that /proc gives to pipes.
func pipeNames(pipes [3]*os.File) ([]string, error) {
	var names []string
	for _, f := range pipes {
		info, err := f.Stat() // Fd would make it block
		if err != nil {
			return nil, fmt.Errorf("naming a pipe: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, fmt.Errorf("naming a pipe: it has no inode")
		}
		names = append(names, fmt.Sprintf("pipe:[%d]", st.Ino))
	}
	return names, nil
}

// hangUp tells a command that its caller has left: SIGHUP to those of its
// processes that still read or write what the caller gave. A server that
// closed or redirected these lives on, as it would with OpenSSH; editors count
// on that, and start theirs with neither nohup nor setsid.
func (c *proc) hangUp(given []string) {
	for _, pid := range c.members() {
		if holds(pid, given) {
			_ = syscall.Kill(pid, syscall.SIGHUP) // ESRCH: gone, as wished
		}
	}
}

// members are the live processes of the command's session.
func (c *proc) members() []int {
	var found []int
	for _, pid := range pids() {
		if s, err := readStat(pid); err == nil && s.session == c.pid {
			found = append(found, pid)
		}
	}
	return found
}

// holds says whether one of the pipes, as /proc names them, is a process'
// input or output.
func holds(pid int, pipes []string) bool {
	for fd := range 3 {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		if err == nil && slices.Contains(pipes, name) {
			return true
		}
	}
	return false
}

package sshd

import (
	"net"
	"os/exec"
	"strings"
	"testing"
)

// TestTurnAway: the stock client shows the words, and what is no ssh client gets
// no more than our version.
func TestTurnAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ended <- TurnAway(c, "ask a core node: ssh TASK@samnode-a")
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ssh := exec.CommandContext(t.Context(), "ssh", "-F", "/dev/null", "-p", port, "me@127.0.0.1")
	out := make(chan string)
	go func() {
		said, _ := ssh.CombinedOutput() // its code is looked at below
		out <- string(said)
	}()
	if err := <-ended; err != nil {
		t.Errorf("TurnAway = %v", err)
	}
	if said := <-out; ssh.ProcessState.ExitCode() != 255 || !strings.Contains(said, "samnode: ask a core node: ssh TASK@samnode-a") {
		t.Errorf("ssh exits with %d and says %q", ssh.ProcessState.ExitCode(), said)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "no ssh client") {
		t.Errorf("with HTTP: %v", err)
	}
}

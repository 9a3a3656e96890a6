package sshd

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkAgainstOpenSSH does the same with this server and with OpenSSH's own
// in one run, with OpenSSH's clients, and reports ours divided by theirs: above
// 1 is more throughput, or more latency.
func BenchmarkAgainstOpenSSH(b *testing.B) {
	h := open(b)
	h.options("Ciphers aes128-gcm@openssh.com")
	theirs := h.openSSH()
	const size = 256 << 20
	file := filepath.Join(h.dir, "large")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		b.Fatal(err)
	}
	source := sourceOf(b, size)
	speed := func(program string, args func(host string) []string) func(*testing.B) {
		return func(b *testing.B) {
			var took [2]time.Duration
			for b.Loop() {
				for i, host := range []string{"node", theirs} {
					began := time.Now()
					var out counted // a buffer's growth would be most of it
					cmd := h.client(program, args(host)...)
					cmd.Stdout = &out
					if err := cmd.Run(); err != nil || program == "ssh" && out != size {
						b.Fatalf("%s by %s: %v, %d bytes", program, host, err, out)
					}
					took[i] += time.Since(began)
				}
			}
			b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "throughput-ratio")
			b.ReportMetric(float64(b.N)*size/(1<<20)/took[0].Seconds(), "MiB/s")
		}
	}
	b.Run("sftp there", speed("scp", func(host string) []string { return []string{file, host + ":" + h.dir + "/copy"} }))
	b.Run("sftp back", speed("scp", func(host string) []string { return []string{host + ":" + file, filepath.Join(b.TempDir(), "copy")} }))
	b.Run("forwarded port", speed("ssh", func(host string) []string { return []string{"-W", source, host} }))
	b.Run("key press", func(b *testing.B) {
		ours, other := h.keys("node"), h.keys(theirs)
		var took [2]time.Duration
		for b.Loop() {
			took[0] += ours(b)
			took[1] += other(b)
		}
		b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "latency-ratio")
		b.ReportMetric(float64(took[0].Microseconds())/float64(b.N), "us/key")
	})
}

// counted is how many bytes were written.
type counted int64

func (c *counted) Write(b []byte) (int, error) {
	*c += counted(len(b))
	return len(b), nil
}

// sourceOf is an address that sends so many bytes.
func sourceOf(b *testing.B, size int64) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(c, zeros{}, size) // what arrives is waited for
			c.Close()
		}
	}()
	return l.Addr().String()
}

// openSSH runs OpenSSH's server and tells the client of it.
func (h *house) openSSH() (host string) {
	h.t.Helper()
	const server = "/usr/sbin/sshd"
	me, err := user.Current()
	if _, missing := os.Stat(server); err != nil || missing != nil {
		h.t.Skipf("needs %s: %v", server, missing)
	}
	dir := h.t.TempDir()
	key, mine := filepath.Join(dir, "host"), filepath.Join(dir, "mine")
	for _, k := range []string{key, mine} {
		if out, err := exec.CommandContext(h.t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", k).CombinedOutput(); err != nil {
			h.t.Fatalf("ssh-keygen: %v %s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	config := filepath.Join(dir, "config")
	write(h.t, config, fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s.pub\nStrictModes no\nPidFile none\nSubsystem sftp internal-sftp\nUsePAM no\nPermitRootLogin yes\n", port, key, mine))
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // it insists
		h.t.Skip(err)
	}
	cmd := exec.Command(server, "-D", "-f", config)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it does not end by itself
		_ = cmd.Wait()
	})
	h.options(fmt.Sprintf("Host openssh\n  HostName 127.0.0.1\n  Port %s\n  User %s\n  IdentityFile %s\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  Ciphers aes128-gcm@openssh.com\nHost *", port, me.Username, mine))
	eventually(h.t, "OpenSSH's server answers", func() bool { _, _, code := h.run("", "openssh", "true"); return code == 0 })
	return "openssh"
}

// keys presses one at a terminal there, and waits until it is shown.
func (h *house) keys(host string) func(testing.TB) time.Duration {
	h.t.Helper()
	cmd := h.client("ssh", "-tt", host, "stty -icanon; echo ready; exec cat >/dev/null")
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it does not end by itself
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\r\n"))); err != nil {
		h.t.Fatal(err)
	}
	return func(t testing.TB) time.Duration {
		began := time.Now()
		_, err := in.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(out, make([]byte, 1))
		}
		if err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// forwarding runs samnode forward until the test ends and returns where it
// listens. It is a process of its own, whose memory is looked at.
func forwarding(t *testing.T, n *testNode, args ...string) (at []string, cmd *exec.Cmd, errs *lockedBuffer) {
	t.Helper()
	out, errs := &lockedBuffer{}, &lockedBuffer{}
	cmd = exec.Command(n.bin, append([]string{"--api", n.url, "forward", "--json"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // Wait says whether it took it
		if err := cmd.Wait(); err != nil {
			t.Errorf("the end of samnode forward: %v: %s", err, errs)
		}
	})
	(&testMesh{t: t}).await("forwarded ports: "+errs.String(), func() bool { return strings.Count(out.String(), "\n") == len(args)-1 })
	for d := json.NewDecoder(strings.NewReader(out.String())); d.More(); {
		var v struct{ Listen string }
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		at = append(at, v.Listen)
	}
	return at, cmd, errs
}

// resident is a process's memory, at its highest.
func resident(t *testing.T, cmd *exec.Cmd) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// portsForward carries much and many, and says what is wrong.
func portsForward(t *testing.T, n *testNode, task string) {
	t.Helper()
	at, cmd, errs := forwarding(t, n, task, "0:3000", "0:4000")
	const size = 128 << 20
	sum := sha256.New()
	clientWas, nodeWas := resident(t, cmd), resident(t, n.cmd)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at[0]+"/post-own", io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), sum))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if want := hex.EncodeToString(sum.Sum(nil)); string(got) != want || err != nil {
		t.Errorf("%d bytes arrived as %s, %v, want %s", size, got, err, want)
	}
	for range 2 {
		resp, err = http.Get("http://" + at[0] + "/big")
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if back != 64<<20 || err != nil {
			t.Errorf("%d bytes came back, %v", back, err)
		}
	}
	here, there := resident(t, cmd)-clientWas, resident(t, n.cmd)-nodeWas
	t.Logf("%d MiB each way: the client grew by %d MiB, the node by %d", size>>20, here>>20, there>>20)
	if here > 64<<20 || there > 96<<20 {
		t.Errorf("memory grew by %d and %d MiB", here>>20, there>>20)
	}
	var wg sync.WaitGroup
	var open sync.WaitGroup
	open.Add(200)
	for i := range 200 {
		wg.Go(func() {
			c, err := net.Dial("tcp", at[0])
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			open.Wait()
			fmt.Fprintf(c, "GET /me HTTP/1.0\r\nHost: conn%d\r\n\r\n", i)
			answer, err := io.ReadAll(c)
			if !bytes.Contains(answer, fmt.Appendf(nil, `"host": "conn%d"`, i)) || err != nil {
				t.Errorf("connection %d answers %q, %v", i, answer, err)
			}
		})
	}
	wg.Wait()
	if c, err := net.Dial("tcp", at[1]); err != nil {
		t.Error(err)
	} else {
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("a closed port says %q, %v", b, err)
		}
		c.Close()
	}
	(&testMesh{t: t}).await("a word on the closed port", func() bool {
		return strings.Contains(errs.String(), "port 4000: ") && strings.Contains(errs.String(), "refused")
	})
	n.kill()
	n.start()
	(&testMesh{t: t}).await("the port after the node's restart", func() bool {
		resp, err := http.Get("http://" + at[0] + "/me")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	forwardRefusals(t, n, task, at[0])
}

func forwardRefusals(t *testing.T, n *testNode, task, used string) {
	t.Helper()
	_, usedPort, _ := net.SplitHostPort(used)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{task, "70000"}, exitUsage, "is not [LOCAL:]PORT"},
		{[]string{task, "0"}, exitUsage, "is not [LOCAL:]PORT"},
		{[]string{task}, exitUsage, "requires at least 2"},
		{[]string{task, usedPort + ":3000"}, exitFailed, "is in use"},
		{[]string{"nosuchtask", "0:3000"}, exitRefused, "There is no task"},
	} {
		if _, errs, code := n.cli(append([]string{"forward"}, c.args...)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("forward %q = %d: %s", c.args, code, errs)
		}
	}
	must[taskView](n, "task", "release", task)
	(&testMesh{t: t}).await("no workspace", func() bool {
		_, errs, code := n.cli("forward", task, "0:3000")
		return code == exitRefused && strings.Contains(errs, "samnode task retry "+task)
	})
	if _, errs, code := n.cli("task", "ports", task); code != exitRefused || !strings.Contains(errs, "no workspace") {
		t.Errorf("task ports without a workspace = %d: %s", code, errs)
	}
}

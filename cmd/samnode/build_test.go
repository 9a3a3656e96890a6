package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// gateway is where containers on the engine's own bridge find this machine.
func gateway(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", "network", "inspect", "bridge", "--format", `{{index .Options "com.docker.network.bridge.name"}}`).Output()
	if err != nil {
		t.Skipf("the engine has no bridge: %v", err)
	}
	bridge, err := net.InterfaceByName(strings.TrimSpace(string(out)))
	if err != nil {
		t.Skipf("the engine's bridge is not on this machine: %v", err)
	}
	addrs, err := bridge.Addrs()
	if err != nil || len(addrs) == 0 {
		t.Skipf("the engine's bridge has no address: %v", err)
	}
	ip, _, err := net.ParseCIDR(addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return ip.String()
}

// answer serves one word at an address of this machine and returns its host and port.
func answer(t *testing.T, ip, word string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, word)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return l.Addr().String()
}

// TestBuildNetwork: a dev container's build runs as root, and reaches what the
// project's list opens and nothing else.
func TestBuildNetwork(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	host := answer(t, gateway(t), "HOST-REACHED")
	local := answer(t, "127.0.0.1", "LOCAL-REACHED")
	listed := answer(t, "127.0.0.1", "listed answers")
	label := "samnode-test=" + strings.ReplaceAll(listed, ":", "-")
	t.Cleanup(func() {
		script := `docker images -q --filter label=$0 | sort -u | xargs -r docker rmi -f`
		if out, err := exec.CommandContext(context.Background(), "sh", "-c", script, label).CombinedOutput(); err != nil {
			t.Logf("removing the image: %v %s", err, out)
		}
	})
	dockerfile := "FROM " + defaultImage + "\nUSER root\nLABEL " + label + `
RUN (id -u; ls /sys/class/net; \
	for u in http://` + host + ` http://` + local + ` http://169.254.169.254; do \
		curl -s -m 5 --noproxy '*' $u || echo "direct: none"; \
		echo "asked: $(curl -s -m 5 --noproxy '' -o /dev/null -w '%{http_code}' $u)"; \
	done; \
	curl -s -m 5 --noproxy '' http://` + listed + ` || echo no) >/probe
USER 1000
`
	repo := localRepo(t, map[string]string{
		".devcontainer/devcontainer.json": `{"build": {"dockerfile": "Dockerfile"}}`,
		".devcontainer/Dockerfile":        dockerfile,
	})
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything", "--egress", "listed", "--allow", listed)
	task := must[taskView](n, "task", "run", "--project", "app", "--wait", "Look\n\n```sh\ncat /probe\n```\n")
	if task.State != chat.Idle {
		t.Fatalf("task = %+v", task)
	}
	const want = "0\nlo\ndirect: none\nasked: 403\ndirect: none\nasked: 403\ndirect: none\nasked: 403\nlisted answers"
	checkItems(t, n.items(task.ID), want)
	left, err := exec.CommandContext(t.Context(), "docker", "ps", "-aq", "--filter", "label=samnode.task="+string(task.ID), "--filter", "name=-build").Output()
	if err != nil || len(left) > 0 {
		t.Errorf("containers left of the build = %q, %v", left, err)
	}
}

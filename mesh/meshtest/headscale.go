package meshtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/net/netns"

	"github.com/samnode/samnode/mesh/tailnet"
)

// Headscale is a real control server with a relay: what ControlServer cannot
// do, which is roles by grants, keys that work once, and devices that vanish.
type Headscale struct {
	URL     string
	program string
	config  string
	apiKey  string
	cmd     *exec.Cmd
	users   map[string]string // :: name → id
}

// HeadscaleServer runs the headscale that HEADSCALE names, or the one on PATH,
// until the test ends. Without one the test is skipped. Its people are alice,
// who owns everything, bob, who is a member of p1 and p2, and carol, to whom
// the policy grants nothing.
func HeadscaleServer(t testing.TB) *Headscale {
	t.Helper()
	program, err := exec.LookPath(cmp.Or(os.Getenv("HEADSCALE"), "headscale"))
	if err != nil {
		t.Skip("no headscale here: put one on PATH, or name it with HEADSCALE=/path/to/headscale (0.29.1 is known to do)")
	}
	if err := tailnet.CheckInterfaces(); errors.Is(err, tailnet.ErrNoInterface) {
		t.Skipf("no tailnet here: %v", err)
	}
	netns.SetEnabled(false)
	envknob.Setenv("TS_DISABLE_PORTMAPPER", "1")
	envknob.Setenv("TS_DEBUG_USE_DERP_HTTP", "1") // its relay has no certificate here
	h := &Headscale{program: program, users: make(map[string]string)}
	h.configure(t)
	h.start(t)
	t.Logf("headscale %s", strings.TrimSpace(h.run(t, "version")))
	h.apiKey = strings.TrimSpace(h.run(t, "apikeys", "create"))
	for _, name := range []string{"alice", "bob", "carol"} {
		var made struct{ User struct{ ID string } }
		h.call(t, "/api/v1/user", map[string]string{"name": name}, &made)
		h.users[name] = made.User.ID
	}
	return h
}

func (h *Headscale) configure(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	h.config = filepath.Join(dir, "config.yaml")
	fill := map[string]any{"Dir": dir, "STUN": UDPPort(t), "Cap": tailnet.DefaultCapability, "Tag": tailnet.DefaultTag}
	for _, name := range []string{"HTTP", "Metrics", "GRPC"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		fill[name] = l.Addr().String()
		l.Close()
	}
	h.URL = fmt.Sprint("http://", fill["HTTP"])
	for file, text := range map[string]string{"config.yaml": headscaleConfig, "policy.hujson": headscalePolicy, "records.json": "[]"} {
		var b bytes.Buffer
		if err := template.Must(template.New(file).Parse(text)).Execute(&b, fill); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *Headscale) start(t testing.TB) {
	t.Helper()
	var log bytes.Buffer
	h.cmd = exec.Command(h.program, "serve", "-c", h.config)
	h.cmd.Stdout, h.cmd.Stderr = &log, &log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Kill(t)
		if t.Failed() {
			t.Logf("headscale: %s", &log)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(h.URL + "/health")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("headscale does not start: %v", err)
		}
	}
}

// Kill ends the server and its relay at once.
func (h *Headscale) Kill(t testing.TB) {
	t.Helper()
	if h.cmd == nil {
		return
	}
	if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("killing headscale: %v", err)
	}
	h.cmd.Wait() // it was killed
	h.cmd = nil
}

func (h *Headscale) run(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.program, append([]string{"-c", h.config}, args...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("headscale %s: %v %s %s", strings.Join(args, " "), err, out, &complaints)
	}
	return string(out)
}

func (h *Headscale) call(t testing.TB, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.apiKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s %s %v", path, resp.Status, data, err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		t.Fatalf("POST %s: %s: %v", path, data, err)
	}
}

// NodeKey makes a key that lets one node in, with the tag.
func (h *Headscale) NodeKey(t testing.TB, ephemeral bool) string {
	t.Helper()
	return h.key(t, map[string]any{"ephemeral": ephemeral, "aclTags": []string{tailnet.DefaultTag}})
}

// PersonKey makes a key that lets one device of a person in.
func (h *Headscale) PersonKey(t testing.TB, person string) string {
	t.Helper()
	return h.key(t, map[string]any{"user": h.users[person], "ephemeral": true})
}

func (h *Headscale) key(t testing.TB, ask map[string]any) string {
	t.Helper()
	ask["reusable"], ask["expiration"] = false, time.Now().Add(10*time.Minute).UTC().Format(time.RFC3339)
	var made struct{ PreAuthKey struct{ Key string } }
	h.call(t, "/api/v1/preauthkey", ask, &made)
	return made.PreAuthKey.Key
}

const headscaleConfig = `
server_url: http://{{.HTTP}}
listen_addr: {{.HTTP}}
metrics_listen_addr: {{.Metrics}}
grpc_listen_addr: {{.GRPC}}
grpc_allow_insecure: true
noise: {private_key_path: {{.Dir}}/noise_private.key}
prefixes: {v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: local
    region_name: local embedded DERP
    verify_clients: true
    stun_listen_addr: 127.0.0.1:{{.STUN}}
    private_key_path: {{.Dir}}/derp_server_private.key
    automatically_add_embedded_derp_region: true
    ipv4: 127.0.0.1
    ipv6: "none"
  urls: []
  paths: []
  auto_update_enabled: false
disable_check_updates: true
node: {expiry: 0, ephemeral: {inactivity_timeout: 2m}}
database: {type: sqlite, sqlite: {path: {{.Dir}}/db.sqlite, write_ahead_log: true}}
policy: {mode: file, path: {{.Dir}}/policy.hujson}
dns:
  magic_dns: true
  base_domain: sam.internal
  override_local_dns: false
  nameservers: {global: []}
  extra_records_path: {{.Dir}}/records.json
unix_socket: {{.Dir}}/headscale.sock
logtail: {enabled: false}
taildrop: {enabled: false}
tuning: {node_store_batch_size: 100, node_store_batch_timeout: 10ms, batch_change_delay: 50ms}
`

const headscalePolicy = `{
  "groups": {"group:owners": ["alice@"], "group:members": ["bob@"]},
  "tagOwners": {"{{.Tag}}": ["alice@"]},
  "nodeAttrs": [{"target": ["*"], "attr": ["cache-network-maps"]}],
  "grants": [
    {"src": ["{{.Tag}}"], "dst": ["{{.Tag}}"], "ip": ["*"]},
    // All ports, so that it is the nodes that refuse people on those of nodes.
    {"src": ["autogroup:member"], "dst": ["{{.Tag}}"], "ip": ["*"]},
    {"src": ["group:owners"], "dst": ["{{.Tag}}"], "app": {"{{.Cap}}": [{"role": "owner", "projects": ["*"]}]}},
    {"src": ["group:members"], "dst": ["{{.Tag}}"], "app": {"{{.Cap}}": [{"role": "member", "projects": ["p1", "p2"]}]}}
  ]
}`

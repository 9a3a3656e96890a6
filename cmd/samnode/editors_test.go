package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/samnode/samnode/chat"
)

// TestVSCode follows the steps of VS Code's Remote-SSH with the stock client: it
// places a server in the workspace, by a download through the broker, reaches it
// by ssh -D, and finds it, with its session, after the connection broke. Its own
// server stands in for the real one, which no registry of packages has.
func TestVSCode(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	from, asked := vscodeDownloads(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything", "--egress", "listed", "--allow", from)
	v := must[taskView](n, "task", "run", "--project", "app", "--wait", sh("echo hello > hello.txt"))
	e := &vscode{t: t, c: newSSHClient(t, n), to: string(v.ID) + "@samnode"}

	first := e.connect("http://" + from + vscodePath)
	if first.said["download"] != "200" || first.said["unpackResult"] != "success" || first.said["platform"] != "linux" {
		t.Fatalf("the first connection says %v", first.said)
	}
	if got := asked.String(); got != vscodePath+"\n/stable/server.tar.gz\n" {
		t.Errorf("the download asked for %s", got)
	}
	if got := first.version(); got != vscodeCommit {
		t.Errorf("the server's version is %q", got)
	}
	if got := first.talk("tab", false, "hello"); got != "1: hello" {
		t.Errorf("the server says %q", got)
	}
	second := e.connect("http://" + from + vscodePath) // another window
	if second.said["listeningOn"] != first.said["listeningOn"] || second.said["download"] != "" {
		t.Errorf("another window did not find the server: %v, then %v", first.said, second.said)
	}
	first.drop()
	second.drop()
	again := e.connect("http://" + from + vscodePath)
	if again.said["pid"] != first.said["pid"] {
		t.Errorf("the server of the first connection is gone: %v, then %v", first.said, again.said)
	}
	if got := again.talk("tab", true, "back"); got != "2: back" {
		t.Errorf("the session that was lost says %q", got)
	}
	if out, _, _ := e.c.run("", "ssh", e.to, "git status --short"); out != "" {
		t.Errorf("the editor's server is in the working copy: %s", out)
	}
}

// TestEditorsUpload: where the project lets nothing in, editors bring their
// servers themselves.
func TestEditorsUpload(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything", "--egress", "none")
	v := must[taskView](n, "task", "run", "--project", "app", "--wait", sh("echo hello > hello.txt"))
	e := &vscode{t: t, c: newSSHClient(t, n), to: string(v.ID) + "@samnode"}
	w := e.connect("https://update.code.visualstudio.com" + vscodePath)
	if strings.Contains(w.said["download"], "200") || w.said["destFolder"] != "/home/agent/.vscode-server/bin/"+vscodeCommit {
		t.Errorf("the connection says %v", w.said)
	}
	if got := w.version(); got != vscodeCommit {
		t.Errorf("the server's version is %q", got)
	}
	zed(t, e.c, e.to)
}

// zed follows the steps of Zed, which names its server's place from home: it
// looks at the machine, uploads, and talks to its server over a command's input
// and output, that of a proxy to one which stays.
func zed(t *testing.T, c *sshClient, to string) {
	t.Helper()
	if out, errs, code := c.run("", "ssh", to, "sh -c 'uname -sm'"); !strings.HasPrefix(out, "Linux ") || code != 0 {
		t.Errorf("uname = %q, %q, %d", out, errs, code)
	}
	if _, errs, code := c.run("-mkdir .zed_server\nput testdata/zed-server .zed_server/zed-0.210.4\n", "sftp", "-b", "-", to); code != 0 {
		t.Errorf("sftp of the server = %d: %s", code, errs)
	}
	for i, line := range []string{"hello", "again"} {
		run := "cd; chmod 755 .zed_server/zed-0.210.4; .zed_server/zed-0.210.4 version; exec .zed_server/zed-0.210.4 proxy --identifier workspace-1"
		out, errs, code := c.run(line+"\n", "ssh", "-T", to, run)
		if want := fmt.Sprintf("0.210.4\n%d: %s\n", i+1, line); out != want || code != 0 {
			t.Errorf("the server behind its proxy = %q, %q, %d, want %q", out, errs, code, want)
		}
	}
	if out, _, _ := c.run("", "ssh", to, "git status --short"); out != "" {
		t.Errorf("an editor's server is in the working copy: %s", out)
	}
}

const (
	vscodeCommit = "258e40fedc6cb8edf399a463ce3a9d32e7e1f6f3"
	vscodePath   = "/commit:" + vscodeCommit + "/server-linux-x64/stable"
)

// vscodeDownloads is the place that servers are downloaded from: it sends on to
// where they are, as Microsoft's does. Not 127.0.0.1, which is never asked for by
// way of a proxy.
func vscodeDownloads(t *testing.T) (host string, asked *lockedBuffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = &lockedBuffer{}
	archive := vscodeArchive(t)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(asked, r.URL.Path)
		switch r.URL.Path {
		case vscodePath:
			http.Redirect(w, r, "/stable/server.tar.gz", http.StatusFound)
		case "/stable/server.tar.gz":
			w.Write(archive)
		default:
			http.NotFound(w, r)
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String(), asked
}

func vscodeArchive(t *testing.T) []byte {
	t.Helper()
	server, err := os.ReadFile("testdata/vscode/code-server")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, err := range []error{
		w.WriteHeader(&tar.Header{Name: "vscode-server-linux-x64/bin/code-server", Mode: 0o755, Size: int64(len(server))}),
		func() error { _, err := w.Write(server); return err }(),
		w.Close(), z.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// vscode is an editor with a host.
type vscode struct {
	t  *testing.T
	c  *sshClient
	to string
}

// window is one connection: an ssh with a SOCKS proxy, and what the script at the
// other end said.
type window struct {
	t    *testing.T
	cmd  *exec.Cmd
	http *http.Client
	said map[string]string
}

// connect runs ssh -T -D, gives its shell the script, and waits for its end.
func (e *vscode) connect(download string) *window {
	e.t.Helper()
	script, err := os.ReadFile("testdata/vscode/install.sh")
	if err != nil {
		e.t.Fatal(err)
	}
	socks := freePort(e.t)
	id := fmt.Sprintf("%012x", time.Now().UnixNano())[:12]
	w := &window{t: e.t, said: map[string]string{}, http: socksClient(e.t, socks)}
	w.cmd = e.c.command("ssh", "-T", "-D", socks, "-o", "ConnectTimeout=15", e.to, "bash")
	in, errIn := w.cmd.StdinPipe()
	out := &lockedBuffer{}
	w.cmd.Stdout = out
	if err := firstError(errIn, w.cmd.Start()); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(w.drop)
	if _, err := fmt.Fprintf(in, "ID=%s COMMIT=%s DOWNLOAD=%s\n%s\n", id, vscodeCommit, download, script); err != nil {
		e.t.Fatal(err)
	}
	uploaded := false
	(&testMesh{t: e.t}).await("the script's end", func() bool {
		text := out.String()
		if strings.Contains(text, id+":trigger_server_download_end") && !uploaded {
			uploaded = true
			e.upload(field.FindAllStringSubmatch(text, -1))
		}
		return strings.Contains(text, id+": end")
	})
	for _, f := range field.FindAllStringSubmatch(out.String(), -1) {
		w.said[f[1]] = f[2]
	}
	return w
}

var field = regexp.MustCompile(`(?m)^(\w+)==(.*)==$`)

// upload is what the client does when the host cannot download.
func (e *vscode) upload(said [][]string) {
	e.t.Helper()
	folder := ""
	for _, f := range said {
		if f[1] == "destFolder" {
			folder = f[2]
		}
	}
	file := filepath.Join(e.t.TempDir(), "vscode-server.tar.gz")
	if err := firstError(os.WriteFile(file, vscodeArchive(e.t), 0o600), os.WriteFile(file+".done", nil, 0o600)); err != nil {
		e.t.Fatal(err)
	}
	for _, f := range []string{file, file + ".done"} {
		if _, errs, code := e.c.run("", "scp", f, e.to+":"+folder+"/"); code != 0 {
			e.t.Errorf("scp of the server = %d: %s", code, errs)
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func socksClient(t *testing.T, port string) *http.Client {
	proxy := &url.URL{Scheme: "socks5", Host: "127.0.0.1:" + port}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// drop breaks the connection without a word.
func (w *window) drop() {
	if w.cmd.ProcessState == nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait() // says that it was killed
	}
}

// version asks the server what it is.
func (w *window) version() string {
	w.t.Helper()
	resp, err := w.http.Get("http://127.0.0.1:" + w.said["listeningOn"] + "/version")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// talk says something in a session of the server, and returns its answer.
func (w *window) talk(session string, again bool, text string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	q := url.Values{"reconnectionToken": {session}, "reconnection": {fmt.Sprint(again)}, "skipWebSocketFrames": {"false"}, "tkn": {w.said["connectionToken"]}}
	conn, _, err := websocket.Dial(ctx, "ws://127.0.0.1:"+w.said["listeningOn"]+"/?"+q.Encode(), &websocket.DialOptions{HTTPClient: w.http})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		w.t.Fatal(err)
	}
	_, b, err := conn.Read(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

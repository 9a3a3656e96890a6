package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

// TestHostileText: text of every kind in every field is kept as text or
// refused with a sentence; the pages show none of it as markup.
func TestHostileText(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	repo := localRepo(t, nil)
	must[chat.Project](n, "project", "add", "app", "--repo", repo, "--mode", "everything")
	hostile := []string{"<script>alert(1)</script>", "a\x00b", "a\nb", "a\u202egpj.exe", "--upload-pack=touch", strings.Repeat("x", 5000), "../../etc", "", "caf\u00e9 \U0001f600", "\xff\xfe"}
	for _, h := range hostile {
		for _, args := range [][]string{
			{"project", "add", "--repo", repo, "--", h},
			{"project", "add", "p" + strings.ToLower(chat.NewID()[16:]), "--repo=" + h},
			{"project", "add", "q" + strings.ToLower(chat.NewID()[16:]), "--repo=" + repo, "--branch=-" + h},
			{"task", "run", "--project=" + h, "hello"},
			{"task", "run", "--project=app", "--mode=x" + h, "hello"},
			{"task", "show", "--", "t" + h},
			{"task", "merge", "--method=" + h, "--", "t" + h},
		} {
			out, errs, code := n.cli(args...)
			switch {
			case code == exitDone && args[0] == "project" && strings.HasPrefix(args[2], "p"):
				// A path that may exist one day.
			case code != exitUsage && code != exitFailed:
				t.Errorf("samnode %.80q exits with %d: %.300s%.300s", args, code, out, errs)
			case errs == "" || len(errs) > 4000 || strings.ContainsAny(errs, "\x00\x1b\u202e"):
				t.Errorf("samnode %.80q says %.300q", args, errs)
			}
		}
	}
	for _, h := range []string{"ext::sh -c touch% /tmp/x", "http://u:secret@host/x.git", "file://host/x", "https://host/?q=1", "-oProxyCommand=x:y"} {
		_, errs, code := n.cli("project", "add", "bad", "--repo="+h)
		if code != exitUsage || !strings.Contains(errs, "cannot be used") || strings.Contains(errs, "secret@") {
			t.Errorf("repository %q: exits with %d: %s", h, code, errs)
		}
	}
	huge := strings.Repeat("y", 10<<20)
	if resp, body := n.post("/api/v1/tasks", `{"project":"app","text":"`+huge+`"}`); resp != http.StatusRequestEntityTooLarge || len(body) > 1000 {
		t.Errorf("10 MiB of text: %d %.300s", resp, body)
	}
	v := n.runIdle("app", "<script>alert('title')</script> \u202egpj \x1b[31m<img src=x onerror=alert(2)>\n\n```sh\n"+
		`printf '<script>alert(3)</script>\033[2J\377\376\n'`+"\n"+
		`echo x > '<img src=x onerror=alert(4)>.txt'; echo y > "$(printf 'new\nline')"; echo z > "$(printf 'bad\377utf8')"; echo w > "$(printf 'right\342\200\256left')"`+"\n```\n")
	if v.Change.Files != 4 || !v.Change.Pushed {
		t.Errorf("change = %+v, want four pushed files", v.Change)
	}
	for _, path := range []string{"/", "/p/app", "/t/" + string(v.ID), "/t/" + string(v.ID) + "/diff", "/t/" + string(v.ID) + "/files", "/search?q=" + url.QueryEscape("<script>")} {
		code, body := n.get(path)
		if code != http.StatusOK && code != http.StatusNotFound {
			t.Errorf("GET %s = %d", path, code)
		}
		for _, bad := range []string{"<script>alert", "<img src=x", "\x1b", "\u202e"} {
			if strings.Contains(body, bad) {
				t.Errorf("GET %s has %q as it is", path, bad)
			}
		}
	}
}

func (n *testNode) get(path string) (int, string) {
	n.t.Helper()
	resp, err := http.Get(n.url + path)
	if err != nil {
		n.t.Fatal(err)
	}
	return readAll(n.t, resp)
}

func (n *testNode) post(path, body string) (int, string) {
	n.t.Helper()
	resp, err := http.Post(n.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	return readAll(n.t, resp)
}

func readAll(t testing.TB, resp *http.Response) (int, string) {
	t.Helper()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// TestSentTwice: a form or a call that arrives twice is one task, one message.
func TestSentTwice(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	id := chat.NewID()
	body := fmt.Sprintf(`{"id":%q,"project":"app","text":%q}`, id, sh("echo once >> once.txt"))
	for range 3 {
		if code, out := n.post("/api/v1/tasks", body); code != http.StatusCreated {
			t.Fatalf("POST tasks = %d %s", code, out)
		}
	}
	task := chat.TaskID(id)
	n.until(task, "idle", func(v taskView) bool { return v.State == chat.Idle })
	msg := fmt.Sprintf(`{"id":%q,"text":%q}`, chat.NewID(), sh("echo twice >> once.txt"))
	for range 3 {
		if code, out := n.post("/api/v1/tasks/"+id+"/messages", msg); code >= 300 {
			t.Fatalf("POST messages = %d %s", code, out)
		}
	}
	v := n.until(task, "idle after two turns", func(v taskView) bool {
		return v.State == chat.Idle && v.Turn != nil && v.Turn.Number == 2 && len(v.Queue) == 0
	})
	p := must[chat.Project](n, "project", "show", "app")
	if got := gitIn(t, p.Repo, "show", v.Branch+":once.txt"); got != "once\ntwice" {
		t.Errorf("once.txt = %q", got)
	}
	users := 0
	for _, m := range n.latest(task) {
		if m.Kind == chat.KindUser {
			users++
		}
	}
	if list := must[[]taskView](n, "task", "list"); len(list) != 1 || users != 2 {
		t.Errorf("%d tasks, %d messages of the person; want 1 and 2", len(list), users)
	}
}

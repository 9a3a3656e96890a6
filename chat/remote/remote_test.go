package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

func TestAWorkerRunsATask(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "Fix the parser").ID
	m.NewTask(t, "demo", "Something else")
	token := place(t, m.Kit, id, node)
	tasks, next := m.next(t, 0)
	if diff := cmp.Diff([]chat.Task{m.Get(t, id)}, tasks); diff != "" {
		t.Errorf("the worker's tasks (-want +got):\n%s", diff)
	}
	project, err := m.worker.Project("demo")
	want, _ := m.Room.Project("demo")
	if diff := cmp.Diff(want, project); err != nil || diff != "" {
		t.Errorf("project = %v (-want +got):\n%s", err, diff)
	}
	m.must(t, chat.Op{StepSet: &chat.StepSet{Task: id, Token: token, Name: chat.StepAgent, State: chat.StepDone}})
	m.must(t, chat.Op{Session: &chat.Session{Task: id, Token: token, Session: "s1"}})
	prompt := m.Get(t, id).Queue[0].ID
	m.must(t, chat.Op{TurnSet: &chat.TurnSet{Task: id, Token: token, Turn: "turn-1", Prompt: prompt, Delivery: chat.Sent}})
	text, err := m.worker.Message(t.Context(), id, prompt)
	if err != nil || text.Text != "Fix the parser" {
		t.Errorf("the prompt = %+v, %v", text, err)
	}
	index := m.must(t, chat.Op{Items: &chat.Items{Task: id, Token: token, Workspace: 1, Upto: 1, Items: []chat.Item{{ID: "a1", Kind: chat.KindAgent, Source: 1, Text: "Done."}}}})
	if got, err := m.worker.Task(string(id)); err != nil || got.Index != index || got.Cursor != 1 {
		t.Errorf("the task after what the worker did = %+v, %v, want index %d", got, err, index)
	}
	m.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: id}}) // what others do comes by itself
	for stopping := false; !stopping; {
		tasks, next = m.next(t, next)
		stopping = tasks[len(tasks)-1].Stopping
	}
	m.must(t, chat.Op{Note: &chat.Note{Task: id, Token: token, Item: chat.Item{TurnEnd: &chat.TurnEnd{Turn: "turn-1", Stop: "cancelled"}}}})
	m.must(t, chat.Op{Branch: &chat.Branch{Task: id, Token: token, Done: true}})
	page, err := m.worker.Messages(t.Context(), id, 0, 2)
	all := m.Kit.Messages.All(id)
	if diff := cmp.Diff(all[len(all)-2:], page); err != nil || diff != "" {
		t.Errorf("messages = %v (-want +got):\n%s", err, diff)
	}
	m.must(t, chat.Op{End: &chat.End{Task: id, Token: token}})
	if got, err := m.worker.Task(string(id)); err != nil || got.Lease != nil || got.Title != "" {
		t.Errorf("the task without a lease = %+v, %v", got, err)
	}
}

func TestNothingOfOthersTasks(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.Must(t, ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "secret", Name: "secret", Repo: "/srv/hush.git"}}})
	mine, theirs := m.NewTask(t, "demo", "mine"), m.NewTask(t, "secret", "hush")
	place(t, m.Kit, mine.ID, node)
	place(t, m.Kit, theirs.ID, other)
	if tasks, _ := m.next(t, 0); len(tasks) != 1 || tasks[0].ID != mine.ID {
		t.Errorf("tasks = %+v", tasks)
	}
	if got, err := m.worker.Task(string(theirs.ID)); err != nil || !reflect.DeepEqual(got, chat.Task{ID: theirs.ID, Index: m.Get(t, theirs.ID).Index, Workspace: 1}) {
		t.Errorf("another's task = %+v, %v, want a stub", got, err)
	}
	_, err1 := m.worker.Project("secret")
	_, err2 := m.worker.Message(t.Context(), theirs.ID, "x")
	_, err3 := m.worker.Messages(t.Context(), theirs.ID, 0, 0)
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, chat.ErrStale) || !strings.Contains(err.Error(), "node-1 has no lease") {
			t.Errorf("reading what is another's = %v, want ErrStale", err)
		}
	}
	for _, id := range []string{"none", string(mine.ID[:8]), ""} {
		if got, err := m.worker.Task(id); !errors.Is(err, chat.ErrNotFound) {
			t.Errorf("Task(%q) = %+v, %v, want ErrNotFound", id, got, err)
		}
	}
	for _, body := range []string{
		fmt.Sprintf(`{"known":[%q,%q,"none"]}`, mine.ID, theirs.ID), // claims to have had it
		fmt.Sprintf(`{"task":%q}`, theirs.ID),
	} {
		for _, path := range []string{"/tasks", "/task"} {
			if _, answer := post(t, m.server.URL+path, "node-1", strings.NewReader(body)); strings.Contains(answer, "hush") || strings.Contains(answer, `"secret"`) {
				t.Errorf("%s %s = %s", path, body, answer)
			}
		}
	}
}

// post makes a raw call.
func post(t *testing.T, url, as string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if as != "" {
		req.Header.Set("Test-Node", as)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(data)
}

// TestANodeOnlyReports proposes every op there is.
func TestANodeOnlyReports(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := place(t, m.Kit, id, node)
	allowed := map[string]bool{"StepSet": true, "Session": true, "TurnSet": true, "Items": true, "Note": true, "Branch": true, "End": true, "Kept": true}
	before := len(m.Log.Entries())
	for f := range reflect.TypeFor[chat.Op]().Fields() {
		if allowed[f.Name] {
			continue
		}
		var op chat.Op
		reflect.ValueOf(&op).Elem().FieldByIndex(f.Index).Set(reflect.New(f.Type.Elem()))
		if _, err := m.worker.Do(t.Context(), node, "", op); !errors.Is(err, chat.ErrRefused) || !strings.Contains(err.Error(), "holder of a lease") {
			t.Errorf("%s by a worker = %v, want ErrRefused", f.Name, err)
		}
	}
	note := func(token uint64) chat.Op {
		return chat.Op{Note: &chat.Note{Task: id, Token: token, Item: chat.Item{Kind: chat.KindStatus, Text: "x"}}}
	}
	both := note(token)
	both.SecretPut = &chat.SecretPut{Secret: chat.Secret{Name: "A", Sealed: []byte("x")}}
	for name, c := range map[string]struct {
		by   chat.Author
		op   chat.Op
		want error
	}{
		"a step of the leader's": {node, chat.Op{StepSet: &chat.StepSet{Task: id, Name: chat.StepPlace, State: chat.StepRunning}}, chat.ErrRefused},
		"as another node":        {other, note(token), chat.ErrRefused},
		"as a person":            {ana, note(token), chat.ErrRefused},
		"another token":          {node, note(token - 1), chat.ErrStale},
		"two ops":                {node, both, chat.ErrInvalid},
		"of an unknown task":     {node, chat.Op{End: &chat.End{Task: "none", Token: token}}, chat.ErrNotFound},
	} {
		if _, err := m.worker.Do(t.Context(), c.by, "", c.op); !errors.Is(err, c.want) {
			t.Errorf("%s: Do = %v, want %v", name, err, c.want)
		}
	}
	if _, err := worker(other, m.cores).Do(t.Context(), other, "", note(token)); !errors.Is(err, chat.ErrStale) {
		t.Errorf("another node with the lease's token = %v, want ErrStale", err)
	}
	raw := fmt.Sprintf(`{"id":"c","by":{"node":"node-1"},"op":{"note":{"task":%q,"token":%d,"item":{"id":"i","kind":"status","text":"x"}},"secret_remove":{"name":"A"}}}`, id, token)
	if code, body := post(t, m.server.URL+"/do", "node-1", strings.NewReader(raw)); code != http.StatusOK || !strings.Contains(body, "exactly one op") {
		t.Errorf("two ops = %d %s", code, body)
	}
	if got := len(m.Log.Entries()); got != before {
		t.Errorf("%d entries came into the log", got-before)
	}
	m.must(t, note(token))
	expire(t, m.Kit, id)
	m.must(t, chat.Op{Kept: &chat.Kept{Task: id, Token: token, Workspace: 1, Text: "Kept on node-1."}})
}

func TestALeaseThatEndsIsTold(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := place(t, m.Kit, id, node)
	_, next := m.next(t, 0)
	expire(t, m.Kit, id)
	// The worker's own report meets the end of the lease first: it is told anyway.
	if _, err := m.worker.Do(t.Context(), node, "", chat.Op{End: &chat.End{Task: id, Token: token}}); !errors.Is(err, chat.ErrStale) {
		t.Errorf("a report without a lease = %v", err)
	}
	tasks, next := m.next(t, next)
	if len(tasks) != 1 || tasks[0].ID != id || tasks[0].Lease != nil || tasks[0].Title != "" {
		t.Errorf("the end of a lease = %+v", tasks)
	}
	m.Must(t, ana, chat.Op{Say: &chat.Say{Task: id, Message: "m2", Text: "nobody hears this"}})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if tasks, _, err := m.worker.TasksSince(ctx, next); err == nil {
		t.Errorf("a task without a lease was told again: %+v", tasks)
	}
	again := place(t, m.Kit, id, node)
	if tasks, _ = m.next(t, next); len(tasks) != 1 || tasks[0].Lease.Token != again {
		t.Errorf("the next lease = %+v", tasks)
	}
	place(t, m.Kit, m.NewTask(t, "demo", "y").ID, node)
	if tasks, _ = m.next(t, 0); len(tasks) != 2 { // a runner that begins anew
		t.Errorf("all leases = %+v", tasks)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	token := m.Start(t, id).Lease.Token
	op := func(o chat.TurnSet) chat.Op {
		o.Task, o.Token = id, token
		return chat.Op{TurnSet: &o}
	}
	items := func(from, upto uint64, text string) chat.Op {
		return chat.Op{Items: &chat.Items{Task: id, Token: token, Workspace: 1, From: from, Upto: upto, Items: []chat.Item{{ID: "a", Kind: chat.KindAgent, Source: upto, Text: text}}}}
	}
	for name, c := range map[string]struct {
		op   chat.Op
		want error
	}{
		"refused":   {op(chat.TurnSet{Turn: "t", Prompt: "none", Delivery: chat.Sent}), chat.ErrRefused},
		"invalid":   {op(chat.TurnSet{Turn: "t", Delivery: "thrown"}), chat.ErrInvalid},
		"a gap":     {items(7, 8, "x"), chat.ErrRefused},
		"too large": {items(0, 1, strings.Repeat("x", 600<<10)), chat.ErrTooLarge},
	} {
		_, here := m.Do(t.Context(), node, "", c.op)
		_, there := m.worker.Do(t.Context(), node, "", c.op)
		if !errors.Is(there, c.want) || here.Error() != there.Error() {
			t.Errorf("%s: here %v, by a worker %v, want %v", name, here, there, c.want)
		}
	}
	if _, err := m.worker.Message(t.Context(), id, "none"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("an unknown message = %v, want ErrNotFound", err)
	}
}

func TestAProjectThatChanges(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	place(t, m.Kit, id, node)
	_, next := m.next(t, 0)
	change := func(egress chat.Egress) {
		t.Helper()
		m.Must(t, ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "demo", Name: "demo", Repo: "/r", Egress: egress}}})
	}
	egress := func() chat.Egress {
		t.Helper()
		p, err := m.worker.Project("demo")
		if err != nil {
			t.Fatal(err)
		}
		return p.Egress
	}
	change(chat.EgressNone)
	m.Must(t, ana, chat.Op{Say: &chat.Say{Task: id, Message: "m2", Text: "y"}})
	m.next(t, next) // brings the project, too
	if got := egress(); got != chat.EgressNone {
		t.Errorf("egress = %s after the next news", got)
	}
	change(chat.EgressOpen)
	for end := time.Now().Add(10 * time.Second); egress() != chat.EgressOpen; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a project that changed is not read again")
		}
	}
	kill(m.server)
	if got := egress(); got != chat.EgressOpen {
		t.Errorf("egress = %s while nobody answers", got)
	}
	if got, err := m.worker.Task(string(id)); err != nil || got.Lease == nil {
		t.Errorf("a task while nobody answers = %+v, %v", got, err)
	}
}

func TestPagesFitIntoAnAnswer(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	m.Work(t, id)
	for i := range 140 {
		m.Emit(t, id, chat.Item{ID: fmt.Sprintf("a%03d", i), Kind: chat.KindAgent, Text: strings.Repeat("x", chat.MaxBody)})
	}
	page, err := m.worker.Messages(t.Context(), id, 0, 1000)
	if err != nil || len(page) < 100 || len(page) >= 140 {
		t.Fatalf("a page of long messages has %d, %v", len(page), err)
	}
	if last := page[len(page)-1]; last.ID != "a139" || page[0].Seq != last.Seq-uint64(len(page))+1 {
		t.Errorf("the page is from %s to %s", page[0].ID, last.ID)
	}
}

func TestHostileCalls(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	id := m.NewTask(t, "demo", "x").ID
	place(t, m.Kit, id, node)
	many := strings.Repeat(`"x",`, 20_000) + `"x"`
	for name, c := range map[string]struct {
		path, as, body string
		code           int
		want           string
	}{
		"a stranger":          {"/tasks", "", `{}`, http.StatusForbidden, "not a node"},
		"garbage":             {"/do", "node-1", "\x00\xff", http.StatusBadRequest, "makes no sense"},
		"nothing":             {"/do", "node-1", "", http.StatusBadRequest, "makes no sense"},
		"of a newer samnode":  {"/do", "node-1", `{"op":{"dance":{}}}`, http.StatusBadRequest, "upgrade the core nodes"},
		"a huge call":         {"/do", "node-1", `{"id":"` + strings.Repeat("x", 2<<20) + `"}`, http.StatusBadRequest, "too large"},
		"a command without":   {"/do", "node-1", `{"by":{"node":"node-1"},"op":{"end":{"task":"t","token":1}}}`, http.StatusOK, "needs an id"},
		"an empty command":    {"/do", "node-1", `{"id":"c","by":{"node":"node-1"},"op":{}}`, http.StatusOK, "holder of a lease"},
		"who knows too many":  {"/tasks", "node-1", `{"known":[` + many + `]}`, http.StatusOK, "at most"},
		"from the future":     {"/task", "node-1", `{"seen":999999,"task":"x"}`, http.StatusServiceUnavailable, "this node is behind"},
		"a place that is not": {"/secrets", "node-1", `{}`, http.StatusNotFound, ""},
	} {
		if code, body := post(t, m.server.URL+c.path, c.as, strings.NewReader(c.body)); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %.200s, want %d with %q", name, code, body, c.code, c.want)
		}
	}
	resp, err := http.Get(m.server.URL + "/tasks")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET = %s", resp.Status)
	}
	if tasks, _ := m.next(t, 0); len(tasks) != 1 {
		t.Errorf("after hostile calls: %+v", tasks)
	}
}

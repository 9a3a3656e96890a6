package broker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/modeltest"
)

// upstream is a vendor: what it got, and what it answers.
type upstream struct {
	*httptest.Server
	mu   sync.Mutex
	reqs []*http.Request
	body []string
}

func vendor(t *testing.T, answer http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		u.reqs, u.body = append(u.reqs, r), append(u.body, string(body))
		u.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) all(base string) map[string]string {
	return map[string]string{"anthropic": u.URL + base, "openai": u.URL + base, "gemini": u.URL + base}
}

// file answers with a recorded one.
func file(t *testing.T, name string) http.HandlerFunc {
	body := read(t, name)
	return func(w http.ResponseWriter, r *http.Request) {
		typ := "application/json"
		if strings.HasSuffix(name, ".sse") {
			typ = "text/event-stream; charset=utf-8"
		}
		w.Header().Set("Content-Type", typ)
		_, _ = w.Write(body)
	}
}

// do sends a request to the model socket and returns status, headers and body.
func (s *space) do(t *testing.T, method, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://models"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := s.client(ModelSocket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(got)
}

var calls = []struct {
	file, path, body string
}{
	{"anthropic.sse", "/anthropic/v1/messages?beta=true", `{"model":"claude-sonnet-4-5","stream":true}`},
	{"anthropic.json", "/anthropic/v1/messages", `{"model":"claude-sonnet-4-5"}`},
	{"responses.sse", "/openai/v1/responses", `{"model":"gpt-6.1-sol","stream":true}`},
	{"responses.json", "/openai/v1/responses", `{"model":"gpt-5.4"}`},
	{"chat.sse", "/openai/v1/chat/completions", `{"model":"gpt-5-mini","stream":true}`},
	{"chat.json", "/openai/v1/chat/completions", `{"model":"some-local-model"}`},
	{"gemini.sse", "/gemini/v1beta/models/gemini-3.1-pro-preview:streamGenerateContent?alt=sse&key=dummy", `{}`},
	{"gemini-array.json", "/gemini/v1beta/models/gemini-3.8-flash:streamGenerateContent", `{}`},
}

func TestCallsPassUnchangedAndAreCounted(t *testing.T) {
	for i, tc := range calls {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			up := vendor(t, file(t, tc.file))
			s := open(t, func(c *Config, _ *space) { c.Upstream = up.all("/gate/way") })
			status, _, body := s.do(t, "POST", tc.path, tc.body, "Authorization", "Bearer dummy", "X-Api-Key", "dummy", "X-Goog-Api-Key", "dummy",
				"Cookie", "a=b", "Openai-Organization", "org-x", "Anthropic-Version", "2023-06-01")
			if status != http.StatusOK || body != string(read(t, tc.file)) {
				t.Fatalf("status %d, body %q", status, body)
			}
			req := up.reqs[0]
			for _, h := range []string{"Cookie", "Openai-Organization", "X-Forwarded-For"} {
				if v := req.Header.Get(h); v != "" {
					t.Errorf("%s: %q went to the vendor", h, v)
				}
			}
			if sent := fmt.Sprint(req.Header, req.URL); strings.Contains(sent, "dummy") || strings.Count(sent, realKey) != 1 {
				t.Errorf("the vendor got %s", sent)
			}
			if !strings.HasPrefix(req.URL.Path, "/gate/way/v1") || req.Header.Get("Anthropic-Version") == "" {
				t.Errorf("the vendor got %s %v", req.URL, req.Header)
			}
			var got []Call
			var spent []chat.Usage
			eventually(t, "the call is counted", func() bool {
				got, spent, _ = s.told()
				return len(got) == 1
			})
			want := Call{Provider: recorded[i].api, Model: recorded[i].model, Usage: recorded[i].want, Status: 200, Priced: recorded[i].priced}
			if diff := cmp.Diff([]Call{want}, got); diff != "" {
				t.Errorf("call (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]chat.Usage{want.Usage}, spent); diff != "" {
				t.Errorf("spent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]chat.Usage{want.Model: want.Usage}, s.Stats().Models); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
			if strings.Contains(s.log.String(), realKey) {
				t.Errorf("the key is in the log: %s", s.log)
			}
		})
	}
}

func TestUsageOfChatStreamsIsAskedFor(t *testing.T) {
	up := vendor(t, file(t, "chat.sse"))
	s := open(t, func(c *Config, _ *space) { c.Upstream = up.all("") })
	for _, body := range []string{`{"model":"m","stream":true,"seed":12345678901234567890}`, `{"stream":true,"stream_options":{"include_usage":false,"x":1}}`, `{"stream":true,"stream_options":null}`} {
		if status, _, got := s.do(t, "POST", "/openai/v1/chat/completions", body); status != 200 {
			t.Fatalf("status %d: %s", status, got)
		}
	}
	want := []string{
		`{"model":"m","seed":12345678901234567890,"stream":true,"stream_options":{"include_usage":true}}`,
		`{"stream":true,"stream_options":{"include_usage":true,"x":1}}`, `{"stream":true,"stream_options":{"include_usage":true}}`,
	}
	if diff := cmp.Diff(want, up.body); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan string)
	up := vendor(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for text := range next {
			_, _ = io.WriteString(w, "data: "+text+"\n\n")
			_ = http.NewResponseController(w).Flush()
		}
	})
	s := open(t, func(c *Config, _ *space) { c.Upstream = up.all("") })
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/anthropic/v1/messages", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	go func() { next <- "0" }()
	res, err := s.client(ModelSocket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	for i := range 5 { // the next event is sent only when this one has arrived
		line, err := r.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("line = %q, %v", line, err)
		}
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		next <- fmt.Sprint(i + 1)
	}
	close(next)
}

func TestRefusals(t *testing.T) {
	never := func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s reached the vendor", r.URL) }
	ok := `{"model":"claude-opus-5-5"}`
	for _, tc := range []struct {
		name   string
		method string
		path   string
		body   string
		mend   func(*Config, *space)
		status int
		text   string
		told   []Refusal
	}{
		{
			"a stale lease", "POST", "/anthropic/v1/messages", ok, func(_ *Config, s *space) { s.stale = errors.New("lease 7 is over\nsince 12:00") },
			403, "samnode: this workspace no longer holds its task: lease 7 is over since 12:00", nil,
		},
		{
			"a lease in doubt", "POST", "/openai/v1/responses", ok, func(_ *Config, s *space) { s.stale = fmt.Errorf("cut off since 12:00: %w", ErrForNow) },
			503, "samnode: nothing leaves this workspace now: cut off since 12:00", nil,
		},
		{"an unknown provider", "POST", "/mistral/v1/x", ok, nil, 404, "model APIs are at", nil},
		{
			"files of Anthropic", "POST", "/anthropic/v1/files", ok, nil, 403, "samnode: POST /v1/files of the anthropic API is not open to agents",
			[]Refusal{{KindPath, "anthropic: POST /v1/files", "Only model calls pass the broker.", "Nothing, unless the agent needs it: then its key must be used outside of the workspace."}},
		},
		{
			"batches", "POST", "/anthropic/v1/messages/batches", ok, nil, 403, "not open to agents",
			[]Refusal{{KindPath, "anthropic: POST /v1/messages/batches", "Only model calls pass the broker.", "Nothing, unless the agent needs it: then its key must be used outside of the workspace."}},
		},
		{
			"a path that climbs", "POST", "/anthropic/v1/messages/../organizations", ok, nil, 403, "not open to agents",
			[]Refusal{{KindPath, "anthropic: POST /v1/messages/../organizations", "Only model calls pass the broker.", "Nothing, unless the agent needs it: then its key must be used outside of the workspace."}},
		},
		{
			"an encoded slash", "GET", "/anthropic/v1/models/a%2f..%2f..%2forganizations", "", nil, 403, "not open to agents",
			[]Refusal{{KindPath, "anthropic: GET /v1/models/a/../../organizations", "Only model calls pass the broker.", "Nothing, unless the agent needs it: then its key must be used outside of the workspace."}},
		},
		{
			"no key", "POST", "/openai/v1/responses", ok, func(c *Config, _ *space) {
				c.Key = func(context.Context, string) (Credential, error) {
					return Credential{}, fmt.Errorf("asking: %w", ErrNoKey)
				}
			}, 403, "samnode: there is no key for openai; set it with: samnode secret set OPENAI_API_KEY",
			[]Refusal{{KindKey, "openai", "There is no key for openai.", "set it with: samnode secret set OPENAI_API_KEY"}},
		},
		{"a key that cannot be had", "POST", "/gemini/v1beta/models/x:generateContent", ok, func(c *Config, _ *space) {
			c.Key = func(context.Context, string) (Credential, error) {
				return Credential{}, errors.New("core node ana: secret path /x")
			}
		}, 503, "samnode: the key of gemini could not be had right now", nil},
		{"a key that the mesh would give", "POST", "/gemini/v1beta/models/x:generateContent", ok, func(c *Config, _ *space) {
			c.Key = func(context.Context, string) (Credential, error) {
				return Credential{}, fmt.Errorf("asking ana: %w", ErrForNow)
			}
		}, 503, "samnode: the key of gemini could not be had right now", nil},
		{
			"an empty budget", "POST", "/anthropic/v1/messages", ok, func(_ *Config, s *space) { s.limited, s.left = true, 0 },
			402, "samnode: the task's budget is used up",
			[]Refusal{{KindBudget, "claude-opus-5-5", "The task's budget is used up.", "An owner can raise it; then say how to go on."}},
		},
		{"what is not JSON", "POST", "/anthropic/v1/messages", "{", nil, 400, "samnode: the request is not JSON", nil},
		{"a background answer", "POST", "/openai/v1/responses", `{"background":true}`, nil, 403, "background answers", nil},
		{"a request too large", "POST", "/anthropic/v1/messages", strings.Repeat(" ", maxPrompt+1), nil, 413, "larger than 32 MiB", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			up := vendor(t, never)
			s := open(t, func(c *Config, s *space) {
				c.Upstream = up.all("")
				if tc.mend != nil {
					tc.mend(c, s)
				}
			})
			status, h, body := s.do(t, tc.method, tc.path, tc.body)
			var e struct {
				Error struct{ Message string }
			}
			if h.Get("Content-Type") == "application/json" {
				if err := json.Unmarshal([]byte(body), &e); err != nil {
					t.Errorf("body %q: %v", body, err)
				}
			} else {
				e.Error.Message = body
			}
			if status != tc.status || !strings.Contains(e.Error.Message, tc.text) || strings.Contains(body, realKey) || strings.Contains(body, "secret path") {
				t.Errorf("answer = %d %q, want %d with %q", status, body, tc.status, tc.text)
			}
			again := strings.Contains(tc.name, "in doubt") || strings.Contains(tc.name, "the mesh would give")
			if got := h.Get("Retry-After") != "" && h.Get("X-Should-Retry") == ""; got != again {
				t.Errorf("the agent is to try again: %v, want %v (%v)", got, again, h)
			}
			_, spent, told := s.told()
			if diff := cmp.Diff(tc.told, told); diff != "" || len(spent) > 0 {
				t.Errorf("spent %v, told (-want +got):\n%s", spent, diff)
			}
		})
	}
}

func TestVendorErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		header string
		body   string
		want   string
		code   int
		told   int
	}{
		{"a refused key is told, and never repeated", 401, "", `{"error":{"message":"Incorrect API key provided: ` + realKey + `."}}`, `"message":"samnode: 127.0.0.1:`, 403, 1},
		{"overload passes", 529, "", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, "", 529, 0},
		{"rate limit passes", 429, "", `{"type":"error"}`, "", 429, 0},
		{"a redirect does not", 302, "https://elsewhere.example/?k=" + realKey, ``, "could not be reached: " + "127.0.0.1", 502, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			up := vendor(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Echo", r.Header.Get("X-Api-Key"))
				w.Header().Set("Set-Cookie", "track=1")
				w.Header().Set("Retry-After", "3")
				if tc.header != "" {
					w.Header().Set("Location", tc.header)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			s := open(t, func(c *Config, _ *space) { c.Upstream = up.all("") })
			status, h, body := s.do(t, "POST", "/anthropic/v1/messages", `{"model":"m"}`)
			if tc.want == "" {
				tc.want = tc.body
			}
			switch {
			case tc.code == 502 && strings.Contains(body, "redirect"):
			case tc.code == 403 && strings.Contains(body, tc.want) && strings.Contains(body, "refused the key (401): Incorrect API key provided: [key].; check the key, then: samnode secret set ANTHROPIC_API_KEY") && h.Get("X-Should-Retry") == "false":
			case body == tc.want && h.Get("Retry-After") == "3":
			default:
				t.Errorf("body = %q, headers %v", body, h)
			}
			if status != tc.code || strings.Contains(fmt.Sprint(h, body), realKey) || h.Get("Set-Cookie") != "" {
				t.Errorf("answer = %d %v %q", status, h, body)
			}
			_, spent, told := s.told()
			if len(told) != tc.told || len(spent) != 0 {
				t.Errorf("told %+v, spent %+v", told, spent)
			}
			if strings.Contains(fmt.Sprint(told, s.log), realKey) {
				t.Errorf("the key is told: %+v\n%s", told, s.log)
			}
		})
	}
}

func TestBearer(t *testing.T) {
	up := vendor(t, file(t, "anthropic.json"))
	s := open(t, func(c *Config, _ *space) {
		c.Upstream = up.all("")
		c.Key = func(context.Context, string) (Credential, error) { return Credential{realKey + "\n", Bearer}, nil }
	})
	for _, beta := range [][]string{nil, {"Anthropic-Beta", "a-1,b-2"}, {"Anthropic-Beta", "oauth-2025-04-20,a-1"}} {
		if status, _, body := s.do(t, "POST", "/anthropic/v1/messages", `{}`, append(beta, "X-Api-Key", "dummy")...); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	var got [][]string
	for _, r := range up.reqs {
		got = append(got, []string{r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.Header.Get("Anthropic-Beta")})
	}
	want := [][]string{{"Bearer " + realKey, "", oauthBeta}, {"Bearer " + realKey, "", "a-1,b-2," + oauthBeta}, {"Bearer " + realKey, "", "oauth-2025-04-20,a-1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestBudgetEndsInTheMiddleOfATask(t *testing.T) {
	models := modeltest.New(t, modeltest.Options{Key: realKey})
	s := open(t, func(c *Config, s *space) {
		c.Upstream = map[string]string{"anthropic": models.URL}
		s.limited, s.left = true, 150 // millionths
	})
	body := `{"model":"claude-haiku-4-5","stream":true,"messages":[{"role":"user","content":"SCENARIO=long N=5"}]}`
	passed := 0
	for ; passed < 100; passed++ {
		status, _, got := s.do(t, "POST", "/anthropic/v1/messages", body)
		if status == http.StatusPaymentRequired {
			if !strings.Contains(got, "billing_error") {
				t.Errorf("refusal = %s", got)
			}
			break
		}
		eventually(t, "the call is counted", func() bool { calls, _, _ := s.told(); return len(calls) == passed+1 })
	}
	_, spent, told := s.told()
	var sum int64
	for _, u := range spent {
		sum += u.Cost
	}
	if passed < 2 || passed > 10 || sum < 150 || sum > 250 || len(told) != 1 || told[0].Kind != KindBudget {
		t.Errorf("%d calls passed for %d; told %+v", passed, sum, told)
	}
	s.set(func() { s.left = 1000 })
	if status, _, got := s.do(t, "POST", "/anthropic/v1/messages", body); status != 200 {
		t.Errorf("after raising the budget: %d %s", status, got)
	}
	s.set(func() { s.left = 0 })
	if status, _, _ := s.do(t, "POST", "/anthropic/v1/messages", body); status != http.StatusPaymentRequired {
		t.Errorf("used up again: %d", status)
	}
	if _, _, told := s.told(); len(told) != 2 {
		t.Errorf("the second end of the budget is not told: %+v", told)
	}
}

func TestModelWithoutPriceIsToldWhenThereIsABudget(t *testing.T) {
	up := vendor(t, file(t, "chat.json"))
	s := open(t, func(c *Config, s *space) {
		c.Upstream = up.all("")
		s.limited, s.left = true, 1000
	})
	s.do(t, "POST", "/openai/v1/chat/completions", `{}`)
	s.do(t, "POST", "/openai/v1/chat/completions", `{}`)
	eventually(t, "both calls are counted", func() bool { calls, _, _ := s.told(); return len(calls) == 2 })
	if _, _, told := s.told(); len(told) != 1 || told[0].Kind != KindPrice || told[0].What != "some-local-model" {
		t.Errorf("told %+v", told)
	}
}

// abort starts a call, reads until the text has begun, and leaves.
func (s *space) abort(t *testing.T, path, body string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.client(ModelSocket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var seen bytes.Buffer
	buf := make([]byte, 512)
	for !strings.Contains(seen.String(), "word20") {
		n, err := res.Body.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v after %s", err, &seen)
		}
	}
}

func TestAbortedCallsAreCountedAsFarAsKnown(t *testing.T) {
	models := modeltest.New(t, modeltest.Options{Key: realKey})
	user := `SCENARIO=slow N=100000 DELAY=1`
	for path, body := range map[string]string{
		"/anthropic/v1/messages":      `{"model":"claude-haiku-4-5","stream":true,"messages":[{"role":"user","content":"` + user + `"}]}`,
		"/openai/v1/responses":        `{"model":"gpt-5.4","stream":true,"input":"` + user + `"}`,
		"/openai/v1/chat/completions": `{"model":"gpt-5.4","stream":true,"messages":[{"role":"user","content":"` + user + `"}]}`,
		"/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse": `{"contents":[{"role":"user","parts":[{"text":"` + user + `"}]}]}`,
	} {
		s := open(t, func(c *Config, _ *space) {
			c.Upstream = map[string]string{"anthropic": models.URL, "openai": models.URL, "gemini": models.URL}
		})
		s.abort(t, path, body)
		eventually(t, "the aborted call is counted", func() bool { calls, _, _ := s.told(); return len(calls) == 1 })
		calls, spent, _ := s.told()
		c := calls[0]
		if !c.Aborted || c.Status != 200 || c.Usage.Input < int64(len(body)/4)-1 || c.Usage.Output < 25 || c.Usage.Cost == 0 || len(spent) != 1 {
			t.Errorf("%s: %+v", path, c)
		}
	}
}

func TestUpstreamThatBreaksOff(t *testing.T) {
	models := modeltest.New(t, modeltest.Options{Key: realKey})
	s := open(t, func(c *Config, _ *space) { c.Upstream = map[string]string{"anthropic": models.URL} })
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/anthropic/v1/messages", strings.NewReader(`{"model":"claude-haiku-4-5","stream":true,"messages":[{"role":"user","content":"SCENARIO=cut"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.client(ModelSocket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the agent sees a whole answer: %s", body)
	}
	eventually(t, "the broken call is counted", func() bool { calls, _, _ := s.told(); return len(calls) == 1 })
	if calls, _, _ := s.told(); !calls[0].Aborted || calls[0].Usage.Input == 0 {
		t.Errorf("call = %+v", calls[0])
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	models := modeltest.New(t, modeltest.Options{Key: realKey})
	s := open(t, func(c *Config, _ *space) { c.Upstream = map[string]string{"anthropic": models.URL} })
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/anthropic/v1/messages", strings.NewReader(`{"model":"claude-haiku-4-5","stream":true,"messages":[{"role":"user","content":"SCENARIO=silent"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.client(ModelSocket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the call ended whole")
	}
	if calls, _, _ := s.told(); len(calls) != 1 || !calls[0].Aborted {
		t.Errorf("calls after Close = %+v", calls)
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := s.dialCtx(t.Context(), ModelSocket); err == nil {
		t.Error("the socket still answers")
	}
}

func TestOpen(t *testing.T) {
	good := Config{Stale: func() error { return nil }}
	t.Run("a path too long for an address", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
		s := open(t, func(c *Config, s *space) { c.Dir, s.dir = dir, dir })
		if status, _, _ := s.do(t, "GET", "/nothing", ""); status != 404 {
			t.Errorf("status = %d", status)
		}
	})
	t.Run("sockets of a node that was killed", func(t *testing.T) {
		s := open(t, nil)
		again := good
		again.Dir = s.dir
		b, err := Open(t.Context(), again)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file in the way", func(t *testing.T) {
		c := good
		c.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(c.Dir, GitSocket), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("err = %v", err)
		}
		if left, _ := os.ReadDir(c.Dir); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("the context ends it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := good
		c.Dir = t.TempDir()
		if _, err := Open(ctx, c); err != nil {
			t.Fatal(err)
		}
		cancel()
		eventually(t, "the sockets are gone", func() bool { left, _ := os.ReadDir(c.Dir); return len(left) == 0 })
	})
	for name, c := range map[string]Config{
		"no directory": {Stale: good.Stale},
		"no lease":     {Dir: t.TempDir()},
		"bad upstream": {Dir: t.TempDir(), Stale: good.Stale, Upstream: map[string]string{"openai": "localhost:80"}},
	} {
		if _, err := Open(t.Context(), c); err == nil {
			t.Errorf("Open with %s worked", name)
		}
	}
}

func TestSlowRequestDoesNotHoldOthers(t *testing.T) {
	up := vendor(t, file(t, "anthropic.json"))
	s := open(t, func(c *Config, _ *space) { c.Upstream = up.all("") })
	slow := s.dial(t, ModelSocket)
	if _, err := io.WriteString(slow, "POST /anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if status, _, body := s.do(t, "POST", "/anthropic/v1/messages", `{"model":"claude-haiku-4-5"}`); status != 200 {
				t.Errorf("status %d: %s", status, body)
			}
		})
	}
	wg.Wait()
	eventually(t, "all calls are counted", func() bool { return s.Stats().Calls == 40 })
	if got := s.Stats().Models["claude-sonnet-4-5-20250929"]; got.Input != 4000 {
		t.Errorf("sum = %+v", got)
	}
}

// BenchmarkCall is one small streamed call through the socket and the proxy.
func BenchmarkCall(b *testing.B) {
	body := read(b, "anthropic.sse")
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write(body)
	}))
	defer up.Close()
	dir := b.TempDir()
	br, err := Open(b.Context(), Config{
		Dir: dir, Stale: func() error { return nil }, Upstream: map[string]string{"anthropic": up.URL},
		Key: func(context.Context, string) (Credential, error) { return Credential{Value: realKey}, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialLong(ctx, filepath.Join(dir, ModelSocket))
	}}}
	for b.Loop() {
		res, err := client.Post("http://x/anthropic/v1/messages", "application/json", strings.NewReader(`{"model":"claude-sonnet-4-5","stream":true}`))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			b.Fatal(err)
		}
		res.Body.Close()
	}
}

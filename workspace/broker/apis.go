package broker

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// api is what the broker knows of one vendor's model API.
type api struct {
	name   string
	base   string
	secret string // name of the secret that holds its key
	routes []route
	sign   func(http.Header, Credential)
	refuse func(refusal) any // a refusal in the vendor's own form
	read   func(data []byte, t *tally)
}

// route is a request that may pass. Whatever could store data at the vendor,
// act on the account, or cost money that no answer tells, is not here.
type route struct {
	method string
	path   *regexp.Regexp
	billed bool
}

// apis are the providers by their prefix.
var apis = map[string]*api{
	"anthropic": {
		name: "anthropic", base: "https://api.anthropic.com", secret: "ANTHROPIC_API_KEY",
		sign: signAnthropic, refuse: refuseAnthropic, read: readAnthropic,
		routes: []route{
			{"POST", regexp.MustCompile(`^/v1/messages$`), true},
			{"POST", regexp.MustCompile(`^/v1/messages/count_tokens$`), false},
			{"GET", regexp.MustCompile(`^/v1/models(/\w[\w.:-]*)?$`), false},
			{"HEAD", regexp.MustCompile(`^/(api/hello)?$`), false},
			{"GET", regexp.MustCompile(`^/api/hello$`), false},
		},
	},
	"openai": {
		name: "openai", base: "https://api.openai.com", secret: "OPENAI_API_KEY",
		sign: signBearer, refuse: refuseOpenAI, read: readOpenAI,
		routes: []route{
			{"POST", regexp.MustCompile(`^/v1/responses(/compact)?$`), true},
			{"POST", regexp.MustCompile(`^/v1/chat/completions$`), true},
			{"GET", regexp.MustCompile(`^/v1/models(/\w[\w.:-]*)?$`), false},
		},
	},
	"gemini": {
		name: "gemini", base: "https://generativelanguage.googleapis.com", secret: "GEMINI_API_KEY",
		sign: signGemini, refuse: refuseGemini, read: readGemini,
		routes: []route{
			{"POST", regexp.MustCompile(`^/v1(alpha|beta)?/models/[\w.-]+:(generateContent|streamGenerateContent)$`), true},
			{"POST", regexp.MustCompile(`^/v1(alpha|beta)?/models/[\w.-]+:countTokens$`), false},
			{"GET", regexp.MustCompile(`^/v1(alpha|beta)?/models(/\w[\w.-]*)?$`), false},
		},
	},
}

func (a *api) route(method, path string) (route, bool) {
	for _, r := range a.routes {
		if r.method == method && r.path.MatchString(path) {
			return r, true
		}
	}
	return route{}, false
}

// model returns the model a request names, in its body or, with Gemini, in its
// path.
func (a *api) model(path, body string) string {
	if a.name != "gemini" {
		return body
	}
	_, rest, _ := strings.Cut(path, "/models/")
	name, _, _ := strings.Cut(rest, ":")
	return name
}

// message is the sentence in a vendor's error answer.
func (a *api) message(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Error.Message == "" {
		return "no reason given"
	}
	return cut(oneLine(e.Error.Message), 300)
}

// cut keeps the first n bytes of s, whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// oauthBeta must be named with a subscription's token; an agent that believes
// it has an API key does not.
const oauthBeta = "oauth-2025-04-20"

func signAnthropic(h http.Header, c Credential) {
	if c.Kind != Bearer {
		h.Set("X-Api-Key", c.Value)
		return
	}
	signBearer(h, c)
	if betas := h.Values("Anthropic-Beta"); !strings.Contains(strings.Join(betas, ","), oauthBeta) {
		h.Set("Anthropic-Beta", strings.Join(append(betas, oauthBeta), ","))
	}
}

func signBearer(h http.Header, c Credential) {
	h.Set("Authorization", "Bearer "+c.Value)
}

func signGemini(h http.Header, c Credential) {
	if c.Kind == Bearer {
		signBearer(h, c)
		return
	}
	h.Set("X-Goog-Api-Key", c.Value)
}

// refusal is the broker's own answer to a model call.
type refusal struct {
	status int
	kind   string // stale, away, path, invalid, large, budget, key, upstream
	text   string
}

// refuseAnthropic and its siblings are the vendors' own forms, so that the
// agent shows the text. None of the statuses asks for another try, but for
// an upstream that could not be reached (codex tries five times all the same,
// within seconds) and a mesh that is away.
func refuseAnthropic(r refusal) any {
	types := map[string]string{
		"invalid": "invalid_request_error", "large": "request_too_large", "budget": "billing_error",
		"upstream": "api_error", "away": "overloaded_error",
	}
	typ := types[r.kind]
	if typ == "" {
		typ = "permission_error"
	}
	return map[string]any{"type": "error", "error": map[string]string{"type": typ, "message": r.text}}
}

func refuseOpenAI(r refusal) any {
	code := map[string]string{
		"invalid": "invalid_request_error", "large": "request_too_large", "budget": "insufficient_quota",
		"upstream": "server_error", "away": "server_error",
	}[r.kind]
	if code == "" {
		code = "permission_denied"
	}
	return map[string]any{"error": map[string]any{"message": r.text, "type": code, "param": nil, "code": code}}
}

func refuseGemini(r refusal) any {
	status := map[string]string{
		"invalid": "INVALID_ARGUMENT", "large": "INVALID_ARGUMENT", "budget": "RESOURCE_EXHAUSTED",
		"upstream": "UNAVAILABLE", "away": "UNAVAILABLE",
	}[r.kind]
	if status == "" {
		status = "PERMISSION_DENIED"
	}
	return map[string]any{"error": map[string]any{"code": r.status, "message": r.text, "status": status}}
}

// explain is the body of a refusal.
func (a *api) explain(r refusal) []byte {
	body, err := json.Marshal(a.refuse(r))
	if err != nil { // maps of strings and numbers always encode
		panic("broker: encoding a refusal: " + err.Error())
	}
	return body
}

// awayRetry spreads the ten tries of an agent over minutes.
const awayRetry = "15"

func (a *api) answer(w http.ResponseWriter, r refusal) {
	w.Header().Set("Content-Type", "application/json")
	switch r.kind {
	case "upstream":
	case "away":
		w.Header().Set("Retry-After", awayRetry)
	default:
		w.Header().Set("X-Should-Retry", "false")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(a.explain(r)) // the agent is gone: nobody to tell
}

package keys

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake answers as a control server's API does, and keeps what it was asked.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string // METHOD path
	key     map[string]any
	devices []string // ids that are left
	status  int      // instead of an answer; 0: none
}

func (f *fake) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, req.Method+" "+req.URL.Path)
	body, _ := io.ReadAll(req.Body) // a test's own
	if f.status != 0 {
		w.WriteHeader(f.status)
		fmt.Fprint(w, `{"message":"because"}`)
		return
	}
	if req.URL.Path == "/api/v2/oauth/token" {
		if string(body) != "client_id=k1&client_secret=s1&grant_type=client_credentials" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"access_token":"token-1","token_type":"Bearer","expires_in":3600}`)
		return
	}
	if auth := req.Header.Get("Authorization"); auth != "Bearer token-1" && auth != "Bearer hskey" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch req.Method + " " + req.URL.Path {
	case "POST /api/v2/tailnet/-/keys", "POST /api/v1/preauthkey":
		if err := json.Unmarshal(body, &f.key); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `{"key":"tskey-auth-1","preAuthKey":{"key":"hskey-auth-1"}}`)
	case "GET /api/v2/tailnet/-/devices":
		fmt.Fprint(w, `{"devices":[{"nodeId":"n1","addresses":["100.64.0.1","fd7a::1"]},{"nodeId":"n2","addresses":["100.64.0.2"]}]}`)
	case "GET /api/v1/node":
		fmt.Fprint(w, `{"nodes":[{"id":"1","ipAddresses":["100.64.0.1"]},{"id":"2","ipAddresses":["100.64.0.2","fd7a::2"]}]}`)
	case "DELETE /api/v2/device/n2", "DELETE /api/v1/node/2":
		fmt.Fprint(w, `{}`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func start(t *testing.T) *fake {
	f := new(fake)
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func servers(t *testing.T, f *fake) map[string]*Server {
	out := map[string]*Server{}
	for name, c := range map[string]Config{
		"tailscale": {URL: f.URL, Tag: "tag:samnode", ClientID: "k1", ClientSecret: "s1"},
		"headscale": {URL: f.URL + "/", Tag: "tag:samnode", APIKey: "hskey"},
	} {
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = s
	}
	return out
}

// TestR27KeysAreOneUseEphemeralTaggedAndShort.
func TestR27KeysAreOneUseEphemeralTaggedAndShort(t *testing.T) {
	f := start(t)
	for name, s := range servers(t, f) {
		key, err := s.Mint(t.Context(), "machine m-1 of mesh 01J: op_2/ä")
		if want := map[string]string{"tailscale": "tskey-auth-1", "headscale": "hskey-auth-1"}[name]; err != nil || key != want {
			t.Fatalf("%s: Mint = %q, %v, want %q", name, key, err, want)
		}
		ask, left := f.key, time.Duration(0)
		if name == "tailscale" {
			left = time.Duration(ask["expirySeconds"].(float64)) * time.Second
			if d := ask["description"].(string); len(d) > 50 || strings.ContainsAny(d, ":_/ä") {
				t.Errorf("the description %q is not one that Tailscale takes", d)
			}
			ask = ask["capabilities"].(map[string]any)["devices"].(map[string]any)["create"].(map[string]any)
			if ask["preauthorized"] != true || fmt.Sprint(ask["tags"]) != "[tag:samnode]" {
				t.Errorf("asked for %v", ask)
			}
		} else {
			until, err := time.Parse(time.RFC3339, ask["expiration"].(string))
			if err != nil {
				t.Fatal(err)
			}
			left = time.Until(until)
			if fmt.Sprint(ask["aclTags"]) != "[tag:samnode]" {
				t.Errorf("asked for %v", ask)
			}
		}
		if ask["reusable"] != false || ask["ephemeral"] != true || left > Lifetime || left < Lifetime-time.Minute {
			t.Errorf("%s: asked for %v that is good for %s", name, ask, left)
		}
	}
}

func TestForget(t *testing.T) {
	f := start(t)
	for name, s := range servers(t, f) {
		f.asked = nil
		if err := s.Forget(t.Context(), netip.MustParseAddr("100.64.0.2")); err != nil {
			t.Error(err)
		}
		if last := f.asked[len(f.asked)-1]; !strings.HasPrefix(last, "DELETE ") {
			t.Errorf("%s: the device was not deleted: %v", name, f.asked)
		}
		if err := s.Forget(t.Context(), netip.MustParseAddr("100.64.0.9")); err != nil {
			t.Errorf("%s: one that is gone: %v", name, err)
		}
		if last := f.asked[len(f.asked)-1]; strings.HasPrefix(last, "DELETE ") {
			t.Errorf("%s: another device was deleted: %v", name, f.asked)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := start(t)
	for status, want := range map[int]error{400: ErrDenied, 401: ErrDenied, 403: ErrDenied, 429: ErrAway, 500: ErrAway, 503: ErrAway} {
		f.status = status
		for name, s := range servers(t, f) {
			if err := s.Check(t.Context()); !errors.Is(err, want) || !strings.Contains(err.Error(), "because") {
				t.Errorf("%s: %d = %v, want %v", name, status, err, want)
			}
			if err := s.Forget(t.Context(), netip.MustParseAddr("100.64.0.2")); !errors.Is(err, want) {
				t.Errorf("%s: Forget with %d = %v, want %v", name, status, err, want)
			}
		}
	}
	f.Close()
	for name, s := range servers(t, f) {
		if _, err := s.Mint(t.Context(), "x"); !errors.Is(err, ErrAway) {
			t.Errorf("%s: nobody there = %v", name, err)
		}
	}
	for name, c := range map[string]Config{
		"nothing":          {Tag: "tag:x"},
		"half a client":    {Tag: "tag:x", ClientID: "k"},
		"both":             {Tag: "tag:x", ClientID: "k", ClientSecret: "s", APIKey: "h", URL: "http://h"},
		"headscale, where": {Tag: "tag:x", APIKey: "h"},
		"no tag":           {ClientID: "k", ClientSecret: "s"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

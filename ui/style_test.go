package ui

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
)

var token = regexp.MustCompile(`--([a-z-]+):light-dark\(#([0-9A-Fa-f]{6}),#([0-9A-Fa-f]{6})\)`)

// tokens reads the colours of app.css: by name, light and dark.
func tokens(t *testing.T) map[string][2]string {
	t.Helper()
	css, err := static.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for _, m := range token.FindAllStringSubmatch(string(css), -1) {
		out[m[1]] = [2]string{m[2], m[3]}
	}
	for _, m := range regexp.MustCompile(`--(term|term-text):#([0-9A-Fa-f]{6})`).FindAllStringSubmatch(string(css), -1) {
		out[m[1]] = [2]string{m[2], m[2]}
	}
	for _, m := range regexp.MustCompile(`\.(t\d+)[^{]*\{color:#([0-9A-Fa-f]{6})\}`).FindAllStringSubmatch(string(css), -1) {
		out["ansi "+m[1]] = [2]string{m[2], m[2]}
	}
	return out
}

// contrast is WCAG's ratio of two colours.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(hex string) float64 {
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
			if err != nil {
				t.Fatalf("colour %q: %v", hex, err)
			}
			c := float64(n) / 255
			if c <= 0.03928 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestEveryColourCanBeRead(t *testing.T) {
	colours := tokens(t)
	surfaces := []string{"bg", "surface", "raised", "sunken"}
	tinted := append(surfaces, "accent-tint")
	pairs := map[string][]string{
		"text": append(tinted, "quiet-tint", "added-tint", "removed-tint", "needs-tint"), "muted": tinted, "faint": tinted, "accent": tinted,
		"on-accent": {"accent", "fail"},
		"working":   append(surfaces, "working-tint"), "needs": append(surfaces, "needs-tint", "accent-tint"), "ok": append(surfaces, "ok-tint", "accent-tint"),
		"fail": append(surfaces, "fail-tint", "accent-tint"), "merged": append(surfaces, "merged-tint"), "quiet": append(surfaces, "quiet-tint"),
		"added": {"added-tint"}, "removed": {"removed-tint"}, "term-text": {"term"},
		"code-key": {"sunken"}, "code-str": {"sunken"}, "code-num": {"sunken"}, "code-fn": {"sunken"}, "code-note": {"sunken"},
	}
	for name := range colours {
		if strings.HasPrefix(name, "ansi ") {
			pairs[name] = []string{"term"}
		}
	}
	if len(colours) < 40 {
		t.Fatalf("read %d tokens only", len(colours))
	}
	check := func(name, on string, least float64) {
		a, ok := colours[name]
		b, okOn := colours[on]
		if !ok || !okOn {
			t.Errorf("no token %s or %s", name, on)
			return
		}
		for theme, label := range []string{"light", "dark"} {
			if got := contrast(t, a[theme], b[theme]); got < least {
				t.Errorf("%s: %s on %s = %.2f, want %.1f", label, name, on, got, least)
			}
		}
	}
	for name, backgrounds := range pairs {
		for _, on := range backgrounds {
			check(name, on, 4.5)
		}
	}
	for _, on := range surfaces {
		check("control", on, 3)
	}
	for _, bar := range []string{"working", "fail"} { // of the hour that is paid
		check(bar, "quiet-tint", 3)
	}
}

func TestTheStyleSheetUsesRolesOnly(t *testing.T) {
	css, err := static.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(css), "--sans:")
	rest = regexp.MustCompile(`\.t\d+[^}]*\}`).ReplaceAllString(rest, "")
	for _, name := range []string{"static/nodes.css", "static/pool.css", "static/files.css", "static/terminal.css", "static/ports.css", "static/access.css"} {
		sheet, err := static.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rest += regexp.MustCompile(`(?m)(#[\w-]+)([^{}]*\{)`).ReplaceAllString(string(sheet), "id$2") // an id is no colour
	}
	for _, raw := range regexp.MustCompile(`#[0-9A-Fa-f]{3,8}\b`).FindAllString(rest, -1) {
		if raw != "#000" { // of a mask, which has no colour
			t.Errorf("raw colour %s outside the tokens", raw)
		}
	}
	templates, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range templates {
		if !strings.HasSuffix(f.Name(), ".templ") {
			continue
		}
		body, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"style=", "onclick", "<style", "javascript:"} {
			if strings.Contains(string(body), bad) {
				t.Errorf("%s has %q, which the policy blocks", f.Name(), bad)
			}
		}
	}
}

func TestFilesStayLight(t *testing.T) {
	for name, limit := range map[string]int{"static/nodes.css": 4 << 10, "static/pool.css": 6 << 10, "static/files.css": 4 << 10, "static/files.js": 6 << 10, "static/app.css": 30 << 10, "static/app.js": 60 << 10,
		"static/terminal.css": 4 << 10, "static/ports.css": 4 << 10, "static/access.css": 4 << 10, "static/terminal.js": 16 << 10} {
		body, err := static.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > limit {
			t.Errorf("%s has %d bytes, want at most %d", name, len(body), limit)
		}
	}
	s := newSite(t)
	task := s.working(t, "Fix it")
	for i := range 60 {
		s.kit.Emit(t, task.ID, chat.Item{ID: "a" + strconv.Itoa(i), Kind: chat.KindAgent, Text: "A message with **some** words in it.", Closed: true})
	}
	if n := s.get(t, "/t/"+string(task.ID)).Body.Len(); n > 100<<10 {
		t.Errorf("a task page with 50 items has %d bytes", n)
	}
}

func TestAssetsAreKeptForEver(t *testing.T) {
	s := newSite(t)
	link := s.assets.url("app.js")
	w := s.get(t, link)
	if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") {
		t.Errorf("GET %s = %d %v", link, w.Code, w.Header())
	}
	if w := s.get(t, "/static/app.js"); strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Error("a name without its hash is kept for ever")
	}
}

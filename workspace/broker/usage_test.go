package broker

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// recorded are answers of each dialect in the vendors' own shape.
var recorded = []struct {
	file, api string
	model     string
	want      chat.Usage
	priced    bool
}{
	// 12×3 + 2000×3.75 + 1000×6 + 20000×0.3 + 500×15, and two searches
	{"anthropic.sse", "anthropic", "claude-sonnet-4-5-20250929", chat.Usage{Input: 3012, Cached: 20000, Output: 500, Cost: 27036 + 20000}, true},
	{"anthropic.json", "anthropic", "claude-sonnet-4-5-20250929", chat.Usage{Input: 100, Output: 10, Cost: 450}, true},
	// 3000×2 + 1000×2.5 + 6000×0.1 + 200×10
	{"responses.sse", "openai", "gpt-6.1-sol-2026-09-29", chat.Usage{Input: 4000, Cached: 6000, Output: 200, Cost: 11100}, true},
	{"responses.json", "openai", "gpt-5.4", chat.Usage{Input: 1000, Output: 100, Cost: 4000}, true},
	// 500×0.25 + 1500×0.025 + 300×2 = 762.5
	{"chat.sse", "openai", "gpt-5-mini-2025-08-07", chat.Usage{Input: 500, Cached: 1500, Output: 300, Cost: 763}, true},
	{"chat.json", "openai", "some-local-model", chat.Usage{Input: 70, Output: 7}, false},
	// 1100×2 + 4000×0.2 + 80×12
	{"gemini.sse", "gemini", "gemini-3.1-pro-preview", chat.Usage{Input: 1100, Cached: 4000, Output: 80, Cost: 3960}, true},
	// 8×0.75 + 2×3.75 = 13.5
	{"gemini-array.json", "gemini", "gemini-3.8-flash", chat.Usage{Input: 8, Output: 2, Cost: 14}, true},
}

func TestUsageOfEachDialect(t *testing.T) {
	for _, tc := range recorded {
		body := read(t, tc.file)
		for _, step := range []int{1, 7, 1000, len(body)} {
			m := newMeter(apis[tc.api], strings.HasSuffix(tc.file, ".sse"))
			for rest := body; len(rest) > 0; {
				n := min(step, len(rest))
				m.write(rest[:n])
				rest = rest[n:]
			}
			got := m.end()
			u, priced := got.usage()
			if diff := cmp.Diff(tc.want, u); diff != "" || priced != tc.priced || got.model != tc.model {
				t.Errorf("%s in pieces of %d: model %q, priced %v, usage (-want +got):\n%s", tc.file, step, got.model, priced, diff)
			}
		}
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPrices(t *testing.T) {
	for _, tc := range []struct {
		name string
		t    tally
		want int64
		ok   bool
	}{
		{"a dated name is its model", tally{model: "claude-haiku-4-5-20251001", input: 1_000_000}, 1_000_000, true},
		{"a further version is not", tally{model: "claude-opus-5-7", input: 1_000_000}, 0, false},
		{"a newer version has its own price", tally{model: "claude-opus-5-5", input: 1_000_000}, 4_000_000, true},
		{"a size is another model", tally{model: "gpt-5-pro", input: 1_000_000}, 0, false},
		{"an alias", tally{model: "models/gemini-2.5-flash-latest", output: 1_000_000}, 2_500_000, true},
		{"up to the step", tally{model: "claude-haiku-5-5", input: 60_000, cached: 40_000}, 6_400, true},
		{"beyond the step all is dearer", tally{model: "claude-haiku-5-5", input: 60_001, cached: 40_000, output: 1000}, 34_501, true},
		{"a long prompt of OpenAI", tally{model: "gpt-6-sol", input: 300_000, output: 1000}, 1_200_000 + 15_000, true},
		{"less than a millionth is one", tally{model: "gpt-6-luna", input: 1}, 1, true},
		{"nothing costs nothing", tally{model: "gpt-6-luna"}, 0, true},
		{"no model", tally{input: 5}, 0, false},
	} {
		if got, ok := cost(tc.t); got != tc.want || ok != tc.ok {
			t.Errorf("%s: cost(%+v) = %d, %v, want %d, %v", tc.name, tc.t, got, ok, tc.want, tc.ok)
		}
	}
}

func TestMeterSurvivesAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tc := range recorded {
		for range 200 {
			body := read(t, tc.file)
			for range 1 + r.IntN(20) {
				body[r.IntN(len(body))] = byte(r.IntN(256))
			}
			m := newMeter(apis[tc.api], r.IntN(2) == 0)
			m.write(body[:r.IntN(len(body))])
			if u, _ := m.end().usage(); u.Input < 0 || u.Output < 0 || u.Cached < 0 {
				t.Fatalf("usage = %+v of %q", u, body)
			}
		}
	}
}

func TestMeterDoesNotHoldWhatIsTooLarge(t *testing.T) {
	m := newMeter(apis["anthropic"], true)
	chunk := []byte(strings.Repeat("x", 1<<20))
	for range 40 {
		m.write(chunk)
	}
	if cap(m.buf) > 2*maxEvent {
		t.Errorf("holds %d bytes", cap(m.buf))
	}
	m.write([]byte("\n"))
	m.write(read(t, "anthropic.sse"))
	if got := m.end(); got.output != 500 {
		t.Errorf("after an event too large: %+v", got)
	}
}

func BenchmarkMeter(b *testing.B) {
	body := read(b, "anthropic.sse")
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		m := newMeter(apis["anthropic"], true)
		m.write(body)
		m.end()
	}
}

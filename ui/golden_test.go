package ui

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

// The fragments of the stream are a contract with app.js: their ids, classes
// and data attributes.
func TestFragmentsAreAsBefore(t *testing.T) {
	s := newSite(t)
	var b strings.Builder
	for _, v := range s.samples() {
		switch {
		case v.Item != nil:
			html, err := fragment(t.Context(), itemView(*v.Item))
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(html)
		case v.Step != nil:
			html, err := fragment(t.Context(), stepperView(*v.Step, true))
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(html)
		}
	}
	got := strings.ReplaceAll(b.String(), "><", ">\n<")
	const name = "testdata/fragments.html"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("fragments changed (-want +got); run with -update when it was meant\n%s", d)
	}
}

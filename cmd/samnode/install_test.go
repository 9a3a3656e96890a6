package main

import (
	"strings"
	"testing"
)

func TestUnitHasTheFlagsOfRun(t *testing.T) {
	text := unit("/usr/local/bin/samnode", "/var/lib/sam node", []string{"--listen", "off", "--dead-man", "2h0m0s", "100%"})
	if want := `ExecStart=/usr/local/bin/samnode run --state "/var/lib/sam node" --listen off --dead-man 2h0m0s 100%%` + "\n"; !strings.Contains(text, want) {
		t.Errorf("the unit lacks %q:\n%s", want, text)
	}
}

func TestCheckRunFlags(t *testing.T) {
	if err := checkRunFlags([]string{"--listen", "off", "--slots", "2", "--dead-man", "2h0m0s"}); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]string{
		"unknown":     {"--slot", "2"},
		"no number":   {"--slots", "two"},
		"an argument": {"--slots", "2", "core"},
		"the state":   {"--state", "/x"},
	} {
		if err := checkRunFlags(bad); exitCode(err) != exitUsage {
			t.Errorf("%s: %v, want wrong usage", name, err)
		}
	}
}

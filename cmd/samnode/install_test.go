package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/consensus"
	"github.com/samnode/samnode/provision"
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

// TestWhatWantsAPersonIsNotTriedAgain: the service is not started again and
// again after an end that every start would come to.
func TestWhatWantsAPersonIsNotTriedAgain(t *testing.T) {
	for _, line := range strings.Split(unit("/samnode", "/state", nil), "\n") {
		if codes, ok := strings.CutPrefix(line, "RestartPreventExitStatus="); ok && codes == fmt.Sprint(exitUsage, exitRefused) {
			return
		}
	}
	t.Error("the unit tries exit codes again that want a person")
}

func TestExitCodeOfANodeThatMustBeUpgraded(t *testing.T) {
	for _, newer := range []error{chat.ErrNewer, provision.ErrNewer, consensus.ErrNewer} {
		if code := exitCode(failed(fmt.Errorf("machine m: %w", newer))); code != exitRefused {
			t.Errorf("a node that stops because of %q exits with %d, want %d", newer, code, exitRefused)
		}
	}
	if code := exitCode(failed(consensus.ErrDamaged)); code != exitFailed {
		t.Errorf("a damaged log exits with %d, want %d", code, exitFailed)
	}
}

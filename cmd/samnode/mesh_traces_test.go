package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/samnode/samnode/mesh/meshtest"
	"github.com/samnode/samnode/ui/api"
)

// TestTailnetTraces: a node that leaves, or is removed, is named as long as the
// tailnet lists its device, and the device goes once there are credentials for
// it.
func TestTailnetTraces(t *testing.T) {
	needProcesses(t)
	t.Parallel()
	control := meshtest.ControlWith(t, meshtest.ControlConfig{NodePrefix: "samnode"})
	keys := newKeysAPI(t, control)
	m := &testMesh{t: t, state: t.TempDir()}
	t.Cleanup(m.tearDown)
	at := m.place("atraces", "--keys-api", keys.URL)
	m.setUpNode(at, []string{"init", "--control", control.URL, "--state", at.state, "--name", "atraces", "--auth-key", "tskey-auth-test", "--setup-only"})
	m.up(at)
	leaver := m.joinTailnet(at)
	name := filepath.Base(leaver.state)
	m.awaitNode(at, name, "on the tailnet", func(x api.Node) bool { return x.Online && x.Path != nil })
	out, errs, code := leaver.cli("leave")
	if want := name + "'s device (samnode-" + name; code != exitDone || !strings.Contains(out, want) || !strings.Contains(out, "remove it in the control server's list") {
		t.Errorf("leave exits with %d and says %s%s, want %q and what to do", code, out, errs, want)
	}
	if code := leaver.exits(); code != exitRefused {
		t.Errorf("the node that left exits with %d", code)
	}
	if out, _, _ := at.cli("status"); !strings.Contains(out, name+"'s device") {
		t.Errorf("the status does not name the device that is left:\n%s", out)
	}
	if list := keys.forgotten(); len(list) > 0 {
		t.Errorf("without credentials the API was asked to forget %v", list)
	}

	at.secret(secretClientID, "id")
	at.secret(secretClientSecret, "secret")
	m.nodes = []*testNode{at}
	dead := m.place("deadtraces")
	v := must[api.Invitation](at, "node", "invite")
	m.setUpNode(dead, []string{"join", v.Token, "--state", dead.state, "--name", "deadtraces", "--auth-key", "tskey-auth-test", "--setup-only"})
	m.up(dead)
	m.awaitNode(at, "deadtraces", "on the tailnet", func(x api.Node) bool { return x.Online && x.Path != nil })
	dead.kill()
	if out := must[api.Removed](at, "node", "remove", "deadtraces"); out.Removed != "deadtraces" {
		t.Errorf("node remove prints %+v", out)
	}
	for _, device := range []string{"samnode-" + name, "samnode-deadtraces"} {
		m.await(device+" to be off the tailnet", func() bool { return slices.Contains(keys.forgotten(), device) })
	}
	m.await("the status to name no device", func() bool {
		out, _, code := at.cli("status")
		return code == exitDone && !strings.Contains(out, "'s device")
	})
	if slices.Contains(keys.forgotten(), "samnode-atraces") {
		t.Error("the device of a member was removed")
	}
}

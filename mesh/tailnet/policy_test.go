package tailnet

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tailscale/hujson"
)

func TestPolicy(t *testing.T) {
	type grant struct {
		Src, Dst, IP []string
		App          map[string][]struct {
			Role     string
			Projects []string
		}
	}
	var got struct {
		Groups, TagOwners map[string][]string
		NodeAttrs         []struct{ Target, Attr []string }
		AutoApprovers     struct{ Routes map[string][]string }
		Grants            []grant
	}
	read := func(p Policy) {
		t.Helper()
		plain, err := hujson.Standardize([]byte(p.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, p)
		}
		got.AutoApprovers.Routes, got.Grants = nil, nil
		if err := json.Unmarshal(plain, &got); err != nil {
			t.Fatal(err)
		}
	}
	read(Policy{Owners: []string{"ada@example.com"}, Members: []string{"bob@", `od"d`}})
	if diff := cmp.Diff(map[string][]string{"group:samnode-owners": {"ada@example.com"}, "group:samnode-members": {"bob@", `od"d`}}, got.Groups); diff != "" {
		t.Error(diff)
	}
	if len(got.Grants) != 4 || len(got.AutoApprovers.Routes) > 0 || got.Grants[2].App[DefaultCapability][0].Role != "owner" || got.NodeAttrs[0].Attr[0] != "cache-network-maps" {
		t.Errorf("%+v", got)
	}
	if people := strings.Join(got.Grants[1].IP, " "); people != "tcp:80 tcp:443 tcp:22 tcp:20000-59999 icmp:*" {
		t.Errorf("people reach %s", people)
	}
	read(Policy{Tag: "tag:other", Shared: netip.MustParseAddr("100.127.255.1")})
	if len(got.Grants) != 5 || got.AutoApprovers.Routes["100.127.255.1/32"][0] != "tag:other" || strings.Join(got.Grants[3].Dst, " ") != "tag:other 100.127.255.1/32" {
		t.Errorf("%+v", got)
	}
	if strings.Contains(Policy{Tag: "tag:other"}.String(), DefaultTag) {
		t.Error("the policy names another tag than its own")
	}
}

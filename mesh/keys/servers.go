package keys

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// tailscale is Tailscale's API, version 2, as an OAuth client calls it.
type tailscale struct{}

// authorize exchanges the client's secret for a token. It is good for an hour;
// keys are made less often than that.
func (tailscale) authorize(ctx context.Context, s *Server) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.c.ClientID}, "client_secret": {s.c.ClientSecret}}
	var out struct {
		AccessToken string `json:"access_token"`
	}
	err := s.send(ctx, http.MethodPost, "/api/v2/oauth/token", "application/x-www-form-urlencoded", "", strings.NewReader(form.Encode()), &out)
	return out.AccessToken, err
}

func (tailscale) mint(ctx context.Context, s *Server, note string, expires time.Time) (string, error) {
	type create struct {
		Reusable      bool     `json:"reusable"`
		Ephemeral     bool     `json:"ephemeral"`
		Preauthorized bool     `json:"preauthorized"`
		Tags          []string `json:"tags"`
	}
	in := struct {
		Capabilities struct {
			Devices struct {
				Create create `json:"create"`
			} `json:"devices"`
		} `json:"capabilities"`
		ExpirySeconds int64  `json:"expirySeconds"`
		Description   string `json:"description"`
	}{ExpirySeconds: int64(time.Until(expires).Seconds()), Description: describe(note)}
	in.Capabilities.Devices.Create = create{Ephemeral: true, Preauthorized: true, Tags: []string{s.c.Tag}}
	var out struct{ Key string }
	err := s.call(ctx, http.MethodPost, "/api/v2/tailnet/-/keys", in, &out)
	return out.Key, err
}

// describe is the note as Tailscale takes it: at most 50 letters, digits,
// hyphens and spaces.
func describe(note string) string {
	out := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return ' '
	}, note)
	return out[:min(len(out), 50)]
}

func (tailscale) find(ctx context.Context, s *Server, addr netip.Addr) (string, error) {
	var out struct {
		Devices []struct {
			NodeID    string   `json:"nodeId"`
			Addresses []string `json:"addresses"`
		}
	}
	err := s.call(ctx, http.MethodGet, "/api/v2/tailnet/-/devices", nil, &out)
	for _, d := range out.Devices {
		if has(d.Addresses, addr) {
			return "/api/v2/device/" + url.PathEscape(d.NodeID), nil
		}
	}
	return "", err
}

// headscale is headscale's API, version 1.
type headscale struct{}

func (headscale) authorize(_ context.Context, s *Server) (string, error) { return s.c.APIKey, nil }

// mint asks for a key with a tag and without a user, as headscale has it from
// 0.28 on. The key gives the tag; the machine must not ask for it.
func (headscale) mint(ctx context.Context, s *Server, _ string, expires time.Time) (string, error) {
	in := struct {
		Reusable   bool      `json:"reusable"`
		Ephemeral  bool      `json:"ephemeral"`
		Expiration time.Time `json:"expiration"`
		ACLTags    []string  `json:"aclTags"`
	}{Ephemeral: true, Expiration: expires.UTC().Truncate(time.Second), ACLTags: []string{s.c.Tag}}
	var out struct {
		PreAuthKey struct{ Key string }
	}
	err := s.call(ctx, http.MethodPost, "/api/v1/preauthkey", in, &out)
	return out.PreAuthKey.Key, err
}

func (headscale) find(ctx context.Context, s *Server, addr netip.Addr) (string, error) {
	var out struct {
		Nodes []struct {
			ID          string   `json:"id"`
			IPAddresses []string `json:"ipAddresses"`
		}
	}
	err := s.call(ctx, http.MethodGet, "/api/v1/node", nil, &out)
	for _, n := range out.Nodes {
		if has(n.IPAddresses, addr) {
			return "/api/v1/node/" + url.PathEscape(n.ID), nil
		}
	}
	return "", err
}

func has(list []string, addr netip.Addr) bool {
	for _, text := range list {
		if a, err := netip.ParseAddr(text); err == nil && a == addr {
			return true
		}
	}
	return false
}

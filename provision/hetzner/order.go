package hetzner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/samnode/samnode/provision"
)

// MaxUserData is how many bytes of user data Hetzner takes.
const MaxUserData = 32 << 10

// options are what Hetzner is asked for. An order that cannot work is refused
// before anybody is called.
func (c *Client) options(ctx context.Context, o provision.Order) (hcloud.ServerCreateOpts, error) {
	if flaw := c.flaw(o); flaw != "" {
		return hcloud.ServerCreateOpts{}, refuse(provision.BadOrder, nil, "The order of the server %q cannot be sent to Hetzner: %s. This is a fault of samnode's.", o.Name, flaw)
	}
	key, err := c.sshKey(ctx)
	if err != nil {
		return hcloud.ServerCreateOpts{}, err
	}
	opts := hcloud.ServerCreateOpts{
		Name:       o.Name,
		ServerType: &hcloud.ServerType{Name: o.Type},
		Location:   &hcloud.Location{Name: o.Location},
		Image:      &hcloud.Image{Name: o.Image},
		UserData:   string(o.UserData),
		Labels:     o.Labels,
		// IPv4 costs little, and without it neither GitHub nor most registries
		// can be reached.
		PublicNet: &hcloud.ServerCreatePublicNet{EnableIPv4: true, EnableIPv6: true},
	}
	if id, err := strconv.ParseInt(o.Image, 10, 64); err == nil {
		opts.Image = &hcloud.Image{ID: id} // a snapshot has no other name
	}
	if key != nil {
		opts.SSHKeys = []*hcloud.SSHKey{key}
	}
	return opts, nil
}

// flaw is what is wrong with an order, or nothing.
func (c *Client) flaw(o provision.Order) string {
	for _, part := range [][2]string{{"op", o.Op}, {"type", o.Type}, {"location", o.Location}, {"image", o.Image}} {
		if part[1] == "" {
			return "it has no " + part[0]
		}
	}
	switch {
	case !hostName(o.Name):
		return "its name is not a host name of lower-case letters, digits and '-', 63 at most"
	case len(o.UserData) > MaxUserData:
		return fmt.Sprintf("its user data has %d bytes, and Hetzner takes %d", len(o.UserData), MaxUserData)
	case !utf8.Valid(o.UserData):
		return "its user data is not text: base64 is needed around what is compressed"
	}
	return c.labelFlaw(o)
}

// labelFlaw: a server whose labels are not right would never be seen again.
func (c *Client) labelFlaw(o provision.Order) string {
	if !c.ours(o.Labels) {
		return "its labels are not those of this mesh's machines"
	}
	if o.Labels[provision.LabelOp] != o.Op {
		return "its op label is another op's"
	}
	if _, ok := (provision.Server{Labels: o.Labels}).Expires(); !ok {
		return "its expires label is not a time in unix seconds"
	}
	for name, value := range o.Labels {
		if name == "" || !labelValue(name) || !labelValue(value) {
			return fmt.Sprintf("Hetzner does not take the label %s=%q", name, value)
		}
	}
	return ""
}

func hostName(s string) bool {
	other := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	return s != "" && len(s) <= 63 && !strings.ContainsFunc(s, other) && s[0] != '-' && s[len(s)-1] != '-'
}

// sshKey finds the key of the settings once. Keys are never made: one for each
// server is left behind sooner or later.
func (c *Client) sshKey(ctx context.Context) (*hcloud.SSHKey, error) {
	if c.cfg.SSHKey == "" {
		return nil, nil //nolint:nilnil // none is wanted
	}
	c.mu.Lock()
	key := c.key
	c.mu.Unlock()
	if key != nil {
		return key, nil
	}
	s := about("finding the SSH key %s", c.cfg.SSHKey)
	found, resp, err := c.api.SSHKey.GetByFingerprint(ctx, c.cfg.SSHKey)
	if err == nil && found == nil && resp.Meta.Pagination == nil {
		err = errors.New("the answer has no list")
	}
	if err != nil {
		return nil, explain(s, resp, err)
	}
	if found == nil {
		return nil, refuse(provision.BadOrder, nil, "The Hetzner project has no SSH key with the fingerprint %s: add it in the Hetzner console under Security, or take it out of the settings.", c.cfg.SSHKey)
	}
	c.mu.Lock()
	c.key = found
	c.mu.Unlock()
	return found, nil
}

// forgetKey makes the next order look for the key again.
func (c *Client) forgetKey() {
	c.mu.Lock()
	c.key = nil
	c.mu.Unlock()
}

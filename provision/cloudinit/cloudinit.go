// Package cloudinit makes the user-data with which a bought machine becomes a
// worker of the mesh by itself: it fetches samnode, joins with keys that work
// once, and closes what it does not need.
//
// Whatever runs on the machine can read its user-data until the metadata route
// is closed, which is before the first workspace starts. So it holds the two
// keys and nothing else that is secret.
package cloudinit

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the template
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"
)

// MaxUserData is what Hetzner takes, in bytes.
const MaxUserData = 32 << 10

// Boot is what one machine needs to know.
type Boot struct {
	Node    string        // its name in the mesh
	Binary  string        // URL of samnode
	SHA256  string        // of that, as hex
	AuthKey string        // lets it onto the tailnet, once
	Word    string        // lets it into the mesh, once
	Slots   int           // 0: as many as the machine's processors give
	DeadMan time.Duration // cut off from the mesh for that long it powers itself off; 0: never
	Image   string        // of workspaces, to be there before the first one; empty: the default
}

//go:embed boot.yaml
var text string

// Config is the cloud-config as text.
func (b Boot) Config() (string, error) {
	if err := b.check(); err != nil {
		return "", fmt.Errorf("making user-data: %w", err)
	}
	t, err := template.New("boot").Funcs(template.FuncMap{"sh": quote}).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("making user-data: %w", err)
	}
	var out strings.Builder
	if err := t.Execute(&out, b); err != nil {
		return "", fmt.Errorf("making user-data: %w", err)
	}
	return out.String(), nil
}

// UserData is the cloud-config as it is sent: compressed, in base64, which
// cloud-init takes at Hetzner.
func (b Boot) UserData() ([]byte, error) {
	config, err := b.Config()
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(config)); err != nil {
		return nil, fmt.Errorf("compressing user-data: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compressing user-data: %w", err)
	}
	data := base64.StdEncoding.AppendEncode(nil, packed.Bytes())
	if len(data) > MaxUserData {
		return nil, fmt.Errorf("the user-data has %d bytes and %d are taken", len(data), MaxUserData)
	}
	return data, nil
}

// check refuses what would make a machine that costs money and never joins.
func (b Boot) check() error {
	u, err := url.Parse(b.Binary)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("the address of samnode, %q, is no http or https URL", b.Binary)
	case !isSum(b.SHA256):
		return errors.New("the SHA-256 of samnode is not 64 hex digits")
	case b.Node == "" || b.AuthKey == "" || b.Word == "":
		return errors.New("a machine needs a name, a key for the tailnet and an invitation")
	}
	for _, s := range []string{b.Node, b.Binary, b.AuthKey, b.Word, b.Image} {
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("a name, key or address holds a space or a character that is not ASCII")
		}
	}
	return nil
}

func isSum(s string) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == 32
}

// quote makes a word of it for sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

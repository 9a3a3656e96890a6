package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/samnode/samnode/mesh/keys"
	"github.com/samnode/samnode/ui/api"
)

// CheckBuying implements api.Pool. It buys nothing; it makes one key for a
// machine, which runs out unused.
func (v meshView) CheckBuying(ctx context.Context) []api.PoolCheck {
	n := v.n
	c, err := n.credentialsNow()
	switch {
	case err != nil:
		return []api.PoolCheck{{Name: "buying", Detail: err.Error(), Todo: "See the log of this node."}}
	case c.token == "":
		return []api.PoolCheck{{Name: "buying", OK: true, Detail: "off: the mesh has no Hetzner token (samnode secret set " + secretHetzner + ")"}}
	case n.id.Network != onTailnet:
		return []api.PoolCheck{{Name: "buying", Detail: "machines are bought for a mesh on a tailnet only", Todo: "Begin one with: samnode init"}}
	}
	return []api.PoolCheck{n.checkHetzner(ctx, c), checkKeyMaking(ctx, c), n.checkBinary(ctx)}
}

func (n *node) checkHetzner(ctx context.Context, c credentials) api.PoolCheck {
	cloud, err := n.cloud(c)
	if err == nil {
		err = cloud.Check(ctx)
	}
	if err != nil {
		return api.PoolCheck{Name: "hetzner", Detail: err.Error(), Todo: "samnode secret set " + secretHetzner + ", with a token that may read and write"}
	}
	return api.PoolCheck{Name: "hetzner", OK: true, Detail: "the token may buy"}
}

func checkKeyMaking(ctx context.Context, c credentials) api.PoolCheck {
	server, err := keys.New(c.keys)
	if err == nil {
		err = server.Check(ctx)
	}
	if err != nil {
		return api.PoolCheck{Name: "machine keys", Detail: err.Error(), Todo: fmt.Sprintf("samnode secret set %s and %s, or %s", secretClientID, secretClientSecret, secretHeadscale)}
	}
	return api.PoolCheck{Name: "machine keys", OK: true, Detail: "the control server makes keys for machines"}
}

// checkBinary looks at what machines would fetch, from here.
func (n *node) checkBinary(ctx context.Context) api.PoolCheck {
	const todo = "Start core nodes with --binary-url or --serve-binary."
	url, sum, err := n.binary()
	if err != nil {
		return api.PoolCheck{Name: "samnode for machines", Detail: err.Error(), Todo: todo}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return api.PoolCheck{Name: "samnode for machines", Detail: err.Error(), Todo: todo}
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		err = errors.Join(err, resp.Body.Close())
	}
	switch {
	case err != nil:
		return api.PoolCheck{Name: "samnode for machines", Detail: err.Error(), Todo: todo}
	case resp.StatusCode != http.StatusOK:
		return api.PoolCheck{Name: "samnode for machines", Detail: url + " answers " + resp.Status, Todo: todo}
	}
	return api.PoolCheck{Name: "samnode for machines", OK: true, Detail: url + ", SHA-256 " + strings.ToLower(sum[:12]) + "…"}
}

//go:build pins

package main

import (
	_ "github.com/a-h/templ"
	_ "github.com/a-h/templ/runtime"
	_ "github.com/alecthomas/chroma/v2"
	_ "github.com/alecthomas/chroma/v2/formatters/html"
	_ "github.com/alecthomas/chroma/v2/lexers"
	_ "github.com/bradleyfalzon/ghinstallation/v2"
	_ "github.com/chromedp/chromedp"
	_ "github.com/coder/acp-go-sdk"
	_ "github.com/coder/websocket"
	_ "github.com/creack/pty"
	_ "github.com/docker/docker/client"
	_ "github.com/getkin/kin-openapi/openapi3"
	_ "github.com/getkin/kin-openapi/openapi3filter"
	_ "github.com/getkin/kin-openapi/routers/gorillamux"
	_ "github.com/golang-jwt/jwt/v4"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/go-github/v62/github"
	_ "github.com/hashicorp/go-hclog"
	_ "github.com/hashicorp/raft"
	_ "github.com/hashicorp/raft-boltdb/v2"
	_ "github.com/hashicorp/raft-wal"
	_ "github.com/microcosm-cc/bluemonday"
	_ "github.com/oklog/ulid/v2"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/tailscale/hujson"
	_ "github.com/yuin/goldmark"
	_ "github.com/yuin/goldmark-highlighting/v2"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "modernc.org/sqlite"
)

func main() {}

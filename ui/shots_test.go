package ui

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

func TestShots(t *testing.T) {
	dir := os.Getenv("SHOTS")
	if dir == "" {
		t.Skip("set SHOTS")
	}
	ctx := browser(t)
	m := newFakeMesh()
	m.around = sampleMesh()
	s := newSite(t, m.with)
	s.working(t, "Fix login redirect")
	server := listen(t, s)
	for _, theme := range []string{"light", "dark"} {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
		if err != nil {
			t.Fatal(err)
		}
		for name, path := range map[string]string{"nodes": "/nodes", "node": "/nodes/core-1", "remove": "/nodes/core-2/remove", "settings": "/settings", "home": "/"} {
			for _, size := range []struct {
				n    string
				w, h int64
			}{{"desk", 1280, 1000}, {"phone", 390, 1800}, {"small", 320, 1800}} {
				if size.n == "phone" && theme == "dark" || size.n == "small" && theme == "light" {
					continue
				}
				if size.n == "desk" {
					run(t, ctx, chromedp.EmulateViewport(size.w, size.h))
				} else {
					run(t, ctx, chromedp.EmulateViewport(size.w, size.h, chromedp.EmulateMobile))
				}
				run(t, ctx, chromedp.Navigate(server.URL+path))
				png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				os.WriteFile(filepath.Join(dir, name+"-"+size.n+"-"+theme+".png"), png, 0o644)
			}
		}
	}
}

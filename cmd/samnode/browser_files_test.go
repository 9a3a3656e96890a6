package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/samnode/samnode/chat"
)

// TestBrowserFiles: a person looks around in a live workspace, uploads, renames
// and deletes; without scripts, too. The last commit has none of that.
func TestBrowserFiles(t *testing.T) {
	needDocker(t)
	t.Parallel()
	n := newNode(t)
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(t, nil), "--mode", "everything")
	v := must[taskView](n, "task", "run", "--project", "app", "--wait", sh(`mkdir -p src; echo hello > hello.txt; printf 'package main\n\nfunc main() {}\n' > src/main.go; echo old > src/old.go`))
	n.inside(v.ID, `cd /workspaces/app && rm src/old.go && echo more >> hello.txt && ln -s ../../etc/passwd out && ln -s src/main.go main.go && mkfifo pipe && printf x > "$(printf 'two\nlines')" &&
		printf '\211PNG\r\n\032\n\000\000\000\rIHDR\000\000\000\001\000\000\000\001\010\006\000\000\000\037\025\304\211\000\000\000\015IDATx\234c\370\377\377?\000\005\376\002\376\3155\201\204\000\000\000\000IEND\256B\140\202' > dot.png`)
	page := "/t/" + string(v.ID)
	p := newTab(t, n)
	p.open(page + "/files")
	p.shows("#dir", "hello.txt")
	p.shows("#dir", `two\nlines`)
	p.shows("#dir", "→ ../../etc/passwd (leads nowhere, or outside)")
	p.shows(".file-tools", "as it is now")
	p.uploads(t, v.ID)
	p.filesLooks(page)

	p.open(page + "/files/pipe")
	p.shows(".panel", "is a fifo")
	p.open(page + "/files/out")
	p.shows(".panel", "is a link to")
	p.open(page + "/files/dot.png")
	p.wait(`document.querySelector(".picture img")?.naturalWidth === 1`)
	p.open(page + "/diff?scope=now")
	p.shows(".diffs", "more")
	p.shows(".diffs", "up.txt")
	p.still()

	p.scripts(false)
	p.open(page + "/files/docs/up.txt")
	p.click(".file-tools details summary")
	p.do(clear(`.file-tools input[name=name]`))
	p.write(`.file-tools input[name=name]`, "/renamed.txt")
	p.click(`.file-tools button[value=rename]`)
	p.wait("location.pathname === " + quote(page+"/files/renamed.txt"))
	p.shows(".source", "from here")
	p.click(".file-tools details summary")
	p.click(`.file-tools button[value=remove]`)
	p.wait("location.pathname === " + quote(page+"/files"))
	p.open(page + "/files?at=commit")
	p.shows("#dir", "hello.txt")
	if got := script[string](p, `document.querySelector("#dir").innerText`); strings.Contains(got, "pipe") || strings.Contains(got, ".git") {
		t.Errorf("the last commit has %s", got)
	}
}

// uploads sends files into a folder, one of them a second time.
func (p *tab) uploads(t *testing.T, task chat.TaskID) {
	t.Helper()
	local := filepath.Join(t.TempDir(), "up.txt")
	if err := os.WriteFile(local, []byte("from here\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	upload := func() {
		p.click("#upload summary")
		p.do(chromedp.SetUploadFiles(chromedp.CSS(`#upload input[type=file]`), []string{local}))
		p.click("#upload button[type=submit]")
	}
	p.open("/t/" + string(task) + "/files")
	p.click(".file-tools > details summary")
	p.write(`.file-tools input[name=name]`, "docs")
	p.click(`.file-tools button[value=folder]`)
	p.wait(`location.pathname.endsWith("/files/docs")`)
	p.shows("#dir", "This folder is empty")
	upload()
	p.shows("#dir", "up.txt")
	if got := p.node.inside(task, "cat /workspaces/app/docs/up.txt"); got != "from here\n" {
		t.Errorf("the upload is %q", got)
	}
	if err := os.WriteFile(local, []byte("from here again\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script[bool](p, `window.confirm = (text) => { window.asked = text; return false; }, true`)
	upload()
	p.shows("#uploads", "Left as it was")
	if asked := script[string](p, "window.asked"); asked != "up.txt is there already. Replace it?" {
		t.Errorf("asked %q", asked)
	}
	script[bool](p, `window.confirm = () => true, true`)
	p.wait(`document.querySelector("#uploads")`)
	upload()
	p.wait(`!document.querySelector("#uploads") && document.querySelector("#dir .right")?.textContent.startsWith("16")`)
}

// filesLooks takes pictures of the panel, and checks that nothing is cut.
func (p *tab) filesLooks(page string) {
	p.t.Helper()
	for _, theme := range []string{"light", "dark"} {
		p.theme(theme)
		for name, path := range map[string]string{"folder": "/files", "source": "/files/src/main.go", "commit": "/files/src?at=commit"} {
			p.size(1280, 800)
			p.open(page + path)
			p.shows(".panel-head", "Files")
			p.still()
			p.shot("files-" + name + "-" + theme)
			p.phone(390, 844)
			p.open(page + path)
			p.still()
			p.shot("files-" + name + "-" + theme + "-phone")
			p.size(1280, 800)
		}
	}
	p.open(page + "/files/docs")
	p.click("#upload summary")
	p.shot("files-upload")
	p.phone(390, 844)
	p.open(page + "/files/docs")
	p.click(".file-tools > details summary")
	p.shot("files-change-phone")
	p.size(1280, 800)
	p.theme("light")
}

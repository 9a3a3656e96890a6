package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func full() Boot {
	return Boot{
		Node: "m-01jbench", Binary: "https://example.com/samnode-linux-amd64", SHA256: strings.Repeat("0f", 32),
		AuthKey: "tskey-auth-x'y", Word: "word.of-the_mesh=", Slots: 2, DeadMan: 2 * time.Hour, Image: "samnode/base:latest",
	}
}

func TestGolden(t *testing.T) {
	bare := full()
	bare.Slots, bare.DeadMan, bare.Image = 0, 0, ""
	for name, b := range map[string]Boot{"full": full(), "bare": bare} {
		got, err := b.Config()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".yaml")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; go test ./provision/cloudinit -update writes it, git diff shows how", name)
		}
	}
}

// TestR27HoldsTheTwoKeysAndNothingElse: everything else in it is public.
func TestR27HoldsTheTwoKeysAndNothingElse(t *testing.T) {
	b := full()
	text, err := b.Config()
	if err != nil {
		t.Fatal(err)
	}
	other := b
	other.AuthKey, other.Word = "AUTH", "WORD"
	redone, err := other.Config()
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, quote(b.AuthKey), "'AUTH'", 1)
	text = strings.Replace(text, quote(b.Word), "'WORD'", 1)
	if text != redone {
		t.Error("a key is in it more than once, or changes more than its line")
	}
}

func TestR28SmallAndCompressed(t *testing.T) {
	b := full()
	data, err := b.UserData()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > MaxUserData/8 {
		t.Errorf("it has %d bytes, want well under %d", len(data), MaxUserData)
	}
	packed, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if want, _ := b.Config(); err != nil || string(text) != want {
		t.Errorf("unpacked it is not the config: %v", err)
	}
	b.Word = strings.Repeat("0123456789abcdef", 8<<10) // it compresses; what does not is refused
	noise := make([]byte, 64<<10)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = '!' + byte(x>>24)%90
	}
	b.Word = string(noise)
	if _, err := b.UserData(); err == nil || !strings.Contains(err.Error(), "32768 are taken") {
		t.Errorf("user-data that is too large = %v", err)
	}
}

// TestR29ScriptIsWhatDashReads.
func TestR29ScriptIsWhatDashReads(t *testing.T) {
	dash, err := exec.LookPath("dash")
	if err != nil {
		t.Skip("no dash here")
	}
	for _, b := range []Boot{full(), {Node: "n", Binary: "http://[fd00::1]:9/x?a=b&c='d'", SHA256: strings.Repeat("AA", 32), AuthKey: "$(reboot)`id`", Word: `"\'`}} {
		text, err := b.Config()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), dash, "-n")
		cmd.Stdin = strings.NewReader(script(t, text))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		keys := exec.CommandContext(t.Context(), dash, "-c", indented(t, text, "/run/samnode-boot/keys")+"\nprintf '%s\n%s' \"$AUTH_KEY\" \"$WORD\"")
		if out, err := keys.CombinedOutput(); err != nil || string(out) != b.AuthKey+"\n"+b.Word {
			t.Errorf("dash reads the keys as %q: %v", out, err)
		}
	}
}

func script(t *testing.T, text string) string { return indented(t, text, "/run/samnode-boot/up") }

// indented is the content of one of the files.
func indented(t *testing.T, text, path string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "path: "+path+"\n")
	if !ok {
		t.Fatalf("no file %s", path)
	}
	_, rest, _ = strings.Cut(rest, "content: |\n")
	var out strings.Builder
	for line := range strings.Lines(rest) {
		if line != "\n" && !strings.HasPrefix(line, "      ") {
			break
		}
		out.WriteString(strings.TrimPrefix(line, "      "))
	}
	return out.String()
}

func TestBadBoots(t *testing.T) {
	for name, change := range map[string]func(*Boot){
		"no URL":       func(b *Boot) { b.Binary = "samnode" },
		"another way":  func(b *Boot) { b.Binary = "ftp://example.com/x" },
		"no sum":       func(b *Boot) { b.SHA256 = "" },
		"half a sum":   func(b *Boot) { b.SHA256 = "0f" },
		"no key":       func(b *Boot) { b.AuthKey = "" },
		"no word":      func(b *Boot) { b.Word = "" },
		"no name":      func(b *Boot) { b.Node = "" },
		"a new line":   func(b *Boot) { b.Word = "x\nruncmd: [reboot]" },
		"a space":      func(b *Boot) { b.Image = "a b" },
		"not ASCII":    func(b *Boot) { b.Node = "é" },
		"a spaced URL": func(b *Boot) { b.Binary = "https://example.com/a b" },
	} {
		b := full()
		change(&b)
		if text, err := b.Config(); err == nil {
			t.Errorf("%s was taken:\n%s", name, text)
		}
	}
}

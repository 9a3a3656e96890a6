package scriptagent

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, text string
		want       []block
	}{
		{"plain words", "please fix it", nil},
		{"one block", "do\n```sh\nmake\n```\nnow", []block{{shell: "sh", code: "make"}}},
		{"bash and shell, any case", "```Bash\na\n```\n~~~shell title=x\nb\n~~~", []block{{shell: "bash", code: "a"}, {shell: "sh", code: "b"}}},
		{"other languages are text, also with a fence inside", "````md\n```sh\nrm -rf /\n```\n````\n```go\nx\n```", nil},
		{"not closed", "```sh\nmake\nmake test", []block{{shell: "sh", code: "make\nmake test"}}},
		{"an empty block", "```sh\n\n```", nil},
		{"without a language", "```\nmake\n```", nil},
		{"indented as code", "    ```sh\n    make\n    ```", nil},
		{"windows line ends", "```sh\r\nmake\r\n```\r\n", []block{{shell: "sh", code: "make"}}},
		{"a longer fence closes", "```sh\ncat <<E\n~~~\nE\n`````", []block{{shell: "sh", code: "cat <<E\n~~~\nE"}}},
		{"a question", "```samnode question\nWhich?\n- a\n```", []block{{verb: "question", code: "Which?\n- a"}}},
		{"a directive nobody knows", "```samnode dance\nx\n```", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parse(tt.text), cmp.AllowUnexported(block{})); diff != "" {
				t.Errorf("parse(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}

func TestTitle(t *testing.T) {
	for code, want := range map[string]string{
		"make":                          "make",
		"# build\n\nmake\nmake test":    "make …",
		"# only a remark":               "# only a remark",
		strings.Repeat("x", 200) + "\n": strings.Repeat("x", 100) + "…",
	} {
		if got := title(code); got != want {
			t.Errorf("title(%q) = %q, want %q", code, got, want)
		}
	}
}

func TestWholeCharacters(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "a☃": 4, "a\xe2\x98": 1, "a\xe2": 1, "\xff": 1, "☃\xf0\x9f\x98": 3} {
		if got := whole([]byte(text)); got != want {
			t.Errorf("whole(%q) = %d, want %d", text, got, want)
		}
	}
}

// The protocol's edges: not JSON, no such method, no such session or folder.
func TestErrors(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	in := strings.Join([]string{
		`nonsense`, ``,
		`{"jsonrpc":"2.0","id":1,"method":"dance"}`,
		`{"jsonrpc":"2.0","id":2,"method":"session/prompt","params":{"sessionId":"x"}}`,
		`{"jsonrpc":"2.0","id":3,"method":"session/new","params":{"cwd":"/no/such/folder"}}`,
		`{"jsonrpc":"2.0","id":4,"method":"session/load","params":{"sessionId":"../../etc/passwd"}}`,
		`{"jsonrpc":"2.0","id":5,"method":"session/resume","params":{"sessionId":"script-aaaaaaaaaaaa"}}`,
		`{"jsonrpc":"2.0","id":6,"method":"session/set_mode","params":{"sessionId":"x","modeId":"dance"}}`,
		`{"jsonrpc":"2.0","method":"session/cancel","params":{"sessionId":"x"}}`,
		`{"jsonrpc":"2.0","id":"nobody","result":{}}`,
	}, "\n") + "\n"
	var out bytes.Buffer
	if err := Main(t.Context(), io.MultiReader(strings.NewReader(in)), &out); err != nil {
		t.Fatal(err)
	}
	want := []string{"-32700", "-32601", "-32002", "-32602", "-32002", "-32002", "-32602"}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d answers, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, l := range lines {
		if !strings.Contains(l, `"code":`+want[i]) {
			t.Errorf("answer %d = %s, want code %s", i, l, want[i])
		}
	}
}

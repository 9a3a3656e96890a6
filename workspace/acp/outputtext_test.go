package acp

import "testing"

func TestOutputText(t *testing.T) {
	for name, test := range map[string]struct{ raw, want string }{
		"text":                             {`"all good"`, "all good"},
		"text in an object":                {`{"output":"all good","exit_code":0}`, "all good"},
		"what was formatted goes first":    {`{"formatted_output":"b","stdout":"a"}`, "b"},
		"a command that printed nothing":   {`{"exit_code":143}`, ""},
		"empty output with an exit code":   {`{"output":"","exit_code":0}`, ""},
		"an object of the tool's own":      {`{"hits": 3}`, `{"hits":3}`},
		"a failure's exit code of null":    {`{"exit_code":null,"error":"gone"}`, "gone"},
		"the error of one that has a code": {`{"exit_code":1,"error":"gone"}`, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outputText([]byte(test.raw)); got != test.want {
				t.Errorf("outputText(%s) = %q, want %q", test.raw, got, test.want)
			}
		})
	}
}

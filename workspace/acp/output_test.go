package acp

import (
	"errors"
	"iter"
	"strings"
	"testing"
)

func TestOutputIsWhole(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	lines := []string{
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"hi"}}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"a","title":"ls"}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"b","title":"cat"}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"a","content":[{"type":"content","content":{"type":"text","text":"half"}}]}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"b","_meta":{"terminal_output_delta":{"data":"one "}}}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"a","content":[{"type":"content","content":{"type":"text","text":"` + long + `"}}]}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"b","_meta":{"terminal_output_delta":{"data":"two"}}}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call","toolCallId":"a","title":"again"}}}`,
		`{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"tool_call_update","toolCallId":"a","rawOutput":"other"}}}`,
	}
	journal := func(fail error) iter.Seq2[Record, error] {
		return func(yield func(Record, error) bool) {
			for i, l := range lines {
				if !yield(Record{Seq: uint64(i + 1), Dir: Out, Data: []byte(l)}, nil) {
					return
				}
			}
			if fail != nil {
				yield(Record{}, fail)
			}
		}
	}
	for _, c := range []struct {
		name   string
		source uint64
		want   string
		found  bool
	}{
		{"sent whole, longer than the log keeps", 2, long, true},
		{"sent in parts", 3, "one two", true},
		{"an id taken again is another call", 8, "other", true},
		{"no call begins there", 1, "", false},
		{"past the end", 99, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, found, err := Output(journal(nil), c.source)
			if got != c.want || found != c.found || err != nil {
				t.Errorf("Output = %.40q (%d bytes), %v, %v; want %.40q, %v", got, len(got), found, err, c.want, c.found)
			}
		})
	}
	broken := errors.New("damaged")
	if _, _, err := Output(journal(broken), 3); !errors.Is(err, broken) {
		t.Errorf("Output of a damaged journal = %v", err)
	}
}

package broker

import (
	"encoding/json"
)

// The readers take one JSON document of an answer into the tally. What they do
// not know they ignore: vendors add events at any time.

type anthropicUsage struct {
	Input         int64 `json:"input_tokens"`
	Output        int64 `json:"output_tokens"`
	CacheRead     int64 `json:"cache_read_input_tokens"`
	CacheWrite    int64 `json:"cache_creation_input_tokens"`
	CacheCreation *struct {
		Hour int64 `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	ServerTools *struct {
		Searches int64 `json:"web_search_requests"`
	} `json:"server_tool_use"`
}

// readAnthropic knows the events of a Messages stream and the message itself.
// The counts of message_delta are sums so far, and may leave out the prompt.
func readAnthropic(data []byte, t *tally) {
	var e struct {
		Model   string          `json:"model"`
		Usage   *anthropicUsage `json:"usage"`
		Message *struct {
			Model string          `json:"model"`
			Usage *anthropicUsage `json:"usage"`
		} `json:"message"`
		Delta struct {
			Text     string `json:"text"`
			Partial  string `json:"partial_json"`
			Thinking string `json:"thinking"`
		} `json:"delta"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	if e.Message != nil {
		e.Model, e.Usage = e.Message.Model, e.Message.Usage
	}
	if e.Model != "" {
		t.model = e.Model
	}
	t.textBytes += int64(len(e.Delta.Text) + len(e.Delta.Partial) + len(e.Delta.Thinking))
	if u := e.Usage; u != nil {
		t.addAnthropic(u)
	}
}

func (t *tally) addAnthropic(u *anthropicUsage) {
	t.known = true
	t.input = max(t.input, u.Input)
	t.cached = max(t.cached, u.CacheRead)
	writes := max(t.written+t.writtenH, u.CacheWrite)
	if u.CacheCreation != nil { // only the first event splits them
		t.writtenH = max(t.writtenH, u.CacheCreation.Hour)
	}
	t.written = max(0, writes-t.writtenH)
	t.output = max(t.output, u.Output)
	if u.ServerTools != nil {
		t.searches = max(t.searches, u.ServerTools.Searches)
	}
}

// openaiUsage is of Responses and of chat completions, which name the same
// counts differently. Both count the cached part within the input.
type openaiUsage struct {
	Input        int64 `json:"input_tokens"`
	Output       int64 `json:"output_tokens"`
	InputDetails struct {
		Cached  int64 `json:"cached_tokens"`
		Written int64 `json:"cache_write_tokens"`
	} `json:"input_tokens_details"`
	Prompt        int64 `json:"prompt_tokens"`
	Completion    int64 `json:"completion_tokens"`
	PromptDetails struct {
		Cached  int64 `json:"cached_tokens"`
		Written int64 `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
}

func readOpenAI(data []byte, t *tally) {
	var e struct {
		Model    string          `json:"model"`
		Usage    *openaiUsage    `json:"usage"`
		Delta    json.RawMessage `json:"delta"` // of Responses: a string
		Response *struct {
			Model string       `json:"model"`
			Usage *openaiUsage `json:"usage"`
		} `json:"response"`
		Choices []struct {
			Delta struct {
				Content   string `json:"content"`
				Reasoning string `json:"reasoning_content"`
				Tools     []struct {
					Function struct {
						Arguments string `json:"arguments"`
					} `json:"function"`
				} `json:"tool_calls"`
			} `json:"delta"`
		} `json:"choices"`
	}
	if json.Unmarshal(data, &e) != nil { // "[DONE]" too
		return
	}
	if e.Response != nil {
		e.Model, e.Usage = e.Response.Model, e.Response.Usage
	}
	if e.Model != "" {
		t.model = e.Model
	}
	t.textBytes += int64(max(0, len(e.Delta)-2))
	for _, c := range e.Choices {
		t.textBytes += int64(len(c.Delta.Content) + len(c.Delta.Reasoning))
		for _, tool := range c.Delta.Tools {
			t.textBytes += int64(len(tool.Function.Arguments))
		}
	}
	if u := e.Usage; u != nil {
		t.known = true
		t.cached = max(0, u.InputDetails.Cached+u.PromptDetails.Cached)
		t.written = max(0, u.InputDetails.Written+u.PromptDetails.Written)
		t.input = max(0, u.Input+u.Prompt-t.cached-t.written)
		t.output = max(0, u.Output+u.Completion)
	}
}

// readGemini knows the answers of generateContent; each chunk of a stream
// repeats the sums so far.
func readGemini(data []byte, t *tally) {
	var e struct {
		Model string `json:"modelVersion"`
		Usage *struct {
			Prompt     int64 `json:"promptTokenCount"`
			Tools      int64 `json:"toolUsePromptTokenCount"`
			Cached     int64 `json:"cachedContentTokenCount"`
			Candidates int64 `json:"candidatesTokenCount"`
			Thoughts   int64 `json:"thoughtsTokenCount"`
		} `json:"usageMetadata"`
		Candidates []struct {
			Content struct {
				Parts []struct {
					Text string `json:"text"`
				} `json:"parts"`
			} `json:"content"`
		} `json:"candidates"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	if e.Model != "" {
		t.model = e.Model
	}
	for _, c := range e.Candidates {
		for _, p := range c.Content.Parts {
			t.textBytes += int64(len(p.Text))
		}
	}
	if u := e.Usage; u != nil {
		t.known = true
		t.cached = max(t.cached, u.Cached)
		t.input = max(t.input, u.Prompt+u.Tools-t.cached)
		t.output = max(t.output, u.Candidates+u.Thoughts)
	}
}

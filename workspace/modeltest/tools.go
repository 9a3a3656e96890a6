package modeltest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The names under which agents offer tools of one purpose.
var (
	writers  = []string{"Write", "write_file", "write", "create_file"}
	readers  = []string{"Read", "read_file", "read"}
	shells   = []string{"Bash", "bash", "run_shell_command", "shell_command", "exec_command", "shell", "local_shell", "container.exec", "exec"}
	planners = []string{"TodoWrite", "todowrite", "write_todos", "update_plan", "todo_write", "TaskCreate"}
	exits    = []string{"ExitPlanMode", "exit_plan_mode"}
	askers   = []string{"AskUserQuestion", "ask_user", "question", "ask_user_question", "request_user_input"}
)

// scripted is the tool of codex that takes a script, in which all others are.
const scripted = "exec"

// loader is the tool of Claude Code that fetches those which it only names at
// first.
const loader = "ToolSearch"

// load returns the call that fetches a tool of a purpose, when the agent has
// named one that it does not offer yet.
func (p *prompt) load(purpose []string) (reply, bool) {
	t := p.offered(loader)
	if t == nil || p.find(purpose) != nil || p.count([]string{loader}) > 0 {
		return reply{}, false
	}
	_, list, _ := strings.Cut(p.system+"\n"+p.before+p.after, "deferred tools are now available")
	for _, name := range purpose {
		if strings.Contains(list, "\n"+name+"\n") {
			return p.use(t, map[string]any{"query": "select:" + name, "max_results": 5}, ""), true
		}
	}
	return reply{}, false
}

func named(name string, purpose []string) bool {
	for _, n := range purpose {
		if n == name {
			return true
		}
	}
	return false
}

// find returns the offered tool of a purpose, or nil.
func (p *prompt) find(purpose []string) *tool {
	for _, name := range purpose {
		if t := p.offered(name); t != nil {
			return t
		}
	}
	return nil
}

func (p *prompt) offered(name string) *tool {
	for i := range p.tools {
		if p.tools[i].name == name {
			return &p.tools[i]
		}
	}
	return nil
}

// The names under which tools take what the script has to give.
var given = map[string]string{
	"file_path": "path", "filePath": "path", "path": "path", "absolute_path": "path", "file": "path",
	"content": "content", "contents": "content", "file_text": "content", "text": "text",
	"command": "command", "cmd": "command",
	"sandbox_permissions": "escalate", "justification": "why",
	"query": "query", "max_results": "max_results", "plan": "plan", "question": "question", "header": "header", "input": "text", "message": "text",
}

// use calls a tool with what the script has, by the tool's own schema:
// required fields that the script does not know get a value of their type.
func (p *prompt) use(t *tool, have map[string]any, say string) reply {
	c := &call{tool: *t, args: map[string]any{}}
	if t.freeform {
		c.text = fmt.Sprint(have["command"])
		if t.name == scripted {
			args := map[string]any{"cmd": have["command"]}
			if have["escalate"] != nil {
				args["sandbox_permissions"], args["justification"] = have["escalate"], have["why"]
			}
			c.text = "const r = await tools.exec_command(" + mustJSON(args) + ");\ntext(r.output ?? r);\n"
		}
		return reply{text: say, call: c}
	}
	if t.schema == nil {
		c.args = have
		return reply{text: say, call: c}
	}
	for name, s := range t.schema.Properties {
		if v, ok := special(name, s, have); ok {
			c.args[name] = v
		} else if v, ok := have[given[name]]; ok {
			c.args[name] = shaped(v, s)
		}
	}
	for _, name := range t.schema.Required {
		if _, ok := c.args[name]; !ok {
			c.args[name] = t.schema.Properties[name].sample(name, "the script needs it")
		}
	}
	return reply{text: say, call: c}
}

// special fills the fields that are more than one value.
func special(name string, s *schema, have map[string]any) (any, bool) {
	if q, ok := have["question"]; ok && name == "questions" && s.Items != nil {
		var options []any
		for _, c := range have["choices"].([]string) {
			options = append(options, map[string]any{"label": c, "description": c + " it is", "value": c, "id": strings.ToLower(c)})
		}
		item := s.Items.sample(name, "x").(map[string]any)
		for k := range s.Items.Properties {
			switch k {
			case "question":
				item[k] = q
			case "header", "title":
				item[k] = "Colour"
			case "id":
				item[k] = "colour"
			case "options", "choices":
				item[k] = trimmed(options, s.Items.Properties[k].Items)
			case "multiSelect", "multiple":
				item[k] = false
			case "type":
				item[k] = "choice"
			}
		}
		return []any{item}, true
	}
	steps, ok := have["steps"].([]string)
	if !ok {
		return nil, false
	}
	if s.Items == nil || s.Items.Properties == nil {
		if name == "subject" || name == "activeForm" {
			return steps[0], true
		}
		return nil, false
	}
	var items []any
	for i, step := range steps {
		state := "pending"
		if i == 0 {
			state = "in_progress"
		}
		item := map[string]any{"content": step, "step": step, "description": step, "title": step, "status": state, "activeForm": step, "priority": "medium", "id": fmt.Sprint(i + 1)}
		items = append(items, item)
	}
	return trimmed(items, s.Items), true
}

// trimmed drops the fields that the schema does not have: some agents refuse
// what they do not know.
func trimmed(items []any, s *schema) []any {
	if s == nil || s.Properties == nil {
		return items
	}
	for _, it := range items {
		for k := range it.(map[string]any) {
			if s.Properties[k] == nil {
				delete(it.(map[string]any), k)
			}
		}
	}
	return items
}

// shaped gives a command as the list of words that some tools want.
func shaped(v any, s *schema) any {
	if text, ok := v.(string); ok && s.is("array") {
		return []string{"bash", "-lc", text}
	}
	return v
}

func (s *schema) is(kind string) bool {
	if s == nil {
		return false
	}
	switch t := s.Type.(type) {
	case string:
		return strings.EqualFold(t, kind)
	case []any:
		for _, k := range t {
			if k, ok := k.(string); ok && strings.EqualFold(k, kind) {
				return true
			}
		}
	}
	return false
}

// sample is a value that satisfies the schema. It is harmless: nothing is to
// be blocked, and the user speaks next.
func (s *schema) sample(name, text string) any {
	switch {
	case s == nil:
		return text
	case len(s.Enum) > 0:
		for _, e := range s.Enum {
			if e == "user" {
				return e
			}
		}
		return s.Enum[0]
	case s.is("object") || s.Properties != nil:
		v := map[string]any{}
		for k, sub := range s.Properties {
			v[k] = sub.sample(k, text)
		}
		return v
	case s.is("array"):
		v := []any{}
		for range s.MinItems {
			v = append(v, s.Items.sample(name, text))
		}
		return v
	case s.is("boolean"):
		return strings.Contains(strings.ToLower(name), "new")
	case s.is("integer") || s.is("number"):
		return 1
	}
	return text
}

// mustJSON encodes what this package made itself.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("modeltest: encoding own value: " + err.Error())
	}
	return string(b)
}

package agents

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/samnode/samnode/chat"
)

// nodeVersion runs the agents that are JavaScript. It comes from npm as well.
const nodeVersion = "22.23.3"

// All are the agents. The versions were tried together; with ranges npm picks
// older ones in silence where the installed Node is too old for them.
func All() []Agent {
	return []Agent{script(), claude(), codex(), gemini(), opencode(), qwen()}
}

// script runs the shell blocks of a prompt. It is built in and needs no model.
func script() Agent {
	return Agent{
		Name: "script", Title: "Script",
		Modes: map[chat.Mode]string{
			chat.ModePlan: "plan", chat.ModeAsk: "ask", chat.ModeAcceptEdits: "ask", chat.ModeEverything: "everything",
		},
		argv: []string{"{samnode}", "agent", "script"},
	}
}

// claude is Claude Code behind its ACP adapter. The adapter would bring a
// claude of its own (323 MB); its optional dependencies are left out and it
// is pointed at the one that people can run in the terminal, too.
func claude() Agent {
	return Agent{
		Name: "claude", Title: "Claude Code", Provider: "anthropic",
		Secrets: []string{"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"},
		Modes: map[chat.Mode]string{
			chat.ModePlan: "plan", chat.ModeAsk: "default", chat.ModeAcceptEdits: "acceptEdits", chat.ModeEverything: "bypassPermissions",
		},
		packages: []string{"@agentclientprotocol/claude-agent-acp@0.101.0", "@anthropic-ai/claude-code-linux-{arch}@2.1.330"},
		links: map[string]string{
			"claude":           "node_modules/@anthropic-ai/claude-code-linux-{arch}/claude",
			"claude-agent-acp": "node_modules/@agentclientprotocol/claude-agent-acp/dist/index.js",
		},
		argv: []string{"{root}/bin/node", "{root}/bin/claude-agent-acp"},
		env: map[string]string{
			"CLAUDE_CODE_EXECUTABLE":                   "{root}/bin/claude",
			"ANTHROPIC_BASE_URL":                       "{broker}/anthropic",
			"ANTHROPIC_API_KEY":                        Key,
			"ANTHROPIC_MODEL":                          "{model}",
			"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
			"DISABLE_AUTOUPDATER":                      "1",
			"IS_SANDBOX":                               "1", // exactly 1, or an image with root cannot use bypassPermissions
		},
		files: func(p Place) []ConfigFile {
			// Without a mode here the adapter begins in auto, which asks a
			// second model about every tool.
			return []ConfigFile{file(".claude/settings.json", map[string]any{
				"permissions":         map[string]any{"defaultMode": claudeMode(p.Mode)},
				"includeCoAuthoredBy": false,
			})}
		},
	}
}

func claudeMode(m chat.Mode) string {
	if m == chat.ModePlan || m == chat.ModeAcceptEdits {
		return string(m)
	}
	return "default" // the session is put into bypassPermissions, never the settings
}

// codex runs commands in a sandbox of its own in every mode but
// agent-full-access. A hardened container has not the namespaces for it, so
// such a command fails until codex asks a person to run it without: the
// container is the sandbox. In mode "agent" a model would answer in the
// person's place; it is not used.
func codex() Agent {
	return Agent{
		Name: "codex", Title: "Codex", Provider: "openai", Secrets: []string{"OPENAI_API_KEY"},
		Modes: map[chat.Mode]string{
			chat.ModePlan: "read-only", chat.ModeAsk: "read-only", chat.ModeAcceptEdits: "workspace-write", chat.ModeEverything: "agent-full-access",
		},
		packages: []string{"@agentclientprotocol/codex-acp@2.6.0", "@openai/codex@0.166.0"},
		optional: true,
		links: map[string]string{
			"codex":     "node_modules/@openai/codex/bin/codex.js",
			"codex-acp": "node_modules/@agentclientprotocol/codex-acp/dist/index.js",
		},
		argv: []string{"{root}/bin/node", "{root}/bin/codex-acp"},
		env:  map[string]string{"OPENAI_API_KEY": Key, "CODEX_API_KEY": Key, "CODEX_HOME": "{home}/.codex"},
		files: func(p Place) []ConfigFile {
			return []ConfigFile{{Path: ".codex/config.toml", Data: codexConfig(p)}}
		},
	}
}

// codexHint spares the model the search for why its commands fail.
const codexHint = "You work in a container of your own, in which your command sandbox cannot start. " +
	"When a command fails with an error of bwrap, ask for the same command again with escalated permissions."

func codexConfig(p Place) []byte {
	var b strings.Builder
	if p.Model != "" {
		fmt.Fprintf(&b, "model = %s\n", strconv.Quote(p.Model))
	}
	b.WriteString("model_provider = \"samnode\"\ncheck_for_update_on_startup = false\n")
	fmt.Fprintf(&b, "developer_instructions = %s\n\n", strconv.Quote(codexHint))
	b.WriteString("[features]\nplugins = false\napps = false\n\n[analytics]\nenabled = false\n\n")
	fmt.Fprintf(&b, "[model_providers.samnode]\nname = \"samnode\"\nbase_url = %s\nwire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n",
		strconv.Quote(p.Broker+"/openai/v1"))
	if p.Cwd != "" {
		fmt.Fprintf(&b, "\n[projects.%s]\ntrust_level = \"trusted\"\n", strconv.Quote(p.Cwd))
	}
	return []byte(b.String())
}

func gemini() Agent {
	return Agent{
		Name: "gemini", Title: "Gemini", Provider: "gemini", Secrets: []string{"GEMINI_API_KEY"},
		Modes: map[chat.Mode]string{
			chat.ModePlan: "plan", chat.ModeAsk: "default", chat.ModeAcceptEdits: "autoEdit", chat.ModeEverything: "yolo",
		},
		packages: []string{"@google/gemini-cli@0.61.0"},
		optional: true, // its terminal
		links:    map[string]string{"gemini": "node_modules/@google/gemini-cli/bundle/gemini.js"},
		argv:     []string{"{root}/bin/node", "{root}/bin/gemini", "--acp"},
		env: map[string]string{
			"GOOGLE_GEMINI_BASE_URL":     "{broker}/gemini",
			"GEMINI_API_KEY":             Key,
			"GEMINI_MODEL":               "{model}",
			"GEMINI_CLI_NO_RELAUNCH":     "true",
			"GEMINI_CLI_TRUST_WORKSPACE": "true",
		},
		files: func(Place) []ConfigFile {
			return []ConfigFile{file(".gemini/settings.json", map[string]any{
				"security":  map[string]any{"auth": map[string]any{"selectedType": "gemini-api-key"}},
				"general":   map[string]any{"disableAutoUpdate": true, "disableUpdateNag": true, "enableAutoUpdate": false},
				"privacy":   map[string]any{"usageStatisticsEnabled": false},
				"telemetry": map[string]any{"enabled": false},
			})}
		},
	}
}

// opencode has no modes: what it may do is its permission setting.
func opencode() Agent {
	return Agent{
		Name: "opencode", Title: "OpenCode", Provider: "anthropic", Secrets: []string{"ANTHROPIC_API_KEY"},
		packages: []string{"opencode-linux-{arch}@1.18.33"},
		links:    map[string]string{"opencode": "node_modules/opencode-linux-{arch}/bin/opencode"},
		argv:     []string{"{root}/bin/opencode", "acp"},
		env:      map[string]string{"ANTHROPIC_API_KEY": Key, "OPENCODE_DISABLE_AUTOUPDATE": "true", "OPENCODE_DISABLE_MODELS_FETCH": "true"},
		files: func(p Place) []ConfigFile {
			edit, run := "ask", "ask"
			switch p.Mode {
			case chat.ModePlan:
				edit, run = "deny", "ask"
			case chat.ModeAcceptEdits:
				edit = "allow"
			case chat.ModeEverything:
				edit, run = "allow", "allow"
			case chat.ModeAsk:
			}
			config := map[string]any{
				"autoupdate": false, "share": "disabled",
				"permission": map[string]any{"edit": edit, "bash": run, "webfetch": run},
				"provider": map[string]any{"anthropic": map[string]any{
					"options": map[string]any{"baseURL": p.Broker + "/anthropic/v1", "apiKey": Key},
				}},
			}
			if p.Model != "" {
				config["model"] = "anthropic/" + p.Model
			}
			return []ConfigFile{file(".config/opencode/opencode.json", config)}
		},
	}
}

func qwen() Agent {
	return Agent{
		Name: "qwen", Title: "Qwen Code", Provider: "openai", Secrets: []string{"OPENAI_API_KEY"},
		Modes: map[chat.Mode]string{
			chat.ModePlan: "plan", chat.ModeAsk: "default", chat.ModeAcceptEdits: "auto-edit", chat.ModeEverything: "yolo",
		},
		packages: []string{"@qwen-code/qwen-code@0.24.4"},
		links:    map[string]string{"qwen": "node_modules/@qwen-code/qwen-code/cli-entry.js"},
		argv:     []string{"{root}/bin/node", "{root}/bin/qwen", "--acp"},
		env: map[string]string{
			"OPENAI_BASE_URL": "{broker}/openai/v1", "OPENAI_API_KEY": Key, "OPENAI_MODEL": "{model}",
		},
		files: func(Place) []ConfigFile {
			return []ConfigFile{file(".qwen/settings.json", map[string]any{
				"security": map[string]any{"auth": map[string]any{"selectedType": "openai"}},
				"general":  map[string]any{"disableAutoUpdate": true, "enableAutoUpdate": false},
				"privacy":  map[string]any{"usageStatisticsEnabled": false},
			})}
		},
	}
}

// file is a JSON file. The values are ours and always encode.
func file(path string, v any) ConfigFile {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("encoding %s: %v", path, err))
	}
	return ConfigFile{Path: path, Data: append(b, '\n')}
}

package broker

// editors are the hosts from which an editor's own server comes when a person
// opens a workspace with it, and its extensions: what chat.EgressPackages opens
// besides registries. Extensions are packages as those of any registry are.
//
// Sources: code.visualstudio.com/docs/setup/network (VS Code),
// cursor.com/docs/enterprise/network-configuration (Cursor), the help of
// JetBrains Gateway, and zed.dev/docs/remote-development. Zed's server comes from
// a release on GitHub, which holds anything from anyone and is not here; let Zed
// upload it by ssh (upload_binary_over_ssh).
var editors = []string{
	// VS Code: its server and CLI, and the marketplace
	"update.code.visualstudio.com", "vscode.download.prss.microsoft.com",
	"marketplace.visualstudio.com", "*.gallery.vsassets.io", "*.gallerycdn.vsassets.io", "*.vscode-unpkg.net", "main.vscode-cdn.net",
	// Cursor, and the marketplace of VS Code's relatives
	"downloads.cursor.com", "open-vsx.org",
	// JetBrains: the backend's IDE, and plugins
	"download.jetbrains.com", "download-cdn.jetbrains.com", "data.services.jetbrains.com",
	"plugins.jetbrains.com", "downloads.marketplace.jetbrains.com",
}

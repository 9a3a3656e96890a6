package ui

// icons are drawn on 16 × 16 with a stroke of 1.5; each stands beside a word
// or in a button that has a name.
var icons = map[string]string{
	"back":    "M10 3 5 8l5 5",
	"right":   "m6 3 5 5-5 5",
	"down":    "m3.5 6 4.5 4.5L12.5 6",
	"plus":    "M8 3v10M3 8h10",
	"check":   "m3 8.5 3.2 3.2L13 5",
	"cross":   "m4 4 8 8m0-8-8 8",
	"square":  "M4.5 4.5h7v7h-7z",
	"send":    "M8 13V3.5M3.8 7.5 8 3.3l4.2 4.2",
	"chat":    "M2.5 3.5h11v7.5H7l-3 2.5V11H2.5z",
	"diff":    "M8 3v6M5 6h6M5 12.5h6",
	"file":    "M4 2h5l3.5 3.5V14H4zM9 2v3.5h3.5",
	"folder":  "M2 4h4.5L8 5.5h6V13H2z",
	"shell":   "m3 4.5 3.5 3.5L3 11.5M8.5 12H13",
	"plug":    "M5.5 2v3.5m5-3.5v3.5M3.5 5.5h9V8a4.5 4.5 0 0 1-9 0zM8 12.5V15",
	"log":     "M3 4h10M3 8h10M3 12h6",
	"pull":    "M4.5 5.5v7M4.5 5.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM4.5 14a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM11.5 14a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM11.5 11V6.5A2.5 2.5 0 0 0 9 4H7.5m2-2-2 2 2 2",
	"merge":   "M4.5 5.5v5M4.5 5.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM4.5 13.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM11.5 9.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM10 8c-3 0-5.5-.8-5.5-2.5",
	"search":  "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zm3.6-1.4L14 14",
	"gear":    "M8 10.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4zM8 1.8v2M8 12.2v2M14.2 8h-2M3.8 8h-2M12.4 3.6 11 5M5 11l-1.4 1.4M12.4 12.4 11 11M5 5 3.6 3.6",
	"more":    "M3.5 8h.01M8 8h.01M12.5 8h.01",
	"edit":    "m3 13 .7-3L11 2.7 13.3 5 6 12.3z",
	"copy":    "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
	"bolt":    "M9 1.5 3.5 9H8l-1 5.5L12.5 7H8z",
	"retry":   "M13 8a5 5 0 1 1-1.5-3.6M13 2v3h-3",
	"archive": "M2 3h12v3H2zM3 6v7.5h10V6M6.5 9h3",
	"repo":    "M3.5 2h9v12h-9zM6 2v12M8.5 5h2",
	"list":    "M6 4h8M6 8h8M6 12h8M2.5 4h.01M2.5 8h.01M2.5 12h.01",
	"nodes":   "M8 2.5a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zM3.5 10a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zM12.5 10a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zM7.1 5.9 4.5 10.2M8.9 5.9l2.6 4.3M5.3 11.8h5.4",
	"pool":    "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01M8 5h3M8 11h3",
	"key":     "M6 10.5a3 3 0 1 1 2.6-4.5H14v2.5h-1.5V10h-2V8.5H8.6A3 3 0 0 1 6 10.5z",
	"link":    "M6.5 9.5 9.5 6.5M7 4.5 8.7 2.8a3 3 0 0 1 4.3 4.3L11.3 8.8M9 11.5l-1.7 1.7A3 3 0 0 1 3 9l1.7-1.8",
	"brain":   "M8 3.2A2.3 2.3 0 0 0 3.8 4.6 2.5 2.5 0 0 0 3 9.2a2.4 2.4 0 0 0 5 1.6zm0 0a2.3 2.3 0 0 1 4.2 1.4 2.5 2.5 0 0 1 .8 4.6 2.4 2.4 0 0 1-5 1.6zM8 3.2v9.6",
}

// toolIcon is the picture of a tool's kind.
func toolIcon(kind string) string {
	switch kind {
	case "read":
		return "file"
	case "edit", "delete", "move":
		return "edit"
	case "search":
		return "search"
	case "execute":
		return "shell"
	case "think":
		return "brain"
	case "fetch":
		return "link"
	}
	return "bolt"
}

// ring is the circle of a start that fills by step, as an SVG dash pattern.
func ring(quarters int) string {
	return [...]string{"3 32", "8 32", "16 32", "24 32", "32 32"}[min(max(quarters, 0), 4)]
}

package ui

import (
	"bytes"
	"crypto/sha256"
	"html"
	"net/url"
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// markdown turns what agents and people write into HTML that may stand in a
// page. Raw HTML becomes text, an image becomes a link, a link shows its host
// and opens without a referrer, and what could hide or reorder text is made
// visible first. bluemonday stands behind the renderer as a second wall.
type markdown struct {
	md     goldmark.Markdown
	policy *bluemonday.Policy

	// A text is rendered once for all the pages that show it.
	mu    sync.Mutex
	known map[[32]byte]string
	order [][32]byte
}

const (
	markdownKept  = 1024     // rendered texts kept
	highlightMost = 16 << 10 // bytes of one code block that are coloured
	blockMarks    = 1500     // brackets and emphasis marks in one block
	blockDepth    = 24       // quotes and list markers at the start of one line
)

func newMarkdown() *markdown {
	return &markdown{
		md: goldmark.New(
			goldmark.WithExtensions(extension.GFM),
			goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(hostile{}, 1))),
		),
		policy: newPolicy(),
		known:  map[[32]byte]string{},
	}
}

func newPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote",
		"strong", "em", "del", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "span", "div", "button")
	p.AllowAttrs("class").Matching(bluemonday.SpaceSeparatedTokens).OnElements("span", "div", "code", "pre", "a", "button")
	p.AllowAttrs("type").OnElements("button")
	p.AllowAttrs("align").OnElements("th", "td")
	p.AllowAttrs("start").Matching(bluemonday.Integer).OnElements("ol")
	p.AllowAttrs("translate").OnElements("code", "pre")
	p.AllowAttrs("href", "title", "target", "rel").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.AllowRelativeURLs(true)
	p.RequireParseableURLs(true)
	p.RequireNoReferrerOnLinks(true)
	return p
}

// HTML renders a text.
func (m *markdown) HTML(text string) string {
	key := sha256.Sum256([]byte(text))
	m.mu.Lock()
	out, ok := m.known[key]
	m.mu.Unlock()
	if ok {
		return out
	}
	out = m.render(text)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[key]; !ok {
		if len(m.order) >= markdownKept {
			delete(m.known, m.order[0])
			m.order = m.order[1:]
		}
		m.known[key], m.order = out, append(m.order, key)
	}
	return out
}

func (m *markdown) render(text string) string {
	var b bytes.Buffer
	if costly(text) {
		return `<pre class="raw">` + html.EscapeString(visible(text)) + "</pre>"
	}
	if err := m.md.Convert([]byte(visible(text)), &b); err != nil {
		// A buffer takes every write, so only a fault of the renderer comes here.
		return "<pre>" + html.EscapeString(visible(text)) + "</pre>"
	}
	return visible(m.policy.Sanitize(b.String())) // again: an entity can name what was hidden
}

// costly finds text on which the parser's work grows with the square of its
// length: thousands of open brackets or marks in one block, or containers
// nested in one line. Such text is shown as it is.
func costly(text string) bool {
	marks := 0
	for l := range strings.Lines(text) {
		if strings.TrimSpace(l) == "" {
			marks = 0
			continue
		}
		for _, c := range []byte(l) {
			if strings.IndexByte("[]*_~`<!", c) >= 0 {
				marks++
			}
		}
		if start := len(l) - len(strings.TrimLeft(l, " \t>-+*0123456789.)")); marks > blockMarks ||
			strings.Count(l[:start], ">")+strings.Count(l[:start], "- ")+strings.Count(l[:start], "+ ")+
				strings.Count(l[:start], "* ")+strings.Count(l[:start], ". ")+strings.Count(l[:start], ") ") > blockDepth {
			return true
		}
	}
	return false
}

// hostile renders the nodes that could load, run or mislead.
type hostile struct{}

func (h hostile) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindRawHTML, h.rawHTML)
	r.Register(ast.KindHTMLBlock, h.htmlBlock)
	r.Register(ast.KindImage, h.image)
	r.Register(ast.KindLink, h.link)
	r.Register(ast.KindAutoLink, h.autoLink)
	r.Register(ast.KindFencedCodeBlock, h.code)
	r.Register(ast.KindCodeBlock, h.code)
}

func (hostile) rawHTML(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		raw := n.(*ast.RawHTML)
		for i := range raw.Segments.Len() {
			s := raw.Segments.At(i)
			_, _ = w.WriteString(html.EscapeString(string(s.Value(src))))
		}
	}
	return ast.WalkSkipChildren, nil
}

func (hostile) htmlBlock(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.HTMLBlock)
	_, _ = w.WriteString(`<pre class="raw">`)
	for i := range block.Lines().Len() {
		s := block.Lines().At(i)
		_, _ = w.WriteString(html.EscapeString(string(s.Value(src))))
	}
	if block.HasClosure() {
		_, _ = w.WriteString(html.EscapeString(string(block.ClosureLine.Value(src))))
	}
	_, _ = w.WriteString("</pre>")
	return ast.WalkSkipChildren, nil
}

// image never loads: it is a link that names what it would have been.
func (hostile) image(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	img := n.(*ast.Image)
	alt := strings.TrimSpace(plain(n, src))
	if alt == "" {
		alt = "image"
	}
	writeLink(w, string(img.Destination), "image: "+alt)
	return ast.WalkSkipChildren, nil
}

func (hostile) link(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	dest := string(n.(*ast.Link).Destination)
	if entering {
		openLink(w, dest)
		return ast.WalkContinue, nil
	}
	closeLink(w, dest)
	return ast.WalkContinue, nil
}

func (hostile) autoLink(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		a := n.(*ast.AutoLink)
		dest := string(a.URL(src))
		if a.AutoLinkType == ast.AutoLinkEmail {
			dest = "mailto:" + dest
		}
		openLink(w, dest)
		_, _ = w.WriteString(html.EscapeString(string(a.Label(src))))
		_, _ = w.WriteString("</a>") // the text is the address: its host is seen
	}
	return ast.WalkContinue, nil
}

func writeLink(w util.BufWriter, dest, text string) {
	openLink(w, dest)
	_, _ = w.WriteString(html.EscapeString(text))
	closeLink(w, dest)
}

func openLink(w util.BufWriter, dest string) {
	_, _ = w.WriteString(`<a href="` + html.EscapeString(dest) + `" rel="noreferrer noopener nofollow" target="_blank">`)
}

func closeLink(w util.BufWriter, dest string) {
	_, _ = w.WriteString("</a>")
	if host := hostOf(dest); host != "" {
		_, _ = w.WriteString(` <span class="host">(` + html.EscapeString(host) + `)</span>`)
	}
}

// hostOf is what a reader must know of a link before opening it.
func hostOf(dest string) string {
	u, err := url.Parse(dest)
	switch {
	case err != nil:
		return "unreadable address"
	case u.Scheme == "mailto":
		return u.Opaque
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
		return u.Scheme + ": not opened"
	}
	return u.Host
}

func plain(n ast.Node, src []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.Write(t.Segment.Value(src))
			continue
		}
		b.WriteString(plain(c, src))
	}
	return b.String()
}

func (hostile) code(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	language := ""
	if f, ok := n.(*ast.FencedCodeBlock); ok {
		language = string(f.Language(src))
	}
	var body strings.Builder
	for i := range n.Lines().Len() {
		s := n.Lines().At(i)
		body.Write(s.Value(src))
	}
	_, _ = w.WriteString(`<div class="code"><div class="code-head"><span>` + html.EscapeString(line(language, 24)) +
		`</span><button type="button" class="copy">Copy</button></div><pre><code translate="no">` +
		highlight(language, body.String()) + "</code></pre></div>")
	return ast.WalkSkipChildren, nil
}

// highlight colours code with a handful of classes, so that the colours can be
// roles of the style sheet. What is unknown or long stays plain.
func highlight(language, code string) string {
	lexer := lexers.Get(language)
	if language == "" || lexer == nil || len(code) > highlightMost {
		return html.EscapeString(code)
	}
	tokens, err := chroma.Coalesce(lexer).Tokenise(nil, code)
	if err != nil {
		return html.EscapeString(code)
	}
	var b strings.Builder
	for t := tokens(); t != chroma.EOF; t = tokens() {
		text := html.EscapeString(t.Value)
		if class := tokenClass(t.Type); class != "" {
			text = `<span class="` + class + `">` + text + `</span>`
		}
		b.WriteString(text)
	}
	return b.String()
}

func tokenClass(t chroma.TokenType) string {
	switch {
	case t.InCategory(chroma.Comment):
		return "hc"
	case t.InSubCategory(chroma.LiteralString):
		return "hs"
	case t.InSubCategory(chroma.LiteralNumber), t == chroma.KeywordConstant:
		return "hn"
	case t.InCategory(chroma.Keyword), t == chroma.OperatorWord:
		return "hk"
	case t == chroma.NameFunction, t == chroma.NameClass, t == chroma.NameBuiltin, t == chroma.NameTag, t == chroma.NameAttribute:
		return "hf"
	case t == chroma.GenericInserted:
		return "ha"
	case t == chroma.GenericDeleted:
		return "hd"
	}
	return ""
}

// Package ui is what people see of a node: pages rendered on the server, live
// streams of rendered fragments, and the terminal's socket.
//
// Every page is whole without JavaScript: it can be read, each card opens, and
// each action is a form that posts and redirects. The script adds the stream,
// keys and panels. What agents write is hostile text and is treated so in one
// place, markdown.go. Who a request is from is said by the connection
// (Config.WhoIs), so changes are taken from our own origin only.
package ui

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// Role is what a person may do in this mesh.
type Role string

// The roles, from least to most.
const (
	Viewer Role = "viewer" // reads
	Member Role = "member" // also starts, says, stops, answers, opens terminals
	Owner  Role = "owner"  // also secrets and settings
)

// Terminal is one attached terminal of a workspace. Reading gives the replay
// first, then what the program writes. Closing detaches; it does not end the
// program.
type Terminal interface {
	io.ReadWriteCloser
	// Resize says how large the page's terminal can be; it counts for who typed
	// last.
	Resize(rows, cols uint16) error
	// Info is how the terminal is now, as far as a reader was told.
	Info() TerminalInfo
	// Changes gets a value when Info has changed; it is never closed.
	Changes() <-chan struct{}
}

// Config is what the pages need from the rest of the node. Room and WhoIs are
// required. A func field that is nil turns its part of the page off, with a
// sentence that says so.
type Config struct {
	Room  Room
	WhoIs func(*http.Request) (chat.Person, Role, error)
	// RoleIn is the caller's role in single projects, by name, where it is
	// stronger than that of WhoIs; nil: there are none.
	RoleIn func(*http.Request) func(project string) Role

	// Diff reads the change of a task's branch from git; no workspace is needed.
	Diff func(context.Context, chat.Task, DiffOptions) (Diff, error)
	// Files are those of the task's workspace, or of its branch; nil: no page
	// shows files. Without FileKeeper none changes them.
	Files      api.Files
	FileKeeper api.FileKeeper
	// Merge merges a plain remote's branch: method is squash, rebase or merge.
	Merge func(ctx context.Context, task chat.Task, method string, by chat.Author) error
	// OpenPull opens the task's pull request, or marks a draft ready.
	OpenPull func(ctx context.Context, task chat.Task, draft bool, by chat.Author) error

	// Terminal attaches to a terminal, making it when it does not exist. The
	// context is the request's, which says where the person is.
	Terminal      func(ctx context.Context, task chat.TaskID, a Attach) (Terminal, error)
	Terminals     func(context.Context, chat.TaskID) ([]TerminalInfo, error)
	CloseTerminal func(ctx context.Context, task chat.TaskID, id string) error
	// RenameTerminal gives a terminal another name, for everybody.
	RenameTerminal func(ctx context.Context, task chat.TaskID, id, name string) error
	// HoldTerminal lets one person alone type, or everybody again.
	HoldTerminal func(ctx context.Context, task chat.TaskID, id string, who Attach, on bool) error
	Ports        func(context.Context, chat.TaskID) ([]Port, error)
	// WatchPorts calls seen with what Ports lists, at once and whenever that
	// changes, until ctx ends or the workspace is gone. Nil: pages show what there
	// was when they were loaded.
	WatchPorts func(ctx context.Context, task chat.TaskID, seen func([]Port)) error
	Previews   bool // the node answers /t/{task}/ports/{port}/open
	// Recordings are those of shells; nil: no page speaks of them.
	Recordings Recordings
	// NodeAlive says whether a node answers; nil: all do.
	NodeAlive func(chat.Node) bool
	// SSH says how people's own tools get into the task's workspace; nil: this
	// node has no SSH front, and no page speaks of one.
	SSH func(chat.Task) SSHAddr

	// Journal is the raw journal of the task's workspace, while it exists.
	Journal func(context.Context, chat.TaskID) (io.ReadCloser, error)
	// Output is the whole text of a tool call that was cut for the log.
	Output func(ctx context.Context, task chat.TaskID, message string) (io.ReadCloser, error)

	// MachineCost is a task's part of what bought machines cost until now, in
	// euros, net; nil: no page speaks of it.
	MachineCost func(chat.TaskID) float64

	Agents    func() []AgentInfo
	CheckRepo func(ctx context.Context, url string) error // does a fetch of it work? ErrInvalid says why not
	SetSecret func(ctx context.Context, scope chat.ProjectID, name, value string, by chat.Author) error

	// The mesh around this node, as the API has it. Without Mesh there is no page
	// of nodes, and a page stays where it is when its node dies.
	Mesh        api.Mesh
	NodeKeeper  api.NodeKeeper
	Pool        api.Pool // nil: no page of machines
	Invitations api.Invitations
	People      api.People
	Backups     api.Backups
	// Unavailable tells an error of a mesh that cannot write from others, where
	// it does not wrap api.ErrNoMajority.
	Unavailable func(error) bool

	API     http.Handler // mounted at /api/
	Dev     bool         // serves /gallery
	Logger  *slog.Logger // nil: slog.Default
	Version string       // of the program, for pages that outlive an upgrade
	Node    chat.Node    // this node's name
}

// Server is the handler of all pages.
type Server struct {
	Config
	handler   http.Handler
	assets    *assets
	text      *markdown
	lookout   lookout
	table     table
	cache     rowCache
	beatEvery time.Duration
	askEvery  time.Duration // who is at a terminal, whether they may still
	tasks     relays[taskKey, taskStep]
	rows      relays[struct{}, rowStep]
	ports     relays[taskKey, portsStep]
	done      context.Context // ends the streams
	stop      context.CancelFunc
}

// New checks the config and builds the server.
func New(cfg Config) (*Server, error) {
	if cfg.Room == nil {
		return nil, errors.New("ui: Config.Room is nil")
	}
	if cfg.WhoIs == nil {
		return nil, errors.New("ui: Config.WhoIs is nil")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	files, err := loadAssets()
	if err != nil {
		return nil, err
	}
	s := &Server{Config: cfg, assets: files, text: newMarkdown(), beatEvery: beatEvery, askEvery: rolePause}
	s.done, s.stop = context.WithCancel(context.Background())
	s.openRelays()
	s.handler = headers(http.NewCrossOriginProtection().Handler(s.routes()))
	return s, nil
}

// Close ends every open stream and terminal, so that the HTTP server can shut
// down; pages reconnect by themselves.
func (s *Server) Close() error {
	s.stop()
	s.tasks.wg.Wait()
	s.rows.wg.Wait()
	s.ports.wg.Wait()
	return nil
}

// ServeHTTP answers a request of a browser.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, h handler) { mux.Handle("GET "+path, s.page(Viewer, h)) }
	post := func(path string, role Role, h handler) { mux.Handle("POST "+path, s.page(role, h)) }

	mux.Handle("GET /static/", s.assets)
	mux.HandleFunc("GET /favicon.ico", s.assets.favicon)
	if s.API != nil {
		mux.Handle("/api/", s.API)
	}

	for path, h := range map[string]handler{"/{$}": s.home, "/events": s.listEvents, "/projects": s.projects} {
		mux.Handle("GET "+path, s.pageAbout(anything, Viewer, h))
	}
	get("/events/nodes", s.nodesEvents)
	get("/events/nodes/{node}", s.nodeEvents)
	get("/events/pool", s.poolEvents)
	get("/nodes", s.nodes)
	get("/nodes/{node}", s.node)
	mux.Handle("GET /nodes/{node}/remove", s.page(Owner, s.nodeRemoveForm))
	get("/pool", s.pool)
	for _, gone := range []string{"/pool/settings", "/pool/machines"} { // a refused form stands there
		mux.Handle("GET "+gone, http.RedirectHandler("/pool", http.StatusSeeOther))
	}
	mux.Handle("GET /pool/machines/{machine}/delete", s.page(Owner, s.machineDeleteForm))
	get("/start", s.start)
	get("/settings", s.settings)
	get("/projects/new", s.projectForm)
	get("/p/{project}", s.project)
	get("/p/{project}/settings", s.projectSettings)
	get("/t/{task}", s.task)
	get("/t/{task}/events", s.taskEvents)
	get("/t/{task}/diff", s.taskDiff)
	s.shellRoutes(mux)
	s.fileRoutes(mux)
	get("/t/{task}/ports", s.taskPorts)
	get("/t/{task}/log", s.taskLog)
	get("/t/{task}/journal", s.journal)
	get("/t/{task}/output/{message}", s.output)
	get("/t/{task}/export", s.export)

	post("/projects/new", Member, s.projectCreate)
	post("/p/{project}/settings", Owner, s.projectSave)
	post("/p/{project}/remove", Owner, s.projectRemove)
	post("/p/{project}/secrets", Owner, s.secretSet)
	post("/p/{project}/tasks", Member, s.taskCreate)
	post("/settings/secrets", Owner, s.secretSet)
	post("/settings/people", Owner, s.roleSet)
	post("/settings/backup", Owner, s.backupSet)
	post("/settings/backup/now", Owner, s.backUp)
	post("/nodes/{node}/drain", Owner, s.nodeDrain)
	post("/nodes/{node}/remove", Owner, s.nodeRemove)
	post("/pool/settings", Owner, s.poolSet)
	post("/pool/machines", Owner, s.poolBuy)
	post("/pool/machines/{machine}/keep", Owner, s.machineKeep)
	post("/pool/machines/{machine}/delete", Owner, s.machineDelete)
	post("/pool/stop", Owner, s.poolStop)
	post("/pool/resume", Owner, s.poolResume)
	post("/invitations", Owner, s.invite)
	post("/invitations/{id}/withdraw", Owner, s.withdraw)
	post("/t/{task}/say", Member, s.say)
	post("/t/{task}/queue", Member, s.queueEdit)
	post("/t/{task}/answer", Member, s.answer)
	post("/t/{task}/stop", Member, s.stopTask)
	post("/t/{task}/retry", Member, s.retry)
	post("/t/{task}/release", Member, s.release)
	post("/t/{task}/edit", Member, s.edit)
	post("/t/{task}/pull", Member, s.openPull)
	post("/t/{task}/merge", Member, s.merge)

	if s.Dev {
		get("/gallery", s.gallery)
	}
	mux.Handle("/", s.page(Viewer, func(http.ResponseWriter, *http.Request) error { return errNoPage }))
	return mux
}

// headers sets what holds for every answer. Scripts and styles come from our
// own files only; nothing else is loaded, framed or sent elsewhere. Callers who
// are known get a policy that names the other nodes, see page.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy(ownStyles))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin") // previews are at the same host
		if trustworthy(r) {
			h.Set("Cross-Origin-Opener-Policy", "same-origin") // elsewhere browsers complain of it
		}
		next.ServeHTTP(w, r)
	})
}

// trustworthy is what browsers call an origin that nobody can speak for.
func trustworthy(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip := net.ParseIP(host)
	return r.TLS != nil || host == "localhost" || ip != nil && ip.IsLoopback()
}

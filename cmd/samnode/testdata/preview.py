"""A development server for tests: python3 preview.py HOST PORT. It serves what
an app does, what a hostile page tries, and what it was asked."""
import base64, hashlib, http.server, json, socket, socketserver, struct, sys, time

HOST, PORT = sys.argv[1], int(sys.argv[2])
hits = []

PAGE = """<!doctype html><title>app %d</title><h1>app on %d</h1>
<p id=cookie></p><p id=ws></p><script src=/app.js></script>""" % (PORT, PORT)

APP = """
(async () => {
  if (parent !== self) parent.postMessage("framed %d", "*");
  await fetch("/login");
  document.querySelector("#cookie").textContent = JSON.stringify(await (await fetch("/me")).json());
  const s = new WebSocket(location.origin.replace("http", "ws") + "/ws");
  s.onmessage = (e) => { document.querySelector("#ws").textContent = e.data; };
  s.onopen = () => s.send("hello");
  s.onclose = () => { document.querySelector("#ws").textContent = "closed"; };
})();
""" % PORT

# Each try is a name and a promise of what it got hold of; none is to.
ATTACK = """
const q = new URLSearchParams(location.search), victim = q.get("victim"), chat = q.get("chat"), task = q.get("task"), got = {};
const soon = (p, ms = 4000) => Promise.race([p, new Promise((ok) => setTimeout(() => ok("blocked"), ms))]);
const load = (tag, props) => soon(new Promise((ok) => {
  const el = Object.assign(document.createElement(tag), props);
  el.onload = () => ok(tag === "img" ? "loaded " + el.width : "loaded");
  el.onerror = () => ok("blocked");
  document.body.append(el);
}));
const fetched = (url, o) => fetch(url, o).then((r) => r.text()).then((t) => "read " + t.slice(0, 80), () => "blocked");
const silent = (url, o) => fetch(url, { mode: "no-cors", ...o }).then((r) => "sent, status " + r.status, () => "blocked");
const socket = (url) => soon(new Promise((ok) => {
  const s = new WebSocket(url.replace("http", "ws"));
  s.onopen = () => ok("open");
  s.onerror = () => ok("blocked");
}));
const framed = (url) => soon(new Promise((ok) => {
  const f = Object.assign(document.createElement("iframe"), { src: url });
  addEventListener("message", (e) => { if (e.source === f.contentWindow) ok("runs: " + e.data); });
  f.onload = () => { try { if (f.contentDocument?.body.textContent) ok("read " + f.contentDocument.body.textContent); } catch { } };
  document.body.append(f);
}), 1500);
const events = (url) => soon(new Promise((ok) => {
  const s = new EventSource(url, { withCredentials: true });
  s.onopen = () => ok("open");
  s.onerror = () => { s.close(); ok("blocked"); };
}));
const opened = async (url) => {
  const w = open(url);
  await new Promise((ok) => setTimeout(ok, 1500));
  try { return w?.document?.body?.textContent ? "read " + w.document.body.textContent : "blocked"; } catch { return "blocked"; }
  finally { w?.close(); }
};
const isScript = async (url) => { await load("script", { src: url }); return window.stolen ? "ran" : "blocked"; };
(async () => {
  document.cookie = "session=tossed; path=/";
  await Promise.all(Object.entries({
    fetch: () => fetched(victim + "/me", { credentials: "include" }),
    allowed: () => fetched(victim + "/open", { credentials: "include" }),
    "fetch without cors": () => silent(victim + "/me", { credentials: "include" }),
    post: () => silent(victim + "/post", { method: "POST", body: "x" }).then((r) => "blocked"), // the victim says whether it came
    script: () => isScript(victim + "/secret.js"),
    image: () => load("img", { src: victim + "/pixel.gif" }),
    frame: () => framed(victim + "/"),
    socket: () => socket(victim + "/ws"),
    events: () => events(victim + "/events"),
    window: () => opened(victim + "/"),
    cookie: () => Promise.resolve(/secret|sn[a-z0-9]+-/.test(document.cookie) ? document.cookie : "blocked"),
    "chat page": () => fetched(chat + "/t/" + task, { credentials: "include" }),
    "chat without cors": () => silent(chat + "/t/" + task, { credentials: "include" }),
    "chat api": () => fetched(chat + "/api/v1/tasks"),
    "chat api without cors": () => silent(chat + "/api/v1/tasks"),
    "chat post": () => silent(chat + "/api/v1/tasks/" + task + "/messages", { method: "POST", body: '{"text":"evil words"}' }).then((r) => "blocked"),
    "chat form": () => silent(chat + "/t/" + task + "/say", { method: "POST", body: new URLSearchParams({ text: "evil words", id: "01JD0000000000000000000009" }) }).then((r) => "blocked"),
    "chat put": () => fetched(chat + "/api/v1/tasks/" + task, { method: "PATCH", body: '{"title":"evil"}', headers: { "Content-Type": "application/json" } }),
    "chat image": () => load("img", { src: chat + "/favicon.ico" }),
    "chat script": () => load("script", { src: chat + "/static/app.js" }),
    "chat frame": () => framed(chat + "/"),
    "chat socket": () => socket(chat + "/t/" + task + "/terminals/t9/ws?rows=24&cols=80"),
    "chat events": () => events(chat + "/t/" + task + "/events"),
    "chat window": () => opened(chat + "/t/" + task),
  }).map(async ([name, act]) => { got[name] = await act(); }));
  document.title = "done";
  document.querySelector("#out").textContent = JSON.stringify(got);
})();
"""
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def say(self, body, kind="text/html", code=200, **more):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for k, v in more.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hits.append("POST " + self.path)
        self.say(hashlib.sha256(body).hexdigest(), "text/plain")

    def do_GET(self):
        path = self.path.split("?")[0]
        hits.append("GET " + path)
        if path == "/":
            self.say(PAGE)
        elif path == "/app.js":
            self.say(APP, "text/javascript")
        elif path == "/login":
            self.say("in", Set_Cookie="session=secret%d; Path=/; Domain=localhost" % PORT)
        elif path == "/me":
            self.say(json.dumps({"cookie": self.headers.get("Cookie", ""), "host": self.headers.get("Host")}), "application/json")
        elif path == "/open":
            self.say("open to all", Access_Control_Allow_Origin=self.headers.get("Origin", "*"), Access_Control_Allow_Credentials="true")
        elif path == "/headers":
            self.say(json.dumps(dict(self.headers.items())), "application/json")
        elif path == "/hits":
            self.say(json.dumps(hits), "application/json")
        elif path == "/secret.js":
            self.say("window.stolen = 1", "text/javascript")
        elif path == "/pixel.gif":
            self.say(GIF, "image/gif")
        elif path == "/abs":
            self.say("", code=302, Location="http://localhost:%d/landed?a=b" % PORT)
        elif path == "/attack":
            self.say("<!doctype html><title>attack</title><body><pre id=out></pre><script src=/attack.js></script>")
        elif path == "/attack.js":
            self.say(ATTACK, "text/javascript")
        elif path == "/big":
            self.send_response(200)
            self.send_header("Content-Length", str(64 << 20))
            self.end_headers()
            for _ in range(64):
                self.wfile.write(b"b" * (1 << 20))
        elif path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            while True:
                self.wfile.write(b"data: tick\n\n")
                self.wfile.flush()
                time.sleep(0.1)
        elif path == "/ws":
            self.ws()
        else:
            self.say("no such page", code=404)

    def ws(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return
            mask, data = self.rfile.read(4), self.rfile.read(head[1] & 127)
            text = ("%d heard " % PORT).encode() + bytes(c ^ mask[i % 4] for i, c in enumerate(data))
            self.wfile.write(struct.pack("BB", 0x81, len(text)) + text)
            self.wfile.flush()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    daemon_threads = True
    request_queue_size = 256


Server((HOST, PORT), App).serve_forever()

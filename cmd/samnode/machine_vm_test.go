package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/provision/hetzner/hetznertest"
	"github.com/samnode/samnode/ui/api"
)

// emulated boots one server of a cloud in qemu, as Hetzner's machines are: the
// vendor is in its SMBIOS, its address comes by DHCP, and what it is to do is at
// 169.254.169.254.
type emulated struct {
	t        *testing.T
	disk     string // folder of scripts/qemu
	dir      string
	metadata *httptest.Server

	mu     sync.Mutex
	server hetznertest.Server
	data   []byte // user-data
	asked  []string
	began  time.Time
	qemu   *exec.Cmd
}

// needSlow skips unless the slow tests are asked for.
func needSlow(t *testing.T) {
	t.Helper()
	if os.Getenv("SAMNODE_SLOW") == "" {
		t.Skip("SKIPPED: takes minutes (scripts/test -slow)")
	}
}

func newEmulated(t *testing.T) *emulated {
	t.Helper()
	needDocker(t)
	disk := os.Getenv("SAMNODE_VM")
	for _, name := range []string{"disk.raw", "vmlinuz", "initrd.img"} {
		if _, err := os.Stat(filepath.Join(disk, name)); err != nil {
			t.Skipf("SKIPPED: needs the disk of a machine in SAMNODE_VM (scripts/qemu): %v", err)
		}
	}
	for _, program := range []string{"qemu-system-x86_64", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: needs qemu (scripts/qemu): %v", err)
		}
	}
	dir, err := os.MkdirTemp("", "vm") // a socket's path is to be short
	if err != nil {
		t.Fatal(err)
	}
	e := &emulated{t: t, disk: disk, dir: dir}
	e.metadata = httptest.NewServer(e)
	t.Cleanup(e.close)
	return e
}

func (e *emulated) close() {
	e.off()
	e.metadata.Close()
	if e.t.Failed() {
		e.t.Logf("the machine's console:\n%s\nqemu: %s", lastLines(e.console(), 80), e.file("qemu.log"))
	}
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Error(err)
	}
}

func (e *emulated) file(name string) string {
	data, err := os.ReadFile(filepath.Join(e.dir, name))
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(data), "\r", "")
}

func (e *emulated) console() string { return e.file("console.log") }

const machineMAC = "96:00:00:0a:47:11"

// ServeHTTP is Hetzner's metadata service.
func (e *emulated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, r.URL.Path)
	var body string
	switch r.URL.Path {
	case "/hetzner/v1/metadata":
		body = fmt.Sprintf(`availability-zone: %[3]s-dc14
hostname: %[2]s
instance-id: %[1]d
local-ipv4: ''
network-config:
  config:
  - mac_address: %[4]s
    name: eth0
    subnets:
    - ipv4: true
      type: dhcp
    type: physical
  version: 1
public-ipv4: 168.1.0.15
public-keys: []
region: eu-central
vendor_data: ''
`, e.server.ID, e.server.Name, e.server.Location, machineMAC)
	case "/hetzner/v1/metadata/instance-id":
		body = fmt.Sprint(e.server.ID)
	case "/hetzner/v1/userdata":
		body = string(e.data)
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = io.WriteString(w, body) // the machine may be gone
}

// requests is how many times the metadata service was asked for what a path
// ends in.
func (e *emulated) requests(suffix string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, path := range e.asked {
		if strings.HasSuffix(path, suffix) {
			n++
		}
	}
	return n
}

// boot switches a server on. The first network holds the metadata's address,
// where qemu puts a program, and no other that matters: everything else goes
// through the gateway, which is this machine.
func (e *emulated) boot(s hetznertest.Server, userData []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.qemu != nil {
		e.t.Errorf("a second server was made: %+v", s)
		return
	}
	e.server, e.data, e.began = s, bytes.Clone(userData), time.Now()
	_, port, err := net.SplitHostPort(e.metadata.Listener.Addr().String())
	if err != nil {
		e.t.Error(err)
		return
	}
	q := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-kernel", filepath.Join(e.disk, "vmlinuz"), "-initrd", filepath.Join(e.disk, "initrd.img"),
		"-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0",
		"-smbios", fmt.Sprintf("type=1,manufacturer=Hetzner,product=vServer,serial=%d", s.ID),
		"-drive", "if=virtio,format=raw,snapshot=on,file="+filepath.Join(e.disk, "disk.raw"),
		"-netdev", "user,id=n,ipv6=off,net=168.0.0.0/7,host=168.1.0.2,dhcpstart=168.1.0.15,dns=168.1.0.3,guestfwd=tcp:169.254.169.254:80-cmd:busybox nc 127.0.0.1 "+port,
		"-device", "virtio-net-pci,netdev=n,mac="+machineMAC,
		"-serial", "file:console.log", "-serial", "unix:shell.sock,server=on,wait=off")
	log, err := os.Create(filepath.Join(e.dir, "qemu.log"))
	if err != nil {
		e.t.Error(err)
		return
	}
	defer log.Close()
	q.Dir, q.Stdout, q.Stderr = e.dir, log, log
	if err := q.Start(); err != nil {
		e.t.Errorf("starting qemu: %v", err)
		return
	}
	e.qemu = q
}

// scrap takes the power away.
func (e *emulated) scrap(hetznertest.Server) { e.off() }

func (e *emulated) off() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.qemu != nil && e.qemu.ProcessState == nil {
		_ = e.qemu.Process.Kill() // it may have ended by itself
		_ = e.qemu.Wait()
	}
}

var promptEnd = regexp.MustCompile(`(?s)begin-here\n(.*)end-here:(\d+)\n`)

// shell runs a command as root on the machine, and returns what it printed and
// its exit code.
func (e *emulated) shell(command string) (out, code string) {
	e.t.Helper()
	c, err := net.Dial("unix", filepath.Join(e.dir, "shell.sock"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		e.t.Fatal(err)
	}
	// The words are made there: the terminal's echo must not be taken for them.
	if _, err := fmt.Fprintf(c, "\nstty -echo; printf 'begin-%%s\\n' here; { %s; } </dev/null 2>&1; printf 'end-%%s:%%s\\n' here $?\n", command); err != nil {
		e.t.Fatal(err)
	}
	var got []byte
	for buf := make([]byte, 4096); ; {
		n, err := c.Read(buf)
		got = append(got, bytes.ReplaceAll(buf[:n], []byte("\r"), nil)...)
		if m := promptEnd.FindSubmatch(got); m != nil {
			return string(m[1]), string(m[2])
		}
		if err != nil {
			e.t.Fatalf("%s: %v\n%s", command, err, got)
		}
	}
}

// prints fails unless a command on the machine prints that, and nothing else.
func (e *emulated) prints(want, command string) {
	e.t.Helper()
	if out, code := e.shell(command); strings.TrimSpace(out) != want {
		e.t.Errorf("%s prints %q (%s), want %q", command, out, code, want)
	}
}

// tellParts logs what took how long on the machine, by its own clock.
func (e *emulated) tellParts() {
	e.t.Helper()
	for _, m := range regexp.MustCompile(`Cloud-init v\. \S+ (.*) at .* Up ([\d.]+) seconds|samnode: ([\d.]+) s: (.*)`).FindAllStringSubmatch(e.console(), -1) {
		e.t.Logf("  %6s s %s", m[2]+m[3], m[1]+m[4])
	}
}

// TestMachineWithHetznersDataSource: a machine that is bought boots in qemu,
// cloud-init takes it for one of Hetzner's and does what its user-data says: it
// has the samnode that was meant, joins over a tailnet, and is ready; the way to
// the metadata is closed then, no key is left, and no package was touched.
func TestMachineWithHetznersDataSource(t *testing.T) {
	needSlow(t)
	e := newEmulated(t)
	cloud := hetznertest.Start(t, hetznertest.Config{CreateTime: -1, StartTime: -1, DeleteTime: -1, OnCreate: e.boot, OnDelete: e.scrap})
	n, _ := newBuyer(t, cloud)
	must[api.PoolSettings](n, "pool", "set", "--boot", "60", "--size", "cx33=2")
	n.awaitPool("something for sale", time.Minute, func(p api.PoolInfo) bool {
		return slices.ContainsFunc(p.Choices, func(c api.PoolChoice) bool { return c.Refused == "" }) && p.Stopped == ""
	})
	must[map[string]string](n, "pool", "buy")
	var machine string
	n.awaitPool("joined", 20*time.Minute, func(api.PoolInfo) bool {
		return slices.ContainsFunc(must[[]api.Node](n, "node", "list"), func(x api.Node) bool { machine = x.Name; return !x.Core && x.Online })
	})
	joined := time.Since(e.began)
	// It is ready once it also has the image of workspaces.
	n.awaitPool("ready", 20*time.Minute, func(p api.PoolInfo) bool {
		return slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Name == machine && m.Bought && m.State == "ready" })
	})
	t.Logf("from the order to joined: %s, to ready: %s; on the machine's clock:", joined.Round(time.Second), time.Since(e.began).Round(time.Second))
	// cloud-init ends a little later than the machine is ready.
	if !n.soon(5*time.Minute, func() bool { out, _ := e.shell("cloud-init status"); return !strings.Contains(out, "running") }) {
		t.Error("cloud-init does not end")
	}
	e.tellParts()

	e.prints("status: done", "cloud-init status")
	e.prints("hetzner", "cloud-id")
	e.prints(machine, "uname -n")
	e.prints("active", "systemctl is-active samnode.service")
	e.prints(sumOf(t, n.bin), "sha256sum /usr/local/bin/samnode | cut -d' ' -f1")
	e.closed()
	e.forgot()
	for _, unit := range []string{"apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"} {
		e.prints("masked", "systemctl is-enabled "+unit)
	}
	e.prints("", `find /var/lib/dpkg /var/lib/apt /var/cache/apt /var/log/apt -newermt "$(uptime -s)"`)

	must[map[string]string](n, "pool", "delete", machine)
	n.awaitPool("deleted", 2*time.Minute, func(p api.PoolInfo) bool {
		return !slices.ContainsFunc(p.Machines, func(m api.PoolMachine) bool { return m.Bought })
	})
	if left := cloud.Alive(); len(left) > 0 || e.qemu.ProcessState == nil {
		t.Errorf("servers are left: %+v", left)
	}
}

// closed checks that nothing on the machine reaches the metadata any more, root
// included.
func (e *emulated) closed() {
	e.t.Helper()
	before := e.requests("")
	if e.requests("/userdata") == 0 {
		e.t.Error("the machine never asked for its user-data")
	}
	if out, code := e.shell("curl -sS -m 10 http://169.254.169.254/hetzner/v1/userdata"); code == "0" {
		e.t.Errorf("the machine's user-data can still be read there: %q", out)
	}
	e.prints("blackhole 169.254.169.254", "ip route show 169.254.169.254")
	if after := e.requests(""); after != before {
		e.t.Errorf("the metadata service was asked %d more times: %q", after-before, e.asked)
	}
	// Only that route keeps it away: without it the service answers.
	e.prints(fmt.Sprint(e.server.ID), "ip route del blackhole 169.254.169.254 && curl -sS -m 20 http://169.254.169.254/hetzner/v1/metadata/instance-id; systemctl restart samnode-metadata.service")
	e.prints("blackhole 169.254.169.254", "ip route show 169.254.169.254")
}

// forgot checks that the keys of the user-data are nowhere on the machine.
func (e *emulated) forgot() {
	e.t.Helper()
	text, err := unzipped(e.data)
	if err != nil {
		e.t.Fatal(err)
	}
	keys := bootKey.FindAllStringSubmatch(text, -1)
	if len(keys) != 2 {
		e.t.Fatalf("the user-data has %d keys", len(keys))
	}
	for _, k := range keys {
		e.prints("", "grep -rlF -- '"+k[2]+"' /run /etc /root /tmp /var/lib/cloud /var/lib/samnode /var/log /var/tmp")
	}
	e.prints("", "ls -d /run/samnode-boot 2>/dev/null")
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

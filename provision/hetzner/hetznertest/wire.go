package hetznertest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

type object = map[string]any

// answer is what is sent back.
type answer struct {
	status int
	body   any               // JSON; nil: none
	header map[string]string // more of them
	plain  string            // instead of body: what a proxy says
	wrong  bool              // deliberately not as described
}

func fail(status int, code, message string, details any) answer {
	return answer{status: status, body: object{"error": object{"code": code, "message": message, "details": details}}}
}

func missing(what string) answer { return fail(404, "not_found", what+" not found", nil) }

func invalid(field string, messages ...string) answer {
	if len(messages) == 0 {
		messages = []string{"is not valid"}
	}
	return fail(422, "invalid_input", fmt.Sprintf("invalid input in field '%s'", field),
		object{"fields": []object{{"name": field, "messages": messages}}})
}

// stamp is a time as the API writes it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

func (a *action) wire(now time.Time) object {
	o := object{
		"id": a.id, "command": a.command, "status": "running", "progress": 0, "started": stamp(a.began), "finished": nil,
		"error": nil, "resources": []object{{"id": a.server, "type": "server"}},
	}
	if whole := a.ends.Sub(a.began); a.runs(now) && whole > 0 {
		o["progress"] = int(now.Sub(a.began) * 100 / whole)
		return o
	}
	o["progress"], o["finished"], o["status"] = 100, stamp(a.ends), "success"
	if a.code != "" {
		o["status"], o["error"] = "error", object{"code": a.code, "message": a.why}
	}
	return o
}

func (t *serverType) wire() object {
	var away any
	if !t.leaving.IsZero() {
		away = object{"announced": stamp(t.leaving.AddDate(0, -3, 0)), "unavailable_after": stamp(t.leaving)}
	}
	at := []object{}
	for _, l := range locations() {
		if t.soldAt(l) {
			at = append(at, object{"id": l.ID, "name": l.Name, "available": !contains(t.lacks, l.Name), "recommended": false, "deprecation": away})
		}
	}
	return object{
		"id": t.id, "name": t.name, "description": strings.ToUpper(t.name), "cores": t.cores, "memory": t.memory, "disk": t.disk,
		"storage_type": "local", "cpu_type": t.cpu, "category": "cost_optimized", "architecture": t.arch,
		"prices": t.prices(), "locations": at, "deprecated": away != nil, "deprecation": away,
	}
}

func (i *image) wire() object {
	kind := "system"
	if i.app {
		kind = "app"
	}
	return object{
		"id": i.id, "type": kind, "status": "available", "name": i.name, "description": i.name, "image_size": nil, "disk_size": 5,
		"created": "2025-06-01T00:00:00+00:00", "created_from": nil, "bound_to": nil, "os_flavor": i.flavor, "os_version": i.version,
		"rapid_deploy": true, "protection": object{"delete": false}, "deprecated": nil, "deleted": nil, "labels": object{}, "architecture": i.arch,
	}
}

func (s *server) wire(now time.Time, locked bool) object {
	public := object{"ipv4": nil, "ipv6": nil, "floating_ips": []int{}, "firewalls": []int{}}
	if s.v4 != nil {
		public["ipv4"] = object{"id": s.v4.id, "ip": s.v4.ip, "blocked": false, "dns_ptr": "static." + s.v4.ip + ".example"}
	}
	if s.v6 != nil {
		public["ipv6"] = object{"id": s.v6.id, "ip": s.v6.ip, "blocked": false, "dns_ptr": []int{}}
	}
	return object{
		"id": s.id, "name": s.name, "status": s.status(now), "created": stamp(s.created), "public_net": public, "private_net": []int{},
		"server_type": s.kind.wire(), "location": s.at, "image": s.image.wire(), "iso": nil, "rescue_enabled": false, "locked": locked,
		"backup_window": nil, "outgoing_traffic": 0, "ingoing_traffic": 0, "included_traffic": int64(20) << 40,
		"protection": object{"delete": false, "rebuild": false}, "labels": s.labels, "volumes": []int{}, "load_balancers": []int{},
		"primary_disk_size": s.kind.disk, "placement_group": nil,
	}
}

func (a *address) wire(now time.Time) object {
	var holder any
	if h := a.holder(now); h != nil {
		holder = h.id
	}
	return object{
		"id": a.id, "name": a.name, "type": a.kind, "ip": a.ip, "labels": a.labels, "created": stamp(a.created), "blocked": false,
		"dns_ptr": []int{}, "protection": object{"delete": false}, "assignee_type": "server", "assignee_id": holder, "auto_delete": a.auto, "location": a.at,
	}
}

type sshKey struct {
	ID          int64             `json:"id"`
	Name        string            `json:"name"`
	Fingerprint string            `json:"fingerprint"`
	PublicKey   string            `json:"public_key"`
	Labels      map[string]string `json:"labels"`
	Created     string            `json:"created"`
}

// word is a name or a number: official clients send either.
type word string

func (w *word) UnmarshalJSON(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		*w = word(v)
	case float64:
		*w = word(fmt.Sprint(int64(v)))
	default:
		return fmt.Errorf("%s is neither a name nor a number", data)
	}
	return nil
}

func (w word) is(id int64, name string) bool { return string(w) == name || string(w) == fmt.Sprint(id) }

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

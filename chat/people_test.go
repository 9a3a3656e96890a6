package chat_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

func itoa(n uint64) string { return fmt.Sprint(n) }

func arrive(p chat.Person) chat.Op { return chat.Op{Arrive: &chat.Arrive{Person: p}} }

func role(p chat.Person, r chat.Role) chat.Op {
	return chat.Op{PersonPut: &chat.PersonPut{Person: p, Role: r}}
}

func TestPeople(t *testing.T) {
	k := newKit(t)
	for _, p := range []chat.Person{"ana@x", "ben@x", "ana@x"} {
		k.Must(t, node, arrive(p))
	}
	second := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) } // the project came first
	want := []chat.Member{
		{Person: "ana@x", Role: chat.RoleOwner, Since: second(2), Author: node},
		{Person: "ben@x", Since: second(3), Author: node},
	}
	if diff := cmp.Diff(want, k.People()); diff != "" {
		t.Errorf("people who arrived (-want +got):\n%s", diff)
	}
	k.Must(t, ana, role("ben@x", chat.RoleMember))
	k.Must(t, ana, role("cy@x", chat.RoleViewer)) // who has not arrived yet
	k.Must(t, node, arrive("cy@x"))
	for p, want := range map[chat.Person]chat.Role{"ana@x": chat.RoleOwner, "ben@x": chat.RoleMember, "cy@x": chat.RoleViewer, "dot@x": chat.RoleNone} {
		if got := k.RoleOf(p); got != want {
			t.Errorf("role of %s = %q, want %q", p, got, want)
		}
	}
	if ben := k.People()[1]; ben.Since != second(3) || ben.Author != ana {
		t.Errorf("a person whose role changed = %+v", ben)
	}
	for name, c := range map[string]struct {
		op       chat.Op
		want     error
		sentence string
	}{
		"the last owner":     {role("ana@x", chat.RoleMember), chat.ErrRefused, "ana@x is the only owner; make somebody else an owner first."},
		"no role for her":    {role("ana@x", chat.RoleNone), chat.ErrRefused, "the only owner"},
		"an unknown role":    {role("ben@x", "root"), chat.ErrInvalid, "there are owner, member and viewer"},
		"an unknown person":  {role("dot@x", chat.RoleNone), chat.ErrNotFound, "Nobody is called"},
		"nobody":             {role("", chat.RoleMember), chat.ErrInvalid, "whose role"},
		"nobody arrives":     {arrive(""), chat.ErrInvalid, "who arrived"},
		"a name with spaces": {role("ben x", chat.RoleMember), chat.ErrInvalid, "no spaces"},
		"a huge name":        {arrive(chat.Person(strings.Repeat("x", 200))), chat.ErrTooLarge, "200 bytes"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, k, ana, c.op, c.want, c.sentence) })
	}
	k.Must(t, ana, role("ana@x", chat.RoleOwner)) // what she is already
	k.Must(t, ana, role("ben@x", chat.RoleOwner))
	k.Must(t, ben, role("ana@x", chat.RoleNone))
	refused(t, k, ben, role("ben@x", chat.RoleViewer), chat.ErrRefused, "the only owner")
	k.Must(t, node, arrive("ana@x"))
	if got := k.RoleOf("ana@x"); got != chat.RoleNone {
		t.Errorf("a person whose role was taken away arrives again as %q", got)
	}
}

func TestSettings(t *testing.T) {
	k := newKit(t)
	put := func(name, value string) chat.Op {
		return chat.Op{SettingPut: &chat.SettingPut{Name: name, Value: value}}
	}
	k.Must(t, ana, put("backup.url", "/srv/backup"))
	k.Must(t, ana, put("a", "1"))
	k.Must(t, ben, put("backup.url", strings.Repeat("x", chat.MaxSetting)))
	k.Must(t, ben, put("a", ""))
	k.Must(t, ben, put("a", "")) // it is gone already
	want := []chat.Setting{{Name: "backup.url", Value: strings.Repeat("x", chat.MaxSetting), Author: ben, Updated: epoch.Add(4 * time.Second)}}
	if diff := cmp.Diff(want, k.Settings()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if k.Setting("backup.url") != want[0].Value || k.Setting("a") != "" || k.Setting("none") != "" {
		t.Errorf("Setting = %q, %q, %q", k.Setting("backup.url"), k.Setting("a"), k.Setting("none"))
	}
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"", "x", chat.ErrInvalid},
		{strings.Repeat("x", chat.MaxName+1), "x", chat.ErrInvalid},
		{"two words", "x", chat.ErrInvalid},
		{"big", strings.Repeat("x", chat.MaxSetting+1), chat.ErrTooLarge},
	} {
		refused(t, k, ana, put(c.name, c.value), c.want, "")
	}
	for i := range 999 {
		k.Must(t, ana, put(fmt.Sprint("s", i), "x"))
	}
	refused(t, k, ana, put("one more", "x"), chat.ErrInvalid, "no spaces")
	refused(t, k, ana, put("one-more", "x"), chat.ErrRefused, "remove one first")
	k.Must(t, ana, put("s5", "changed"))
	k.Must(t, ana, put("s5", ""))
	k.Must(t, ana, put("one-more", "x"))
}

// TestForcedStop: a task whose node is gone is stopped in every state in which
// something ran, without a word of the node.
func TestForcedStop(t *testing.T) {
	for name, c := range lost {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			queued(t, k)
			c.reach(t, k)
			before := k.Get(t, taskID)
			k.Must(t, ana, chat.Op{Stop: &chat.Stop{Task: taskID, Force: true}})
			got := k.Get(t, taskID)
			rests := before.State == chat.Idle || before.State == chat.Stopped
			if rests && got.State != before.State || !rests && (got.State != chat.Stopped || got.Lease != nil || len(got.Asks) > 0 || got.Stopping) {
				t.Errorf("%s, stopped: %s, lease %v, asks %v", before.State, got.State, got.Lease, got.Asks)
			}
			if rests {
				return
			}
			stale(t, k, before)
			k.Must(t, ana, chat.Op{Retry: &chat.Retry{Task: taskID}})
			secondWorkspace(t, k, before)
		})
	}
}

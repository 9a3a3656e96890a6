package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClonesShareNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		clone func() (any, any)
	}{
		{"task", func() (any, any) { v := filled[Task](); return v, cloneTask(v) }},
		{"message", func() (any, any) { v := filled[Message](); return v, cloneMessage(v) }},
		{"project", func() (any, any) { v := filled[Project](); return v, cloneProject(v) }},
		{"secret", func() (any, any) { v := filled[Secret](); return v, cloneSecret(v) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, copied := c.clone()
			if diff := cmp.Diff(v, copied); diff != "" {
				t.Errorf("the copy differs (-want +got):\n%s", diff)
			}
			shared(t, c.name, reflect.ValueOf(v), reflect.ValueOf(copied))
		})
	}
}

// filled is a value whose every pointer, slice and map holds something.
func filled[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem())
	return v
}

func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(testTime))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(7)
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("fill knows no " + v.Kind().String())
	}
}

// shared reports every pointer, slice and map that both values hold.
func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	if a.Type() == reflect.TypeFor[time.Time]() {
		return
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
		}
		if a.Kind() == reflect.Pointer {
			shared(t, path, a.Elem(), b.Elem())
		}
		if a.Kind() == reflect.Slice {
			shared(t, path+"[0]", a.Index(0), b.Index(0))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	}
}

func TestCommandWindowIsBounded(t *testing.T) {
	s := NewState()
	s.window = 8
	for n := range uint64(50) {
		cmd := Command{Version: 1, ID: fmt.Sprintf("c%d", n), Author: Author{Person: "a"}, Op: Op{Stop: &Stop{Task: "none"}}}
		if err := s.Apply(n+1, testTime, cmd, memory{}); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			s.Commit()
		}
	}
	s.Commit()
	if len(s.numbers.base) != 8 || len(s.commands.base) != 8 {
		t.Errorf("%d ids and %d outcomes are kept, want 8", len(s.numbers.base), len(s.commands.base))
	}
	if _, ok := s.Outcome("c41"); ok {
		t.Error("c41 is remembered beyond the window")
	}
	if out, ok := s.Outcome("c42"); !ok || out.Index != 43 || !errors.Is(out.Err(), ErrNotFound) {
		t.Errorf("c42 = %+v, %v", out, ok)
	}
}

func TestSameCommandTwiceChangesNothing(t *testing.T) {
	s, m := working(t)
	op := Op{Note: &Note{Task: "T", Token: 5, Item: Item{ID: "n", Kind: KindStatus, Text: "x", Usage: &Usage{Cost: 7}}}}
	cmd := Command{Version: 1, ID: "twice", Author: Author{Node: "n"}, Op: op}
	for index := range uint64(3) {
		if err := s.Apply(20+index, testTime, cmd, m); err != nil {
			t.Fatal(err)
		}
	}
	task, _ := s.Task("T")
	if task.Usage.Cost != 7 || task.Index != 20 || m[messageKey{"T", "n"}].Index != 20 {
		t.Errorf("after the same command three times: cost %d, index %d", task.Usage.Cost, task.Index)
	}
	if out, _ := s.Outcome("twice"); out.Index != 20 || s.Index() != 22 {
		t.Errorf("outcome = %+v, index %d", out, s.Index())
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	s, m := working(t)
	for index, at := range []time.Time{testTime.Add(time.Hour), testTime, testTime.Add(time.Minute)} {
		if err := s.Apply(uint64(index+20), at, Command{ID: fmt.Sprint(index), Op: Op{Stop: &Stop{Task: "T"}}}, m); err != nil {
			t.Fatal(err)
		}
		if got := s.Now(); !got.Equal(testTime.Add(time.Hour)) {
			t.Errorf("after entry %d now = %v", index, got)
		}
	}
}

func TestRollback(t *testing.T) {
	s, m := working(t)
	before, err := s.Rows()
	if err != nil {
		t.Fatal(err)
	}
	emit(t, s, m, Item{ID: "a", Kind: KindAgent, Text: "x"})
	apply(t, s, m, 30, Op{SecretPut: &SecretPut{Secret: Secret{Name: "S", Sealed: []byte("x")}}})
	s.Rollback()
	after, err := s.Rows()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a rolled back batch left something (-before +after):\n%s", diff)
	}
	if _, known := s.Outcome("c30"); known {
		t.Error("a rolled back command is remembered")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := Command{Version: 1, ID: "c", Author: Author{Person: "a"}, Op: Op{Stop: &Stop{Task: "T"}}}
	data, err := Encode(good)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(data); err != nil || cmp.Diff(good, got) != "" {
		t.Errorf("Decode(Encode) = %+v, %v", got, err)
	}
	for name, c := range map[string]struct{ data, want string }{
		"a newer version":  {`{"v":2,"new":1}`, "newer samnode"},
		"an unknown field": {`{"v":1,"id":"c","by":{"person":"a"},"op":{"stop":{"task":"T","when":1}}}`, "upgrade this node"},
		"an unknown op":    {`{"v":1,"id":"c","by":{"person":"a"},"op":{"dance":{}}}`, "upgrade this node"},
		"no version":       {`{"id":"c","by":{"person":"a"},"op":{"stop":{"task":"T"}}}`, "version 0"},
		"no op":            {`{"v":1,"id":"c","by":{"person":"a"},"op":{}}`, "exactly one op"},
		"two ops":          {`{"v":1,"id":"c","by":{"person":"a"},"op":{"stop":{"task":"T"},"retry":{"task":"T"}}}`, "exactly one op"},
		"no id":            {`{"v":1,"id":"","by":{"person":"a"},"op":{"stop":{"task":"T"}}}`, "needs an id"},
		"two authors":      {`{"v":1,"id":"c","by":{"person":"a","node":"n"},"op":{"stop":{"task":"T"}}}`, "one author"},
		"a huge id":        {`{"v":1,"id":"` + strings.Repeat("x", 200) + `","by":{"person":"a"},"op":{"stop":{"task":"T"}}}`, "200 bytes"},
		"something after":  {string(data) + `{}`, "something follows it"},
		"not JSON":         {`hello`, "decoding"},
		"a control in ids": {`{"v":1,"id":"a\nb","by":{"person":"a"},"op":{"stop":{"task":"T"}}}`, "control"},
		"a text too large": {`{"v":1,"id":"c","by":{"person":"a"},"op":{"say":{"task":"T","message":"m","text":"` + strings.Repeat("x", MaxText+1) + `"}}}`, "allowed"},
	} {
		if _, err := Decode([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Decode = %v, want %q", name, err, c.want)
		} else if upgrade := strings.Contains(err.Error(), "upgrade this node"); errors.Is(err, ErrNewer) != upgrade {
			t.Errorf("%s: Decode = %v is ErrNewer: %v", name, err, !upgrade)
		}
	}
	got, err := Decode([]byte("{\"v\":1,\"id\":\"c\",\"by\":{\"person\":\"a\"},\"op\":{\"say\":{\"task\":\"T\",\"message\":\"m\",\"text\":\"a\xffb\"}}}"))
	if err != nil || got.Op.Say.Text != "a\uFFFDb" {
		t.Errorf("invalid UTF-8 = %+v, %v", got.Op.Say, err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for name, c := range map[string]struct {
		cmd  Command
		want error
	}{
		"a huge text": {Command{ID: "c", Author: Author{Person: "a"}, Op: Op{Say: &Say{Task: "T", Message: "m", Text: strings.Repeat("x", MaxText+1)}}}, ErrTooLarge},
		"no op":       {Command{ID: "c", Author: Author{Person: "a"}}, ErrInvalid},
		"escapes":     {Command{ID: "c", Author: Author{Person: "a"}, Op: Op{Say: &Say{Task: "T", Message: "m", Text: strings.Repeat("\x01", MaxText)}}}, ErrTooLarge},
	} {
		if _, err := Encode(c.cmd); !errors.Is(err, c.want) {
			t.Errorf("%s: Encode = %v, want %v", name, err, c.want)
		}
	}
}

// FuzzDecode never panics, and what it takes survives a round trip.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"c","by":{"person":"a"},"op":{"stop":{"task":"T"}}}`))
	f.Add([]byte(`{"v":1,"id":"c","by":{"node":"n"},"op":{"items":{"task":"T","items":[{"id":"x","kind":"tool","tool":{"title":"t"}}]}}}`))
	f.Add([]byte(`{"v":1,"id":"c","by":{"node":"n"},"op":{"kept":{"task":"T","token":4,"workspace":1,"text":"x"}}}`))
	f.Add([]byte(`{"v":1,"id":"c","by":{"node":"n"},"op":{"arrive":{"person":"a"}}}`))
	f.Add([]byte(`{"v":1,"id":"c","by":{"person":"a"},"op":{"person_put":{"person":"a","role":"owner"}}}`))
	f.Add([]byte(`{"v":1,"id":"c","by":{"person":"a"},"op":{"setting_put":{"name":"a","value":"\u0000"}}}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cmd, err := Decode(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(cmd)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		third, err := json.Marshal(back)
		if err != nil || string(again) != string(third) {
			t.Fatalf("not stable: %s then %s, %v", again, third, err)
		}
		s, m := working(t)
		if err := s.Apply(99, testTime, cmd, m); err != nil {
			t.Fatalf("applying: %v", err)
		}
		if _, err := s.Rows(); err != nil {
			t.Fatalf("the state cannot be written: %v", err)
		}
	})
}

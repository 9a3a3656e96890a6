package chat

import (
	"math"
	"unicode/utf8"
)

// quick reads the two commands of which there are most, what a person says and
// the text of agents, as Encode writes them: a quarter of the work of
// encoding/json, on every core node for every entry. It never decides anything:
// whatever is not exactly of that form, it leaves to encoding/json, and a fuzz
// test holds the two together.
func quick(data []byte) (Command, bool) {
	r := reader{rest: data, ok: true}
	var cmd Command
	r.lit(`{"v":`)
	cmd.Version = int(r.number(Version))
	r.lit(`,"id":`)
	cmd.ID = r.text()
	r.lit(`,"by":{`)
	if r.has(`"person":`) {
		cmd.Author.Person = Person(r.text())
	} else {
		r.lit(`"node":`)
		cmd.Author.Node = Node(r.text())
	}
	r.lit(`},"op":{`)
	if r.has(`"say":{`) {
		cmd.Op.Say = r.say()
	} else {
		r.lit(`"items":{`)
		cmd.Op.Items = r.items()
	}
	r.lit(`}}}`)
	return cmd, r.ok && len(r.rest) == 0
}

// reader takes JSON from the front of rest. After the first thing that is not
// as expected nothing counts any more.
type reader struct {
	rest []byte
	ok   bool
}

func (r *reader) say() *Say {
	s := new(Say)
	r.lit(`"task":`)
	s.Task = TaskID(r.text())
	r.lit(`,"message":`)
	s.Message = r.text()
	r.lit(`,"text":`)
	s.Text = r.text()
	s.Steer = r.has(`,"steer":true`)
	return s
}

func (r *reader) items() *Items {
	s := new(Items)
	r.lit(`"task":`)
	s.Task = TaskID(r.text())
	r.lit(`,"token":`)
	s.Token = r.number(math.MaxInt64)
	r.lit(`,"workspace":`)
	s.Workspace = int(r.number(math.MaxInt32))
	r.lit(`,"from":`)
	s.From = r.number(math.MaxInt64)
	r.lit(`,"upto":`)
	s.Upto = r.number(math.MaxInt64)
	r.lit(`,"items":[`)
	for r.ok {
		s.Items = append(s.Items, r.item())
		if !r.has(`,`) {
			break
		}
	}
	r.lit(`]`)
	return s
}

// item is one with text alone.
func (r *reader) item() (i Item) {
	r.lit(`{"id":`)
	i.ID = r.text()
	r.lit(`,"kind":`)
	i.Kind = Kind(r.text())
	if r.has(`,"source":`) {
		i.Source = r.number(math.MaxInt64)
	}
	if r.has(`,"offset":`) {
		i.Offset = int64(r.number(math.MaxInt64))
	}
	if r.has(`,"text":`) {
		i.Text = r.text()
	}
	i.Closed = r.has(`,"closed":true`)
	if r.has(`,"size":`) {
		i.Size = int64(r.number(math.MaxInt64))
	}
	r.lit(`}`)
	return i
}

func (r *reader) has(s string) bool {
	if len(r.rest) < len(s) || string(r.rest[:len(s)]) != s {
		return false
	}
	r.rest = r.rest[len(s):]
	return true
}

func (r *reader) lit(s string) {
	if !r.has(s) {
		r.ok = false
	}
}

// number is a whole one in decimal, without a sign, up to most.
func (r *reader) number(most uint64) (n uint64) {
	i := 0
	for ; i < len(r.rest) && i < 19 && r.rest[i] >= '0' && r.rest[i] <= '9'; i++ {
		n = n*10 + uint64(r.rest[i]-'0')
	}
	if i == 0 || n > most || i > 1 && r.rest[0] == '0' {
		r.ok = false
	}
	r.rest = r.rest[i:]
	return n
}

// text is a string.
func (r *reader) text() string {
	if !r.has(`"`) {
		r.ok = false
		return ""
	}
	end, plain := 0, true
	for ; ; end++ {
		if end == len(r.rest) {
			r.ok = false
			return ""
		}
		if c := r.rest[end]; c == '"' {
			break
		} else if c == '\\' {
			plain = false
			end++ // what follows is no end
			if end == len(r.rest) {
				r.ok = false
				return ""
			}
		} else if c < ' ' {
			r.ok = false
			return ""
		}
	}
	raw := r.rest[:end]
	r.rest = r.rest[end+1:]
	if !utf8.Valid(raw) {
		r.ok = false
		return ""
	}
	if plain {
		return string(raw)
	}
	return r.unescape(raw)
}

// short is what an escape of one letter means, 0 when it is none.
func short(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

func (r *reader) unescape(raw []byte) string {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		if c := short(raw[i]); c != 0 {
			out = append(out, c)
			continue
		}
		c, ok := hex4(raw[i:])
		if !ok {
			r.ok = false
			return ""
		}
		out = utf8.AppendRune(out, c)
		i += 4
	}
	return string(out)
}

// hex4 is what uXXXX says. Halves of a pair are left to encoding/json.
func hex4(s []byte) (c rune, ok bool) {
	if len(s) < 5 || s[0] != 'u' {
		return 0, false
	}
	for _, b := range s[1:5] {
		switch {
		case b >= '0' && b <= '9':
			c = c<<4 | rune(b-'0')
		case b >= 'a' && b <= 'f':
			c = c<<4 | rune(b-'a'+10)
		case b >= 'A' && b <= 'F':
			c = c<<4 | rune(b-'A'+10)
		default:
			return 0, false
		}
	}
	return c, c < 0xd800 || c > 0xdfff
}

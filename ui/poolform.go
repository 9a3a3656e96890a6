package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// poolForm are the settings as they are typed.
type poolForm struct {
	Numbers    []numberField
	Sizes      string // one a line, best first: cx33=2 label label
	Locations  string
	Image      string
	WholeHours bool
	Shared     bool
	Stopped    bool
	Costs      poolCosts
	Wrong      map[string]string // what is wrong with a field, as a sentence
	Alert      *problem
	Trial      bool   // these are not saved
	Seen       string // stands for the settings that the form was made from
}

// numberField is a number of the settings. Each has the same look.
type numberField struct{ Name, Label, Unit, Value, Help string }

// field returns the one of that name.
func (f poolForm) field(name string) numberField {
	for _, n := range f.Numbers {
		if n.Name == name {
			return n
		}
	}
	return numberField{}
}

// numberFields are the numbers and their names, without values.
func numberFields() []numberField {
	return []numberField{
		{Name: "machines", Label: "Machines at once", Help: "At most. 0 buys none."},
		{Name: "per_day", Label: "Money a day", Unit: "€", Help: "At most, by the day of UTC."},
		{Name: "warm", Label: "An idle machine stays", Unit: "minutes", Help: "At least."},
		{Name: "free", Label: "Slots kept free", Unit: "slots", Help: "While the last task is under an hour old."},
		{Name: "prewarm", Label: "Slots bought ahead", Unit: "slots", Help: "At most, when the last two hours had bursts of tasks. 0 buys none."},
		{Name: "boot", Label: "Time to come up", Unit: "minutes", Help: "After that it is deleted, and another one tried."},
		{Name: "life", Label: "Life of a machine", Unit: "hours", Help: "In its last hour it gets no new tasks."},
	}
}

func newPoolForm(p api.PoolInfo) poolForm {
	set := p.Settings
	f := poolForm{
		Locations: strings.Join(set.Locations, ", "), Image: set.Image, Seen: seenOf(set), Costs: costsOf(set, p),
		WholeHours: set.WholeHours, Shared: set.Shared, Stopped: set.Stopped,
	}
	values := map[string]string{
		"machines": strconv.Itoa(set.Machines), "per_day": strconv.FormatFloat(set.PerDay, 'f', 2, 64), "warm": strconv.Itoa(set.WarmMinutes),
		"free": strconv.Itoa(set.Free), "prewarm": strconv.Itoa(set.Prewarm), "boot": strconv.Itoa(set.BootMinutes), "life": strconv.Itoa(set.LifeHours),
	}
	f.fill(func(name string) string { return values[name] })
	var sizes []string
	for _, s := range set.Sizes {
		sizes = append(sizes, strings.Join(append([]string{s.Type + "=" + strconv.Itoa(s.Slots)}, s.Labels...), " "))
	}
	f.Sizes = strings.Join(sizes, "\n")
	return f
}

// seenOf stands for settings, so that a form does not take back what somebody
// else has changed since it was made.
func seenOf(set api.PoolSettings) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", set))
	return hex.EncodeToString(sum[:8])
}

// fill takes the values of the numbers.
func (f *poolForm) fill(value func(name string) string) {
	for _, n := range numberFields() {
		n.Value = value(n.Name)
		f.Numbers = append(f.Numbers, n)
	}
}

// readPoolForm reads what was typed, and what is wrong with it.
func readPoolForm(posted url.Values) (poolForm, api.PoolSettings) {
	get := func(name string) string { return strings.TrimSpace(normal(posted.Get(name))) }
	f := poolForm{
		Sizes: normal(posted.Get("sizes")), Locations: get("locations"), Image: get("image"), Wrong: map[string]string{},
		WholeHours: get("whole_hours") != "", Shared: get("shared") != "", Stopped: get("stopped") != "", Seen: get("seen"),
	}
	f.fill(get)
	whole := func(name string) int {
		n, err := strconv.Atoi(get(name))
		if err != nil || n < 0 || n > 1_000_000 {
			f.Wrong[name] = "Write a whole number, 0 or more."
			return 0
		}
		return n
	}
	set := api.PoolSettings{
		Machines: whole("machines"), WarmMinutes: whole("warm"), Free: whole("free"), Prewarm: whole("prewarm"), BootMinutes: whole("boot"), LifeHours: whole("life"),
		Locations: wordsOf(f.Locations), Image: f.Image, WholeHours: f.WholeHours, Shared: f.Shared, Stopped: f.Stopped,
	}
	var err error
	set.PerDay, err = strconv.ParseFloat(strings.Replace(get("per_day"), ",", ".", 1), 64)
	if err != nil || !(set.PerDay >= 0 && set.PerDay <= 1_000_000) { // what is no number is neither
		set.PerDay, f.Wrong["per_day"] = 0, "Write an amount of euros, such as 5.00."
	}
	var wrong string
	if set.Sizes, wrong = readSizes(f.Sizes); wrong != "" {
		f.Wrong["sizes"] = wrong
	}
	return f, set
}

// wordsOf are the words of a list, with commas or without.
func wordsOf(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' })
}

// readSizes reads one size a line, or says what is wrong with one.
func readSizes(text string) (out []api.PoolSize, wrong string) {
	for l := range strings.Lines(text) {
		words := wordsOf(l)
		if len(words) == 0 {
			continue
		}
		name, slots, _ := strings.Cut(words[0], "=")
		n, err := strconv.Atoi(slots)
		if err != nil || n < 1 || name == "" {
			return nil, "“" + line(l, 60) + "” is no size: write a type and its slots, such as cx33=2, one a line."
		}
		s := api.PoolSize{Type: name, Slots: n}
		if len(words) > 1 {
			s.Labels = words[1:]
		}
		out = append(out, s)
	}
	return out, ""
}

// check is what is wrong with the form, as an error.
func (f poolForm) check() error {
	switch len(f.Wrong) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%w: one field is not understood, see below. Nothing was saved", chat.ErrInvalid)
	}
	return fmt.Errorf("%w: %d fields are not understood, see below. Nothing was saved", chat.ErrInvalid, len(f.Wrong))
}

// buyForm asks for one machine.
type buyForm struct {
	ID, CPUs, Memory, Location string
	Locations                  []string
	First                      string // what would be bought without a wish
	Alert                      *problem
}

func newBuyForm(p api.PoolInfo) buyForm {
	f := buyForm{ID: newID(), First: "Nothing can be bought now: the table says why."}
	for _, c := range p.Choices {
		if !slices.Contains(f.Locations, c.Location) {
			f.Locations = append(f.Locations, c.Location)
		}
	}
	if c, ok := firstChoice(p.Settings, p.Choices); ok && c.Refused == "" {
		f.First = fmt.Sprintf("Without a wish it is %s at %s, with %s: %s an hour, %s for a whole day.",
			line(c.Type, 40), line(c.Location, 40), plural(c.Slots, "slot"), perHour(c.Hour), euros(c.Day))
	}
	return f
}

const gigabyte = 1 << 30

// readNeed reads the wishes of the form.
func readNeed(f buyForm) (api.PoolNeed, error) {
	need := api.PoolNeed{ID: f.ID, Location: f.Location}
	if f.CPUs != "" {
		n, err := strconv.Atoi(f.CPUs)
		if err != nil || n < 0 || n > 1024 {
			return need, fmt.Errorf("%w: processors are a whole number, or empty", chat.ErrInvalid)
		}
		need.CPUs = n
	}
	if f.Memory != "" {
		n, err := strconv.ParseFloat(strings.Replace(f.Memory, ",", ".", 1), 64)
		if err != nil || !(n >= 0 && n <= 1<<20) {
			return need, fmt.Errorf("%w: memory is a number of gigabytes, or empty", chat.ErrInvalid)
		}
		need.Memory = int64(math.Ceil(n * gigabyte))
	}
	return need, nil
}

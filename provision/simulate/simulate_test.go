package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/provision"
)

// free is the default policy without caps, and one type to buy.
func free() provision.Policy {
	p := provision.DefaultPolicy()
	p.Machines, p.PerDay, p.Locations, p.Life = 100, 1000*provision.Euro, nil, 30*24*time.Hour
	p.Sizes = []provision.Size{{Type: "cx23", Slots: 1}}
	return p
}

func sold() []provision.Offer {
	return []provision.Offer{{Type: "cx23", Location: "fsn1", Hour: 9_600, Orderable: true}}
}

func loadOf(t *testing.T, key string) Load {
	t.Helper()
	i := slices.IndexFunc(Loads(), func(l Load) bool { return l.Key == key })
	if i < 0 {
		t.Fatalf("no load %s", key)
	}
	return Loads()[i]
}

func run(t *testing.T, key string, p provision.Policy, days int) Figures {
	t.Helper()
	f, err := Scenario{Policy: p, Offers: sold(), Load: loadOf(t, key), Days: days, Seeds: 1}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPoliciesAreWhatTheyAreFor: the same seeds give the same table; to the end
// of the paid hour is less than a fixed time, which is less than at once; and
// the default has far fewer cold starts.
func TestPoliciesAreWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	aligned, def := free(), free()
	aligned.Free = 0
	def.Sizes[0].Slots = 2
	variants := []Variant{{"at once", AtOnce(free()), sold()}, {"fixed", Fixed(free(), 30*time.Minute), sold()}, {"aligned", aligned, sold()}, {"default", def, sold()}}
	var tables [2]bytes.Buffer
	var results []Result
	for i := range tables {
		var err error
		if results, err = Compare(t.Context(), []Load{loadOf(t, "2")}, variants, 14, 1); err != nil {
			t.Fatal(err)
		}
		if err := Write(&tables[i], results, 14); err != nil {
			t.Fatal(err)
		}
	}
	table := tables[0].String()
	if table != tables[1].String() {
		t.Errorf("the same seed gives\n%s\nand\n%s", table, tables[1].String())
	}
	once, fixed, toEnd, kept := results[0], results[1], results[2], results[3]
	if !(toEnd.Cents < fixed.Cents && fixed.Cents < once.Cents) {
		t.Errorf("to the hour's end is not less than fixed, and that less than at once:\n%s", table)
	}
	if kept.Cold*2 > fixed.Cold {
		t.Errorf("the default does not halve the cold starts of a fixed time:\n%s", table)
	}
	if once.Cold != 100 || once.Machines < 2*fixed.Machines {
		t.Errorf("without a warm machine every task waits, and nearly each for its own:\n%s", table)
	}
	t.Log("\n" + table)
}

// TestAMachineForEachTask: what a run of machines that serve one task each must
// come to can be said beforehand.
func TestAMachineForEachTask(t *testing.T) {
	t.Parallel()
	l := Load{Name: "by hand", jobs: func(*rand.Rand, int) []job {
		return []job{
			{monday(), 10 * time.Minute},
			{monday().Add(time.Minute), 2 * time.Hour},
			{monday().Add(24 * time.Hour), time.Minute},
		}
	}}
	f, err := Scenario{Policy: AtOnce(free()), Offers: sold(), Load: l, Days: 2, Seeds: 1}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const hours = 1 + 3 + 1 // the boot counts, so that two hours of work are three
	if f.Tasks != 3 || f.Machines != 3 || f.Peak != 2 || f.Cold != 100 || fmt.Sprintf("%.4f %.2f", f.Euros, f.Cents) != fmt.Sprintf("%.4f %.2f", hours*0.0096, 100*hours*0.0096/3) {
		t.Errorf("three tasks on three machines: %+v", f)
	}
	if f.P95 < 60 || f.P95 > 90 || f.Mean < 60 || f.Mean > 90 {
		t.Errorf("a machine boots for 60 to 90 seconds: %+v", f)
	}
}

// TestCaps: under them tasks wait, and all run in the end.
func TestCaps(t *testing.T) {
	t.Parallel()
	loose := run(t, "2", free(), 7)
	few := free()
	few.Machines = 1
	one := run(t, "2", few, 7)
	if one.Peak != 1 || one.Tasks != loose.Tasks || one.P95 <= loose.P95 {
		t.Errorf("with one machine %+v, with many %+v", one, loose)
	}
	poor := free()
	poor.PerDay = 200_000 // some 20 hours of one machine: less than the load takes
	if day := run(t, "2", poor, 7); day.P95 < time.Hour.Seconds() || day.Euros > 0.21*20 {
		t.Errorf("with 0.20 € a day: %+v", day)
	}
	short := free()
	short.Life = 2 * time.Hour
	if brief := run(t, "8", short, 3); brief.Machines <= run(t, "8", free(), 3).Machines {
		t.Errorf("machines that live for two hours are not more: %+v", brief)
	}
}

// TestOtherLoads: all run to their end, also with slots bought ahead, which is
// what they are for.
func TestOtherLoads(t *testing.T) {
	t.Parallel()
	for _, l := range Loads() {
		ahead := free()
		ahead.Prewarm = 2
		plain, bought := run(t, l.Key, free(), 7), run(t, l.Key, ahead, 7)
		if plain.Tasks == 0 || plain.Tasks != bought.Tasks || bought.Cold >= plain.Cold || bought.Cents <= plain.Cents {
			t.Errorf("%s: %+v, with slots ahead %+v", l.Name, plain, bought)
		}
	}
}

// TestTooLittle: what the caps can never serve is said, and not waited for.
func TestTooLittle(t *testing.T) {
	t.Parallel()
	none, one, poor, elsewhere := free(), free(), free(), free()
	none.Machines, one.Machines, poor.PerDay, elsewhere.Locations = 0, 1, 100, []string{"moon"}
	for want, p := range map[string]provision.Policy{
		"no machines are bought":                            none,
		"Of 0.0001 € a day 0.00 € are spent":                poor,
		"1 of at most 1 machines are bought":                one,
		"cx23 at moon: the provider does not sell it there": elsewhere,
	} {
		if f := run(t, "8", p, 7); !strings.Contains(f.Stuck, want) || f.Tasks != 0 {
			t.Errorf("%q: %+v", want, f)
		}
	}
	var out bytes.Buffer
	if err := Write(&out, []Result{{"2/h", "none", Figures{Stuck: "Nothing is for sale."}}}, 7); err != nil || !strings.Contains(out.String(), "Nothing is for sale.") {
		t.Errorf("the table says\n%s, %v", out.String(), err)
	}
}

func TestWhatCannotBeSimulated(t *testing.T) {
	t.Parallel()
	odd := free()
	odd.Warm = -time.Minute
	for want, s := range map[string]Scenario{
		"An idle machine is kept for":    {Policy: odd, Days: 1, Seeds: 1},
		"1 to 100 days":                  {Policy: free(), Days: 0, Seeds: 1},
		"1 to 100 seeds, not 1 and 1000": {Policy: free(), Days: 1, Seeds: 1000},
	} {
		s.Offers, s.Load = sold(), loadOf(t, "2")
		if f, err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", want, f, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := Compare(ctx, Loads(), []Variant{{"x", free(), sold()}}, 14, 1); !errors.Is(err, enough) {
		t.Errorf("a run that is given up: %v", err)
	}
}

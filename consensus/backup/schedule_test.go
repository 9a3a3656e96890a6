package backup

import (
	"testing"
	"time"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestScheduleNext(t *testing.T) {
	for _, c := range []struct{ schedule, last, want string }{
		{"daily 03:00", "2026-03-04T02:59:59Z", "2026-03-04T03:00:00Z"},
		{"daily 03:00", "2026-03-04T03:00:00Z", "2026-03-05T03:00:00Z"},
		{"daily 03:00", "2026-03-04T03:00:01Z", "2026-03-05T03:00:00Z"},
		{"daily 03:00", "2026-12-31T23:00:00Z", "2027-01-01T03:00:00Z"},
		{"daily 03:00", "2026-03-04T01:00:00+02:00", "2026-03-04T03:00:00Z"}, // the day before in UTC
		{"daily 00:00", "2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"},
		{"daily", "2026-03-04T10:00:00Z", "2026-03-05T00:00:00Z"},
		{"daily 23:59", "2024-02-28T23:59:30Z", "2024-02-29T23:59:00Z"},
		{"Daily  3:05 ", "2026-03-04T00:00:00Z", "2026-03-04T03:05:00Z"},
		{"hourly", "2026-03-04T10:00:00Z", "2026-03-04T11:00:00Z"},
		{"every 6h", "2026-03-04T05:59:59Z", "2026-03-04T06:00:00Z"},
		{"every 6h", "2026-03-04T06:00:00Z", "2026-03-04T12:00:00Z"},
		{"every 90m", "2026-03-04T00:10:00Z", "2026-03-04T01:30:00Z"},
		{"every 1h30m", "2026-03-04T00:10:00Z", "2026-03-04T01:30:00Z"},
		{"every 2d", "2026-03-04T12:00:00Z", "2026-03-06T00:00:00Z"},
		{"every 1m", "2026-03-04T12:00:59.999Z", "2026-03-04T12:01:00Z"},
		{"weekly sun 03:00", "2026-03-04T12:00:00Z", "2026-03-08T03:00:00Z"}, // a Wednesday
		{"weekly Sunday 3:00", "2026-03-08T03:00:00Z", "2026-03-15T03:00:00Z"},
		{"weekly mon 00:00", "2026-03-08T23:59:00Z", "2026-03-09T00:00:00Z"},
		{"weekly wed 12:30", "2026-03-04T12:00:00Z", "2026-03-04T12:30:00Z"},
		{"weekly tues 12:30", "2026-03-04T12:00:00Z", "2026-03-10T12:30:00Z"},
		{"weekly thurs 01:00", "2026-03-04T12:00:00Z", "2026-03-05T01:00:00Z"},
		{"weekly sat 01:00", "2026-03-04T12:00:00Z", "2026-03-07T01:00:00Z"},
		{"weekly fri 01:00", "2026-03-04T12:00:00Z", "2026-03-06T01:00:00Z"},
	} {
		s, err := ParseSchedule(c.schedule)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := s.Next(at(t, c.last)); !got.Equal(at(t, c.want)) || got.Location() != time.UTC {
			t.Errorf("%q after %s = %s, want %s", c.schedule, c.last, got, c.want)
		}
		again, err := ParseSchedule(s.String())
		if err != nil || again != s {
			t.Errorf("%q prints %q, which is %v, %v", c.schedule, s, again, err)
		}
	}
}

func TestScheduleOff(t *testing.T) {
	s, err := ParseSchedule(" OFF ")
	if err != nil || !s.Off() || s.String() != "off" || !s.Next(time.Now()).IsZero() {
		t.Errorf("off = %v, %v; next %s", s, err, s.Next(time.Now()))
	}
}

// TestScheduleMovesOn: from any moment on, by no more than its interval.
func TestScheduleMovesOn(t *testing.T) {
	for _, text := range []string{"hourly", "every 7m", "every 5h", "daily 13:37", "weekly tue 13:37", "every 90d"} {
		s, err := ParseSchedule(text)
		if err != nil {
			t.Fatal(err)
		}
		now := at(t, "2026-02-27T13:30:00Z")
		for range 500 {
			next := s.Next(now)
			if !next.After(now) || next.Sub(now) > s.every {
				t.Fatalf("%s after %s = %s", text, now, next)
			}
			if between := s.Next(now.Add(next.Sub(now) / 2)); !between.Equal(next) {
				t.Fatalf("%s: %s comes after %s, but %s after a moment between", text, next, now, between)
			}
			now = next
		}
	}
}

func TestNoSchedule(t *testing.T) {
	for text, want := range map[string]string{
		"":                  `"" is no schedule: write "daily 03:00"`,
		"sometimes":         `write "daily 03:00"`,
		"0 3 * * *":         `write "daily 03:00"`,
		"daily 25:00":       `"25:00" is no time of day`,
		"daily 3":           `"3" is no time of day`,
		"daily 3:00 am":     `is no schedule`,
		"weekly 03:00":      `is no schedule`,
		"weekly someday 03": `"someday" is no day of the week`,
		"weekly su 03:00":   `"su" is no day of the week`,
		"weekly sun 3pm":    `"3pm" is no time of day`,
		"every":             `is no schedule`,
		"every day":         `"day" is no length of time`,
		"every 10s":         `is too often, the least is a minute`,
		"every 0d":          `is too often`,
		"every -6h":         `is too often`,
		"every 100d":        `is too seldom, the most is 90 days`,
		"every 9999999999d": `is too seldom`,
	} {
		_, err := ParseSchedule(text)
		wantText(t, err, want)
	}
}

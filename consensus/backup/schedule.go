package backup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule says when backups are made. It is the same for every node: all
// times are UTC, and intervals count from one fixed moment, so that a new
// leader goes on where the old one was. The zero value is off.
type Schedule struct {
	every  time.Duration // counted from the zero time, a Monday at 00:00
	offset time.Duration // of each, less than every
}

const (
	day      = 24 * time.Hour
	week     = 7 * day
	minEvery = time.Minute
	maxEvery = 90 * day
)

// weekdays are in the order in which time.Truncate counts.
func weekdays() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

// ParseSchedule reads "off", "hourly", "daily 03:00", "weekly sun 03:00" or
// "every 6h" (m, h and d; also 1h30m).
func ParseSchedule(text string) (Schedule, error) {
	const form = `write "daily 03:00", "weekly sun 03:00", "every 6h" or "off"; times are UTC`
	words := strings.Fields(strings.ToLower(text))
	var s Schedule
	var err error
	switch {
	case len(words) == 1 && words[0] == "off":
		return Schedule{}, nil
	case len(words) == 1 && words[0] == "hourly":
		return Schedule{every: time.Hour}, nil
	case len(words) == 1 && words[0] == "daily":
		return Schedule{every: day}, nil
	case len(words) == 2 && words[0] == "daily":
		s.every = day
		s.offset, err = parseClock(words[1])
	case len(words) == 3 && words[0] == "weekly":
		s, err = parseWeekly(words[1], words[2])
	case len(words) == 2 && words[0] == "every":
		s.every, err = parseEvery(words[1])
	default:
		return Schedule{}, fmt.Errorf("%q is no schedule: %s", text, form)
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("%q is no schedule: %w; %s", text, err, form)
	}
	return s, nil
}

func parseClock(s string) (time.Duration, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

func parseWeekly(name, clock string) (Schedule, error) {
	i := slices.IndexFunc(weekdays(), func(d string) bool { return len(name) >= 3 && strings.HasPrefix(longDay(d), name) })
	if i < 0 {
		return Schedule{}, fmt.Errorf("%q is no day of the week", name)
	}
	at, err := parseClock(clock)
	return Schedule{week, time.Duration(i)*day + at}, err
}

func longDay(short string) string {
	switch short {
	case "tue":
		return "tuesday"
	case "wed":
		return "wednesday"
	case "thu":
		return "thursday"
	case "sat":
		return "saturday"
	}
	return short + "day"
}

func parseEvery(s string) (time.Duration, error) {
	every, err := time.ParseDuration(s)
	if n, ok := strings.CutSuffix(s, "d"); err != nil && ok {
		var days int
		days, err = strconv.Atoi(n)
		every = time.Duration(min(days, 1000)) * day
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no length of time", s)
	case every < minEvery:
		return 0, fmt.Errorf("%s is too often, the least is a minute", s)
	case every > maxEvery:
		return 0, fmt.Errorf("%s is too seldom, the most is 90 days", s)
	}
	return every, nil
}

// Off tells whether no backups are made.
func (s Schedule) Off() bool { return s.every == 0 }

// Next returns the first moment after last at which a backup is due, in UTC,
// and the zero time when the schedule is off. With last the time of the newest
// backup, one is due when Next is not after now; a moment that went by while
// no node was up makes one backup, not one for each that was missed.
func (s Schedule) Next(last time.Time) time.Time {
	if s.Off() {
		return time.Time{}
	}
	last = last.UTC()
	next := last.Truncate(s.every).Add(s.offset)
	if !next.After(last) {
		next = next.Add(s.every)
	}
	return next
}

// String returns a text that ParseSchedule reads.
func (s Schedule) String() string {
	clock := fmt.Sprintf("%02d:%02d", s.offset%day/time.Hour, s.offset%time.Hour/time.Minute)
	switch {
	case s.Off():
		return "off"
	case s.every == day:
		return "daily " + clock
	case s.every == week:
		return "weekly " + weekdays()[s.offset/day] + " " + clock
	case s.every%day == 0:
		return fmt.Sprintf("every %dd", s.every/day)
	}
	text := s.every.String() // 6h0m0s
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return "every " + text
}

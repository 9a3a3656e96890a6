package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// age is relative to 24 hours, then the date.
func age(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := now.Sub(t); {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 24*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	case now.Year() == t.Year():
		return t.Format("2 Jan")
	default:
		return t.Format("2 Jan 2006")
	}
}

// length is a duration in the two largest units that matter.
func length(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%dm %02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// money is millionths of a US dollar.
func money(millionths int64) string {
	switch {
	case millionths <= 0:
		return "$0"
	case millionths < 10_000:
		return "<$0.01"
	default:
		return "$" + strconv.FormatFloat(float64(millionths)/1e6, 'f', 2, 64)
	}
}

// euros is an amount of money as the pool's sentences have it: 0.31 €, 1,204.50 €.
func euros(n float64) string {
	switch {
	case n < 0:
		return minus + euros(-n)
	case n > 0 && n < 0.005:
		return "under 0.01" + euroSign
	}
	cents := uint64(math.Round(n * 100))
	return fmt.Sprintf("%s.%02d%s", thousands(cents/100), cents%100, euroSign)
}

const euroSign = "\u00a0€" // on the line of its number

// perHour is a small price, with as many digits as it has: 0.0113 €.
func perHour(n float64) string {
	if n < 0 || n >= 1 {
		return euros(n)
	}
	s := strconv.FormatFloat(n, 'f', 4, 64)
	for len(s) > len("0.00") && s[len(s)-1] == '0' {
		s = s[:len(s)-1]
	}
	return s + euroSign
}

// minutes is a time in whole minutes: 1 min, 34 min, 1 h 05 min.
func minutes(d time.Duration) string {
	m := int(d.Round(time.Minute) / time.Minute)
	switch {
	case m < 60:
		return strconv.Itoa(m) + " min"
	case m%60 == 0:
		return strconv.Itoa(m/60) + " h"
	}
	return fmt.Sprintf("%d h %02d min", m/60, m%60)
}

// left is how long something still takes, as app.js counts it down: calm until
// the last minute.
func left(d time.Duration) string {
	switch {
	case d <= 0:
		return "now"
	case d <= time.Minute:
		return "in " + strconv.Itoa(int(d/time.Second)) + " s"
	case d >= 48*time.Hour:
		return "in " + plural(int(d/(24*time.Hour)), "day")
	}
	return "in " + minutes(d.Truncate(time.Minute))
}

// count shortens a number: 950, 12.4k, 1.2M.
func count(n int64) string {
	switch {
	case n < 1000:
		return strconv.FormatInt(n, 10)
	case n < 1_000_000:
		return short(float64(n)/1e3) + "k"
	default:
		return short(float64(n)/1e6) + "M"
	}
}

// thousands is a whole number with commas: 1,204.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is a number of bytes.
func size(n int64) string {
	switch {
	case n < 1024:
		return strconv.FormatInt(n, 10) + " B"
	case n < 1<<20:
		return short(float64(n)/1024) + " KB"
	case n < 1<<30:
		return short(float64(n)/(1<<20)) + " MB"
	default:
		return short(float64(n)/(1<<30)) + " GB"
	}
}

func short(f float64) string {
	if f >= 100 {
		return strconv.Itoa(int(f))
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}

// plural is "1 file" or "4 files".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// minus is the sign that diffs carry, wider than a hyphen.
const minus = "−"

func stamp(t time.Time) string    { return t.UTC().Format(time.RFC3339) }
func clock(t time.Time) string    { return t.UTC().Format("15:04") }
func absolute(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05 MST") }

// visible makes the characters that could hide or reorder text seen. Newline
// and tab stay. It is the first step of everything that an agent wrote.
func visible(s string) string {
	if !strings.ContainsFunc(s, sneaky) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n") {
		switch {
		case !sneaky(r):
			b.WriteRune(r)
		case r < 0x20:
			b.WriteRune(0x2400 + r)
		case r == 0x7f:
			b.WriteRune(0x2421)
		default:
			fmt.Fprintf(&b, "\u27e8U+%04X\u27e9", r)
		}
	}
	return b.String()
}

// sneaky is a control character, or one that changes direction or takes no
// room (except the joiners that emoji and scripts need).
func sneaky(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < 0x20 || r >= 0x7f && r <= 0x9f:
		return true
	case r == 0x200b || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0x061c || r == 0x00ad:
		return true
	case r == 0x200e || r == 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2069:
		return true
	}
	return r >= 0xe0000 && r <= 0xe007f
}

// line is the first line of a text, cut at max characters.
func line(s string, limit int) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = visible(strings.TrimSpace(s))
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Outdated tells which version is the newest that a node runs, and which nodes
// run an older one. Versions that are no numbers are not compared.
func Outdated(nodes []Node) (newest string, old []string) {
	for _, n := range nodes {
		if numbers(n.Version) != nil && (newest == "" || CompareVersions(n.Version, newest) > 0) {
			newest = n.Version
		}
	}
	for _, n := range nodes {
		if numbers(n.Version) != nil && CompareVersions(n.Version, newest) < 0 {
			old = append(old, n.Name)
		}
	}
	slices.Sort(old)
	return newest, old
}

// CompareVersions orders "0.3.0" before "v0.4.0-rc1" before "0.4.0". Versions
// that are no numbers are equal to all others.
func CompareVersions(a, b string) int {
	x, y := numbers(a), numbers(b)
	if x == nil || y == nil {
		return 0
	}
	for len(x) < len(y) {
		x = append(x, 0)
	}
	for len(y) < len(x) {
		y = append(y, 0)
	}
	return cmp.Or(slices.Compare(x, y), cmp.Compare(early(b), early(a)))
}

// numbers are the parts of a version before its first - or +.
func numbers(version string) []int {
	text, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "+")
	text, _, _ = strings.Cut(text, "-")
	var out []int
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil
		}
		out = append(out, n)
	}
	return out
}

// early is 1 for what comes before the release of the same number.
func early(version string) int {
	text, _, _ := strings.Cut(version, "+")
	if strings.Contains(text, "-") {
		return 1
	}
	return 0
}

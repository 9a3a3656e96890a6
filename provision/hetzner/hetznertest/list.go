package hetznertest

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	usualPage = 25
	fullPage  = 50
)

type pagination struct {
	Page         int  `json:"page"`
	PerPage      int  `json:"per_page"`
	PreviousPage *int `json:"previous_page"`
	NextPage     *int `json:"next_page"`
	LastPage     *int `json:"last_page"`
	TotalEntries *int `json:"total_entries"`
}

// listed is one page of a list under its name.
func listed[T any](name string, all []T, q url.Values) answer {
	page, err1 := strconv.Atoi(cmp.Or(q.Get("page"), "1"))
	per, err2 := strconv.Atoi(cmp.Or(q.Get("per_page"), strconv.Itoa(usualPage)))
	if err1 != nil || err2 != nil || page < 1 || per < 1 {
		return invalid("page")
	}
	per = min(per, fullPage)
	total := len(all)
	last := max(1, (total+per-1)/per)
	p := pagination{Page: page, PerPage: per, LastPage: &last, TotalEntries: &total}
	if page > 1 {
		p.PreviousPage = new(page - 1)
	}
	if page < last {
		p.NextPage = new(page + 1)
	}
	from := min((page-1)*per, total)
	some := append([]T{}, all[from:min(from+per, total)]...)
	return answer{status: 200, body: map[string]any{name: some, "meta": map[string]any{"pagination": p}}}
}

// selects is whether labels match a selector: k, !k, k=v, k==v, k!=v,
// k in (a,b), k notin (a,b), with commas between.
func selects(selector string, labels map[string]string) bool {
	for _, term := range terms(selector) {
		if !matches(term, labels) {
			return false
		}
	}
	return true
}

// terms splits at the commas outside of parentheses.
func terms(s string) (all []string) {
	depth := 0
	split := strings.FieldsFunc(s, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth == 0
	})
	for _, t := range split {
		all = append(all, strings.TrimSpace(t))
	}
	return all
}

func matches(term string, labels map[string]string) bool {
	for _, op := range []string{" notin ", " in ", "!=", "==", "="} {
		key, rest, found := strings.Cut(term, op)
		if !found {
			continue
		}
		value, has := labels[strings.TrimSpace(key)]
		rest = strings.TrimSpace(rest)
		switch op {
		case " in ":
			return has && slices.Contains(set(rest), value)
		case " notin ":
			return !has || !slices.Contains(set(rest), value)
		case "!=":
			return !has || value != rest
		}
		return has && value == rest
	}
	if key, not := strings.CutPrefix(term, "!"); not {
		_, has := labels[strings.TrimSpace(key)]
		return !has
	}
	_, has := labels[term]
	return has
}

func set(s string) []string {
	all := strings.Split(strings.Trim(s, "()"), ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// labelFlaw is the first label that the API does not take.
func labelFlaw(labels map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if v := labels[k]; k == "" || !labelText(k) || !labelText(v) {
			return k
		}
	}
	return ""
}

func labelText(s string) bool {
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || i == len(s)-1 || !strings.ContainsRune("-_./", r)) {
			return false
		}
	}
	return len(s) <= 63
}

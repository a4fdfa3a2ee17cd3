package registry

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Table returns what storage ls prints, as SkyPilot's does: columns as wide as
// their widest cell, two spaces between them, none at the end of a line.
func Table(records []Record, now time.Time) string { return Wide(records, nil, now) }

// More is what a wide table has behind each record: generation, size, workers
// and lag, for people.
type More [4]string

// Wide returns Table with more columns. No more at all is Table.
func Wide(records []Record, more []More, now time.Time) string {
	if len(records) == 0 {
		return "No existing storage.\n"
	}
	rows := [][]string{{"NAME", "CREATED", "STORE", "COMMAND", "STATUS"}}
	for _, rec := range records {
		rows = append(rows, []string{clean(rec.Name), Ago(now.Sub(rec.Created)), strings.ToUpper(string(rec.Store)), clean(rec.Command), string(rec.State)})
	}
	if len(more) > 0 {
		rows[0] = append(rows[0], "GENERATION", "SIZE", "WORKERS", "LAG")
	}
	for i, m := range more {
		rows[i+1] = append(rows[i+1], m[:]...)
	}
	return align(rows)
}

// clean keeps a cell on its line.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s)
}

func align(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// Ago says how long ago something was, in SkyPilot's words.
func Ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 10*time.Second: // a clock that went back, too
		return "a few secs ago"
	case d < time.Minute:
		return count(int(d/time.Second), "sec")
	case d < time.Hour:
		return count(int(d/time.Minute), "min")
	case d < 22*time.Hour:
		return count(int(d/time.Hour), "hr")
	case d < 7*day:
		return count(int((d+2*time.Hour)/day), "day")
	case d < 27*day:
		return count(int((d+3*day)/(7*day)), "week")
	case d < 345*day:
		return count(max(1, int((d+3*day)/(30*day))), "month")
	}
	return count(max(1, int((d+182*day)/(365*day))), "year")
}

func count(n int, unit string) string {
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s ago", n, unit)
}

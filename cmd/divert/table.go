package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is how a piece of text stands out on a terminal.
type style int

const (
	plain style = iota
	bold
	dim
	good
	warn
	bad
)

func (s style) code() string {
	switch s {
	case bold:
		return "1"
	case dim:
		return "2"
	case good:
		return "32"
	case warn:
		return "33"
	case bad:
		return "31"
	default:
		return ""
	}
}

// page collects lines for a terminal, or for a file.
type page struct {
	b      strings.Builder
	width  int // 0 = do not wrap
	colour bool
}

func (p *page) paint(s style, text string) string {
	if code := s.code(); p.colour && code != "" && text != "" {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// line writes one line as it is.
func (p *page) line(text string) { p.b.WriteString(strings.TrimRight(text, " ") + "\n") }

// wrapped writes text behind an indent and a mark, wrapped under its own
// beginning.
func (p *page) wrapped(indent int, mark string, s style, text string) {
	hang := indent + utf8.RuneCountInString(mark)
	for i, piece := range wrap(clean(text), p.width-hang) {
		lead := strings.Repeat(" ", hang)
		if i == 0 {
			lead = strings.Repeat(" ", indent) + mark
		}
		p.line(p.paint(s, lead+piece))
	}
}

// wrap breaks text at spaces into pieces of at most width columns; a word that
// is longer stands alone. A width of less than 20 does not wrap.
func wrap(text string, width int) []string {
	if width < 20 {
		return []string{text}
	}
	var out []string
	line, have := "", 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		if have > 0 && have+1+n > width {
			out = append(out, line)
			line, have = "", 0
		}
		if have > 0 {
			line, have = line+" ", have+1
		}
		line, have = line+word, have+n
	}
	return append(out, line)
}

// clean keeps control characters, which a reason or a name may bring, off the
// terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

func text(s string) cell { return cell{text: clean(s)} }

// row is one line of a table and the remarks below it.
type row struct {
	above   string // a line that begins a part of the table; "" = none
	cells   []cell
	remarks []cell
}

// table writes columns as wide as their widest cell, two spaces apart, an empty
// cell as a dash. The last one goes on below itself where the page is too narrow.
func (p *page) table(indent int, header []string, rows []row) {
	widths := make([]int, len(header))
	for i, h := range header {
		widths[i] = utf8.RuneCountInString(h)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r.cells[i].text))
		}
	}
	head := make([]cell, len(header))
	for i, h := range header {
		head[i] = cell{h, dim}
	}
	p.cells(indent, widths, head)
	for _, r := range rows {
		if r.above != "" {
			p.wrapped(indent-2, "", plain, r.above)
		}
		p.cells(indent, widths, r.cells)
		for _, remark := range r.remarks {
			p.wrapped(indent+2, "", remark.style, remark.text)
		}
	}
}

func (p *page) cells(indent int, widths []int, cells []cell) {
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", indent))
	hang := indent
	for i, c := range cells {
		if c.text == "" {
			c = cell{"-", dim}
		}
		if i == len(cells)-1 {
			lines := []string{c.text}
			if hang+utf8.RuneCountInString(c.text) > p.width {
				lines = wrap(c.text, p.width-hang)
			}
			p.line(b.String() + p.paint(c.style, lines[0]))
			for _, line := range lines[1:] {
				p.line(strings.Repeat(" ", hang) + p.paint(c.style, line))
			}
			return
		}
		b.WriteString(p.paint(c.style, c.text) + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
		hang += widths[i] + 2
	}
}

// heading starts a section.
func (p *page) heading(title string) {
	p.line("")
	p.line(p.paint(bold, title))
}

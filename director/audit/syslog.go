package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/divertdns/divert/director/plan"
)

// Format is how a record stands in a syslog message.
type Format int

// The formats.
const (
	FormatUnknown Format = iota
	FormatJSON
	FormatCEF
)

// String is the format's name in settings.
func (f Format) String() string { return [...]string{"unknown", "json", "cef"}[f] }

// ParseFormat reads a name; "" is JSON.
func ParseFormat(s string) (Format, bool) {
	switch s {
	case "", "json":
		return FormatJSON, true
	case "cef":
		return FormatCEF, true
	}
	return FormatUnknown, false
}

const (
	// facility is RFC 5424's "log audit"; what was forced, or done by break-glass, is a warning, all else a notice.
	facility        = 13
	warning, notice = 4, 5
	// maxText bounds each of a record's texts in a message, in octets, so that one fits a
	// datagram in either format, whatever is escaped.
	maxText = 1024
	// MaxSyslog bounds a message, in octets.
	MaxSyslog = 48 << 10
)

// syslogRecord is a record as JSON.
type syslogRecord struct {
	Revision uint64    `json:"revision"`
	Record   int64     `json:"record"` // its place in the sealed log
	Fleet    string    `json:"fleet"`
	At       time.Time `json:"at"`
	Who      string    `json:"who"`
	Via      string    `json:"via"`
	What     string    `json:"what"`
	Why      string    `json:"why,omitempty"`
	Command  string    `json:"command,omitempty"`
	Forced   bool      `json:"forced,omitempty"`
	Approver string    `json:"approver,omitempty"`
	Glass    bool      `json:"breakGlass,omitempty"`
	Plan     string    `json:"plan"`
}

// Syslog writes a record as one message of RFC 5424, from a director.
func Syslog(f Format, a *plan.Audit, record int64, fleet, director, version string) []byte {
	severity := notice
	if a.GetForced() || broken(a) {
		severity = warning
	}
	at := a.GetAt().AsTime().UTC()
	out := fmt.Appendf(nil, "<%d>1 %s %s divert - audit - ", facility*8+severity, at.Format("2006-01-02T15:04:05.000000Z"), token(director))
	if f == FormatCEF {
		return append(out, cef(a, record, fleet, version, at, severity)...)
	}
	raw, err := json.Marshal(syslogRecord{
		Revision: a.GetRevision(), Record: record, Fleet: short(fleet), At: at, Who: short(a.GetWho()), Via: short(a.GetVia()), What: short(a.GetWhat()), Why: short(a.GetWhy()),
		Command: short(a.GetCommand()), Forced: a.GetForced(), Approver: short(a.GetApprover()), Glass: broken(a), Plan: hex.EncodeToString(a.GetPlan()),
	})
	if err != nil {
		raw = []byte("{}") // a year past 9999; all else encodes
	}
	return append(out, raw...)
}

// cef is ArcSight's Common Event Format, version 0.
func cef(a *plan.Audit, record int64, fleet, version string, at time.Time, severity int) string {
	level := "3"
	if severity == warning {
		level = "7"
	}
	var b strings.Builder
	for _, field := range []string{"CEF:0", "Divert", "divert", version, "audit"} {
		b.WriteString(header(field) + "|")
	}
	what := short(a.GetWhat())
	b.WriteString(header(what) + "|" + level + "|")
	fmt.Fprintf(&b, "externalId=%d rt=%d suser=%s dvchost=%s msg=%s", a.GetRevision(), at.UnixMilli(), extension(short(a.GetWho())), extension(short(a.GetVia())), extension(what))
	if why := a.GetWhy(); why != "" {
		b.WriteString(" reason=" + extension(short(why)))
	}
	fmt.Fprintf(&b, " cn1Label=record cn1=%d cs1Label=plan cs1=%x cs2Label=fleet cs2=%s", record, a.GetPlan(), extension(short(fleet)))
	if id := a.GetCommand(); id != "" {
		b.WriteString(" cs3Label=command cs3=" + extension(short(id)))
	}
	if a.GetForced() {
		b.WriteString(" cs4Label=forced cs4=true")
	}
	if who := a.GetApprover(); who != "" {
		b.WriteString(" cs5Label=approver cs5=" + extension(short(who)))
	}
	if broken(a) {
		b.WriteString(" cs6Label=breakGlass cs6=true")
	}
	return b.String()
}

// broken tells whether somebody broke the glass: no second person, or against the policy.
func broken(a *plan.Audit) bool { return a.GetBreakGlass() || len(a.GetPassed()) > 0 }

// short cuts a text, between runes, and takes out what is no text.
func short(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// header escapes a field of CEF's header, extension a value of its extension: neither can
// end its field or the message.
func header(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "\n", " ", "\r", " ", "\x00", " ").Replace(s)
}

func extension(s string) string {
	return strings.NewReplacer(`\`, `\\`, "=", `\=`, "\n", `\n`, "\r", `\r`, "\x00", " ").Replace(s)
}

// token is a name as RFC 5424's header takes one.
func token(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), 255)]
}

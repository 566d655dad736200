package audit

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/divertdns/divert/director/plan"
)

// TestSyslog: a record in either format, and what people write cannot end its field.
func TestSyslog(t *testing.T) {
	a := recordOf(7, 6, 1)
	a.Plan = []byte{0xab, 0xcd}
	sly := recordOf(7, 6, 1)
	sly.Plan, sly.Who, sly.What, sly.Why, sly.Forced = nil, "ann suser=root", "drain|10|\nCEF:0|x", "a\\=b\r\nc=d", true
	two := recordOf(7, 6, 1)
	two.Plan, two.Approver, two.BreakGlass = []byte{1}, "cert:bob=x", true
	passed := recordOf(7, 6, 1)
	passed.Plan, passed.Passed = []byte{1}, []string{"freeze"}
	for _, tc := range []struct {
		name   string
		format Format
		record *plan.Audit
		want   string
	}{
		{"json", FormatJSON, a, `<109>1 2026-03-09T12:07:00.000000Z d1 divert - audit - {"revision":7,"record":6,"fleet":"f1","at":"2026-03-09T12:07:00Z","who":"ann","via":"d1","what":"drain cluster/c7 for 1h","why":"INC-1","command":"id-7","plan":"abcd"}`},
		{"cef", FormatCEF, a, `<109>1 2026-03-09T12:07:00.000000Z d1 divert - audit - CEF:0|Divert|divert|1.0|audit|drain cluster/c7 for 1h|3|externalId=7 rt=1773058020000 suser=ann dvchost=d1 msg=drain cluster/c7 for 1h reason=INC-1 cn1Label=record cn1=6 cs1Label=plan cs1=abcd cs2Label=fleet cs2=f1 cs3Label=command cs3=id-7`},
		{"sly", FormatCEF, sly, `<108>1 2026-03-09T12:07:00.000000Z d1 divert - audit - CEF:0|Divert|divert|1.0|audit|drain\|10\| CEF:0\|x|7|externalId=7 rt=1773058020000 suser=ann suser\=root dvchost=d1 msg=drain|10|\nCEF:0|x reason=a\\\=b\r\nc\=d cn1Label=record cn1=6 cs1Label=plan cs1= cs2Label=fleet cs2=f1 cs3Label=command cs3=id-7 cs4Label=forced cs4=true`},
		{"two persons", FormatCEF, two, `<108>1 2026-03-09T12:07:00.000000Z d1 divert - audit - CEF:0|Divert|divert|1.0|audit|drain cluster/c7 for 1h|7|externalId=7 rt=1773058020000 suser=ann dvchost=d1 msg=drain cluster/c7 for 1h reason=INC-1 cn1Label=record cn1=6 cs1Label=plan cs1=01 cs2Label=fleet cs2=f1 cs3Label=command cs3=id-7 cs5Label=approver cs5=cert:bob\=x cs6Label=breakGlass cs6=true`},
		{"past the policy", FormatJSON, passed, `<108>1 2026-03-09T12:07:00.000000Z d1 divert - audit - {"revision":7,"record":6,"fleet":"f1","at":"2026-03-09T12:07:00Z","who":"ann","via":"d1","what":"drain cluster/c7 for 1h","why":"INC-1","command":"id-7","breakGlass":true,"plan":"01"}`},
	} {
		if got := string(Syslog(tc.format, tc.record, 6, "f1", "d1", "1.0")); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
	if got := string(Syslog(FormatJSON, a, 6, "f1", "a b\n", "1.0")); !strings.Contains(got, " a_b_ divert ") {
		t.Errorf("a name with a space: %s", got)
	}
	for s, want := range map[string]Format{"": FormatJSON, "json": FormatJSON, "cef": FormatCEF, "leef": FormatUnknown} {
		if got, ok := ParseFormat(s); got != want || ok != (want != FormatUnknown) {
			t.Errorf("%q: got %s, %t", s, got, ok)
		}
	}
}

// FuzzSyslog: whatever a record says, a message is one line, bounded, and its JSON is
// read again.
func FuzzSyslog(f *testing.F) {
	f.Add("ann", "drain cluster/fra", "INC-1", true)
	f.Add("a\x00b", strings.Repeat("\u2028=|\\", 2000), "\xff\xfe", false)
	f.Fuzz(func(t *testing.T, who, what, why string, forced bool) {
		a := &plan.Audit{Revision: 1, Who: who, What: what, Why: why, Forced: forced, Via: who, Command: what, Approver: why}
		for _, format := range []Format{FormatJSON, FormatCEF} {
			got := string(Syslog(format, a, 0, what, who, "1.0"))
			if len(got) > MaxSyslog || strings.ContainsAny(got, "\n\r\x00") {
				t.Errorf("%s: %d octets, %q", format, len(got), got)
			}
			if _, body, ok := strings.Cut(got, " divert - audit - "); format == FormatJSON && (!ok || json.Unmarshal([]byte(body), &syslogRecord{}) != nil) {
				t.Errorf("it is no JSON: %q", got)
			}
		}
	})
}

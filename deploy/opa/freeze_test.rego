package divert.freeze_test

import data.divert.admission
import data.divert.drain

rules := {
	"freeze": {
		"windows": [{"name": "peak season", "from": "2026-11-20T00:00:00Z", "to": "2026-12-02T00:00:00Z"}],
		"weekly": [{"name": "the weekend", "days": ["Saturday", "Sunday"], "from": "08:00", "to": "24:00", "zone": "Europe/Berlin"}],
		"verbs": ["drain", "apply"],
		"except": ["unix:root"],
	},
	"drainers": {},
	"minimum": {"sites": 0, "services": {}},
	"residency": {"service_label": "residency", "cluster_label": "jurisdiction"},
}

denied(verb, author, at) := [d.msg |
	some d in drain.deny with data.rules as rules with input as asked(verb, author, at)
]

asked(verb, author, at) := {
	"command": {"verb": verb}, "author": author, "roles": [], "sites": [],
	"now": time.parse_rfc3339_ns(at), "preview": {}, "spec": {"before": {}},
}

test_before_the_window if denied("drain", "unix:alice", "2026-11-19T23:59:59Z") == []

test_from_its_first_instant if {
	denied("drain", "unix:alice", "2026-11-20T00:00:00Z") == ["drain is frozen by peak season, until 2026-12-02T00:00:00Z"]
}

test_at_its_end if denied("drain", "unix:alice", "2026-12-02T00:00:00Z") == []

test_an_exception if denied("drain", "unix:root", "2026-11-25T12:00:00Z") == []

test_a_verb_that_is_not_frozen if denied("undrain", "unix:alice", "2026-11-25T12:00:00Z") == []

# 06:59:59 UTC is 08:59:59 in Berlin in summer: the zone counts, not the machine's.
test_weekly_in_its_zone if {
	denied("drain", "unix:alice", "2026-07-04T06:00:00Z") == ["drain is frozen by the weekend, until 24:00 (Europe/Berlin)"]
	denied("drain", "unix:alice", "2026-07-04T05:59:59Z") == []
	denied("drain", "unix:alice", "2026-07-05T21:59:59Z") != []
	denied("drain", "unix:alice", "2026-07-05T22:00:00Z") == []
}

test_a_spec_too if {
	some d in admission.deny with data.rules as rules with input as asked("apply", "unix:alice", "2026-11-25T12:00:00Z")
	d.msg == "apply is frozen by peak season, until 2026-12-02T00:00:00Z"
}

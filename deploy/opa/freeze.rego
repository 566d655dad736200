# Windows in which nobody changes anything.
#
#   "windows": [{"name": "peak season", "from": "2026-11-20T00:00:00Z", "to": "2026-12-02T00:00:00Z"}]
#   "weekly":  [{"name": "the weekend", "days": ["Saturday", "Sunday"], "from": "00:00", "to": "24:00", "zone": "Europe/Berlin"}]
#
# A weekly window lies within one day; its zone is UTC where none is given. Who is in
# "except" may change all the same.
package divert.freeze

denials contains {
	"msg": sprintf("%s is frozen by %s, until %s", [input.command.verb, w.name, w.until]),
	"remedy": "wait until then; in an emergency, --break-glass passes this and is recorded",
} if {
	input.command.verb in data.rules.freeze.verbs
	not input.author in data.rules.freeze.except
	some w in active
}

active contains {"name": w.name, "until": w.to} if {
	some w in data.rules.freeze.windows
	input.now >= time.parse_rfc3339_ns(w.from)
	input.now < time.parse_rfc3339_ns(w.to)
}

active contains {"name": w.name, "until": sprintf("%s (%s)", [w.to, zone])} if {
	some w in data.rules.freeze.weekly
	zone := object.get(w, "zone", "UTC")
	time.weekday([input.now, zone]) in w.days
	[hour, minute, _] := time.clock([input.now, zone])
	at := (hour * 60) + minute
	at >= minutes(w.from)
	at < minutes(w.to)
}

minutes(text) := (to_number(hour) * 60) + to_number(minute) if [hour, minute] := split(text, ":")

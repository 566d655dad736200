# How many sites a service has at least: healthy ones that a drain leaves, and clusters
# that an apply leaves it.
#
#   "minimum": {"sites": 1, "services": {"shop": 2}}
package divert.minimum

drained contains {
	"msg": sprintf("it would leave %s %d healthy sites, and at least %d are wanted", [e.service, e.healthy, wanted(e.service)]),
	"remedy": "drain less, or bring another site back first",
} if {
	input.command.verb == "drain"
	some e in input.preview.effects
	e.healthy < wanted(e.service)
}

# What had too few before is not held against who leaves it as it is.
applied contains {
	"msg": sprintf("%s would have %d clusters, and at least %d are wanted", [name, sites(input.spec.after, name), wanted(name)]),
	"remedy": "give it endpoints in more clusters",
} if {
	some name, _ in input.spec.after.GlobalService
	sites(input.spec.after, name) < wanted(name)
	not as_before(name)
}

as_before(name) if {
	input.spec.before.GlobalService[name]
	sites(input.spec.before, name) <= sites(input.spec.after, name)
}

sites(spec, name) := count({e.cluster |
	some e in spec.GlobalService[name].spec.endpoints
	object.get(e, "weight", 100) != 0
})

wanted(name) := object.get(data.rules.minimum.services, name, data.rules.minimum.sites)

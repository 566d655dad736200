# Who may drain what, and end a drain.
#
#   "drainers": {"cluster/fra": ["unix:alice", "group:unix:fra", "role:admin"], "*": ["role:operator"]}
#
# A key is a cluster, as cluster/NAME, a fault domain, as domain/NAME, a service, as
# service/NAME, or * for what no other key names. What no key names may be drained by all
# whom the director lets drain. A drain is looked at by all sites that it covers: one of
# domain/fra-dc1 takes the right to each of its clusters.
package divert.drainers

denials contains {
	"msg": sprintf("%s may not %s %s", [input.author, input.command.verb, scope]),
	"remedy": sprintf("ask one of %s", [concat(", ", sort(data.rules.drainers[scope]))]),
} if {
	some site in input.sites
	some scope in guarding(site)
	not entitled(data.rules.drainers[scope])
}

# The keys that a site falls under; * only where there is no other.
guarding(site) := keys if {
	keys := named(site)
	count(keys) > 0
} else := {"*"} if {
	data.rules.drainers["*"]
} else := set()

named(site) := {key |
	some key in [sprintf("cluster/%s", [site.cluster]), sprintf("domain/%s", [site.faultDomain]), sprintf("service/%s", [site.service])]
	data.rules.drainers[key]
}

entitled(list) if input.author in list

entitled(list) if {
	some group in input.groups
	group in list
}

entitled(list) if {
	some role in input.roles
	sprintf("role:%s", [role]) in list
}

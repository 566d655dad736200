package divert.drainers_test

import data.divert.drainers

list := {"cluster/fra": ["unix:alice", "role:admin"], "domain/us-east": ["unix:bob"], "*": ["role:operator"]}

site(cluster, domain) := {"service": "shop", "cluster": cluster, "faultDomain": domain}

denied(author, roles, sites) := {d.msg |
	some d in drainers.denials with data.rules.drainers as list
		with input as {"command": {"verb": "drain"}, "author": author, "roles": roles, "sites": sites}
}

test_by_name if denied("unix:alice", [], [site("fra", "fra-dc1")]) == set()

test_by_role if denied("unix:carol", ["admin"], [site("fra", "fra-dc1")]) == set()

test_by_group if {
	count(drainers.denials) == 0 with data.rules.drainers as {"cluster/fra": ["group:unix:fra"]}
		with input as {"command": {"verb": "drain"}, "author": "unix:bob", "roles": [], "groups": ["group:unix:fra"], "sites": [site("fra", "fra-dc1")]}
}

test_not_another if denied("unix:bob", ["operator"], [site("fra", "fra-dc1")]) == {"unix:bob may not drain cluster/fra"}

test_by_domain if {
	denied("unix:bob", [], [site("nyc", "us-east")]) == set()
	denied("unix:alice", [], [site("nyc", "us-east")]) == {"unix:alice may not drain domain/us-east"}
}

test_the_rest if {
	denied("unix:carol", ["operator"], [site("sin", "sin")]) == set()
	denied("unix:carol", ["viewer"], [site("sin", "sin")]) == {"unix:carol may not drain *"}
}

test_each_site_counts if {
	denied("unix:alice", [], [site("fra", "fra-dc1"), site("nyc", "us-east")]) == {"unix:alice may not drain domain/us-east"}
}

test_nobody_is_listed if {
	count(drainers.denials) == 0 with data.rules.drainers as {}
		with input as {"command": {"verb": "drain"}, "author": "unix:bob", "roles": [], "sites": [site("fra", "fra-dc1")]}
}

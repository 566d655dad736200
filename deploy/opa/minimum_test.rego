package divert.minimum_test

import data.divert.minimum

wanted := {"sites": 1, "services": {"shop": 2}}

drained(verb, effects) := {d.msg |
	some d in minimum.drained with data.rules.minimum as wanted
		with input as {"command": {"verb": verb}, "preview": {"effects": effects}}
}

test_enough if drained("drain", [{"service": "shop", "healthy": 2}, {"service": "pay", "healthy": 1}]) == set()

test_too_few if {
	drained("drain", [{"service": "shop", "healthy": 1}]) == {"it would leave shop 1 healthy sites, and at least 2 are wanted"}
	drained("drain", [{"service": "pay", "healthy": 0}]) != set()
}

test_the_end_of_a_drain_is_never_too_little if drained("undrain", [{"service": "shop", "healthy": 1}]) == set()

shop(endpoints) := {"GlobalService": {"shop": {"spec": {"endpoints": endpoints}}}}

applied(before, after) := {d.msg |
	some d in minimum.applied with data.rules.minimum as wanted
		with input as {"command": {"verb": "apply"}, "spec": {"before": before, "after": after}}
}

two := [{"cluster": "fra"}, {"cluster": "nyc"}]

test_apply_that_takes_one_away if {
	applied(shop(two), shop([{"cluster": "fra"}])) == {"shop would have 1 clusters, and at least 2 are wanted"}
	applied(shop(two), shop([{"cluster": "fra"}, {"cluster": "nyc", "weight": 0}])) != set()
}

test_apply_that_leaves_it if applied(shop([{"cluster": "fra"}]), shop([{"cluster": "fra"}])) == set()

test_a_new_service if applied({}, shop([{"cluster": "fra"}])) != set()

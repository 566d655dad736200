package divert.residency_test

import data.divert.residency

# No jurisdiction is called so in data.json, whatever that says: what stands `with` is merged
# into it.

clusters := {
	"fra": {"metadata": {"labels": {"jurisdiction": "home"}}},
	"nyc": {"metadata": {"labels": {"jurisdiction": "abroad"}}},
	"sin": {"metadata": {}},
}

spec(labels, names) := {"Cluster": clusters, "GlobalService": {"shop": {
	"metadata": {"labels": labels},
	"spec": {"endpoints": [{"cluster": name} | some name in names]},
}}}

denied(before, after) := {d.msg |
	some d in residency.denials with data.rules.residency.service_label as "residency"
		with data.rules.residency.cluster_label as "jurisdiction"
		with input as {"spec": {"before": before, "after": after}}
}

test_at_home if denied({}, spec({"residency": "home"}, ["fra"])) == set()

test_abroad if {
	denied({}, spec({"residency": "home"}, ["fra", "nyc"])) == {"shop must stay in home, and nyc is not there"}
}

test_a_cluster_that_does_not_say if denied({}, spec({"residency": "home"}, ["sin"])) == {"shop must stay in home, and sin is not there"}

test_no_label if denied({}, spec({}, ["fra", "nyc"])) == set()

test_what_was_so_before if {
	denied(spec({"residency": "home"}, ["nyc"]), spec({"residency": "home"}, ["fra", "nyc"])) == set()
}

test_a_cluster_that_loses_its_label if {
	moved := object.union(clusters, {"fra": {"metadata": {"labels": {"jurisdiction": "elsewhere"}}}})
	after := object.union(spec({"residency": "home"}, ["fra"]), {"Cluster": moved})
	denied(spec({"residency": "home"}, ["fra"]), after) == {"shop must stay in home, and fra is not there"}
}

said(spec) := {s |
	some s in residency.sets with data.rules.residency.service_label as "residency"
		with data.rules.residency.cluster_label as "jurisdiction"
		with input as {"spec": spec}
}

test_labelled_services_stay if {
	said(spec({"residency": "home"}, ["fra", "nyc"])) == {{
		"service": "shop", "clients": "everybody", "clusters": {"jurisdiction": "home"}, "why": "residency: home",
	}}
}

test_others_go_anywhere if said(spec({}, ["fra", "nyc"])) == set()

test_clients_of_a_place if {
	sets := said(spec({}, ["fra", "nyc"])) with data.rules.residency.clients as {"home": {"continents": ["EU"]}, "jp": {"countries": ["JP"]}}
	sets == {{
		"services": {"shop"}, "clients": {"continents": ["EU"]}, "clusters": {"jurisdiction": "home"}, "why": "clients of home",
	}}
}

test_clients_of_a_place_where_a_service_has_no_cluster if {
	sets := said(spec({}, ["nyc"])) with data.rules.residency.clients as {"home": {"continents": ["EU"]}}
	sets == {{"services": set(), "clients": {"continents": ["EU"]}, "clusters": {"jurisdiction": "home"}, "why": "clients of home"}}
}

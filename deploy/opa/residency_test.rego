package divert.residency_test

import data.divert.residency

clusters := {
	"fra": {"metadata": {"labels": {"jurisdiction": "eu"}}},
	"nyc": {"metadata": {"labels": {"jurisdiction": "us"}}},
	"sin": {"metadata": {}},
}

spec(labels, names) := {"Cluster": clusters, "GlobalService": {"shop": {
	"metadata": {"labels": labels},
	"spec": {"endpoints": [{"cluster": name} | some name in names]},
}}}

denied(before, after) := {d.msg | some d in residency.denials with input as {"spec": {"before": before, "after": after}}}

test_at_home if denied({}, spec({"residency": "eu"}, ["fra"])) == set()

test_abroad if {
	denied({}, spec({"residency": "eu"}, ["fra", "nyc"])) == {"shop must stay in eu, and nyc is not there"}
}

test_a_cluster_that_does_not_say if denied({}, spec({"residency": "eu"}, ["sin"])) == {"shop must stay in eu, and sin is not there"}

test_no_label if denied({}, spec({}, ["fra", "nyc"])) == set()

test_what_was_so_before if {
	denied(spec({"residency": "eu"}, ["nyc"]), spec({"residency": "eu"}, ["fra", "nyc"])) == set()
}

test_a_cluster_that_loses_its_label if {
	moved := object.union(clusters, {"fra": {"metadata": {"labels": {"jurisdiction": "ch"}}}})
	after := object.union(spec({"residency": "eu"}, ["fra"]), {"Cluster": moved})
	denied(spec({"residency": "eu"}, ["fra"]), after) == {"shop must stay in eu, and fra is not there"}
}

said(spec) := {s | some s in residency.sets with input as {"spec": spec}}

test_labelled_services_stay if {
	said(spec({"residency": "eu"}, ["fra", "nyc"])) == {{
		"service": "shop", "clients": "everybody", "clusters": {"jurisdiction": "eu"}, "why": "residency: eu",
	}}
}

test_others_go_anywhere if said(spec({}, ["fra", "nyc"])) == set()

test_clients_of_a_place if {
	sets := said(spec({}, ["fra", "nyc"])) with data.rules.residency.clients as {"eu": {"continents": ["EU"]}, "jp": {"countries": ["JP"]}}
	sets == {{
		"services": {"shop"}, "clients": {"continents": ["EU"]}, "clusters": {"jurisdiction": "eu"}, "why": "clients of eu",
	}}
}

test_clients_of_a_place_where_a_service_has_no_cluster if {
	sets := said(spec({}, ["nyc"])) with data.rules.residency.clients as {"eu": {"continents": ["EU"]}}
	sets == {{"services": set(), "clients": {"continents": ["EU"]}, "clusters": {"jurisdiction": "eu"}, "why": "clients of eu"}}
}

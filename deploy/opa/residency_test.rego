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

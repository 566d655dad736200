# Residency by label: a service that says where its data may be (labels: {residency: eu})
# has endpoints in clusters of that jurisdiction alone (labels: {jurisdiction: eu}).
#
# `denials` is judged when a spec is applied. `sets` is what directors answer by: which
# clusters alone may serve which clients. It is asked of a spec, and of nothing else, when
# the spec or the policy changes, and goes into the plan. It narrows what a service's own
# `residency` allows, and no break-glass passes either.
package divert.residency

denials contains {
	"msg": sprintf("%s must stay in %s, and %s is not there", [v.service, v.wanted, v.cluster]),
	"remedy": sprintf("take %s out of its endpoints, or label it %s: %s if it is there", [v.cluster, data.rules.residency.cluster_label, v.wanted]),
} if {
	some v in strays(input.spec.after)
	not v in strays(input.spec.before)
}

strays(spec) := {{"service": name, "cluster": e.cluster, "wanted": wanted} |
	some name, service in spec.GlobalService
	wanted := service.metadata.labels[data.rules.residency.service_label]
	some e in service.spec.endpoints
	not lies_in(spec, e.cluster, wanted)
}

lies_in(spec, cluster, wanted) if spec.Cluster[cluster].metadata.labels[data.rules.residency.cluster_label] == wanted

# Wherever a service is labelled so, its clients get clusters of that jurisdiction alone: also
# where an endpoint elsewhere was there before the policy.
sets contains {
	"service": name,
	"clients": "everybody",
	"clusters": {data.rules.residency.cluster_label: wanted},
	"why": sprintf("%s: %s", [data.rules.residency.service_label, wanted]),
} if {
	some name, service in input.spec.GlobalService
	wanted := service.metadata.labels[data.rules.residency.service_label]
}

# Clients of some places get clusters of their jurisdiction alone, of every service that has
# such a cluster.
sets contains {
	"services": {name | some name, service in input.spec.GlobalService; served(service, jurisdiction)},
	"clients": clients,
	"clusters": {data.rules.residency.cluster_label: jurisdiction},
	"why": sprintf("clients of %s", [jurisdiction]),
} if {
	some jurisdiction, clients in object.get(data.rules.residency, "clients", {})
	some name, _ in input.spec.Cluster
	lies_in(input.spec, name, jurisdiction)
}

served(service, jurisdiction) if {
	some e in service.spec.endpoints
	lies_in(input.spec, e.cluster, jurisdiction)
}

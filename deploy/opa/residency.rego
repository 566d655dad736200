# Residency by label: a service that says where its data may be (labels: {residency: eu})
# has endpoints in clusters of that jurisdiction alone (labels: {jurisdiction: eu}).
#
# This is judged when a spec is applied. Which clients a cluster may serve is the service's
# own `residency`, which no break-glass passes.
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

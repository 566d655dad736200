# What these rules go by must be there: a rule that looks for data under a mistyped name
# would find nothing to deny.
package divert.complete

denials contains {
	"msg": sprintf("data.json has no rules.%s", [name]),
	"remedy": "take it over from deploy/opa/data.json; an empty one denies nothing",
} if {
	some name in ["freeze.windows", "freeze.weekly", "freeze.verbs", "freeze.except", "drainers", "minimum.sites", "minimum.services", "residency.service_label", "residency.cluster_label"]
	not has(name)
}

has(name) if object.get(data.rules, split(name, "."), null) != null

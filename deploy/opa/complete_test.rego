package divert.complete_test

import data.divert.admission
import data.divert.complete
import data.divert.drain

test_as_shipped if count(complete.denials) == 0

test_a_name_that_is_mistyped if {
	rules := object.union(object.remove(data.rules, ["drainers"]), {"drainer": {}})
	{d.msg | some d in complete.denials} == {"data.json has no rules.drainers"} with data.rules as rules
	some d in drain.deny with data.rules as rules with input as {}
	d.msg == "data.json has no rules.drainers"
	some e in admission.deny with data.rules as rules with input as {}
	e.msg == "data.json has no rules.drainers"
}

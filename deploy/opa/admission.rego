# What a change of the spec is denied for: an apply, a revert, the end of a rollout.
package divert.admission

import data.divert.complete
import data.divert.freeze
import data.divert.minimum
import data.divert.residency

deny contains d if some d in freeze.denials

deny contains d if some d in minimum.applied

deny contains d if some d in residency.denials

deny contains d if some d in complete.denials

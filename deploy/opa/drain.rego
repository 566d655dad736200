# What a drain, and its end, is denied for.
package divert.drain

import data.divert.complete
import data.divert.drainers
import data.divert.freeze
import data.divert.minimum

deny contains d if some d in freeze.denials

deny contains d if some d in drainers.denials

deny contains d if some d in minimum.drained

deny contains d if some d in complete.denials

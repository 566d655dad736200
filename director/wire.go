package director

// The kinds of signed messages between directors. Numbers are never used again
// for something else.
const (
	kindHeartbeat    uint8 = 1  // health.Heartbeat, each 250 ms
	kindBallot       uint8 = 2  // votes, at once and until acknowledged
	kindSummary      uint8 = 3  // transitions in force, to a peer whose digest differs
	kindCertificates uint8 = 4  // proofs that a peer lacks
	kindPlanWant     uint8 = 5  // send me your plan
	kindPlan         uint8 = 6  // a signed plan envelope
	kindChunkWant    uint8 = 7  // hash of a chunk of a spec document
	kindChunk        uint8 = 8  // that chunk
	kindProbeWant    uint8 = 9  // probe now what your spec has at a target
	kindProbeSeen    uint8 = 10 // what came of it; evidence for people, never a vote
	kindLoad         uint8 = 11 // how busy the sites are, as far as its author knows; each 10 s
	kindEmergency    uint8 = 12 // an operator's word while the store is away
	kindEmergencies  uint8 = 13 // which of them a director holds, each 2 s where there are operators
	kindAuditHead    uint8 = 20 // signed head of the sealed audit log, each 10 s and when it is new
	kindAuditWant    uint8 = 23 // send me your sealed records from a place on; 21 and 22 were so without proofs
	kindAuditRecords uint8 = 24 // those records, with proofs that they are under signed heads
	kindKeyRing      uint8 = 30 // fingerprints of the gossip keys that a director holds, each 2 s
	kindEnrol        uint8 = 32 // a director that is not in the roster shows a token
	kindSecrets      uint8 = 33 // to which key a director's secrets are encrypted, and which of them it goes by; each 5 s
	kindKey          uint8 = 31 // the next gossip key, sealed to one process of one director
)

// kinds names the kinds for gossip's metrics.
func kinds() map[uint8]string {
	return map[uint8]string{
		kindHeartbeat: "heartbeat", kindBallot: "ballot", kindSummary: "summary", kindCertificates: "certificates",
		kindPlanWant: "plan_want", kindPlan: "plan", kindChunkWant: "chunk_want", kindChunk: "chunk",
		kindProbeWant: "probe_want", kindProbeSeen: "probe_seen", kindLoad: "load",
		kindEmergency: "emergency", kindEmergencies: "emergencies",
		kindAuditHead: "audit_head", kindAuditWant: "audit_want", kindAuditRecords: "audit_records",
		kindKeyRing: "key_ring", kindKey: "key", kindEnrol: "enrol", kindSecrets: "secrets",
	}
}

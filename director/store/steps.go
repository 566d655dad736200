package store

// Step is an instant of a read or of a write, at which a test may stop the process or
// kill it (F11, F24).
type Step string

// The steps, in the order in which a command comes to them. The audit record has none of
// its own: it is in the plan's transaction.
const (
	BeforeRead   Step = "before the read"
	AfterRead    Step = "after the read"
	BeforeBlobs  Step = "before looking for the spec's blobs"
	BeforeBlob   Step = "before writing a blob"
	AfterBlobs   Step = "after the blobs"
	BeforeCommit Step = "before the transaction is sent"
	Sent         Step = "when the transaction was given to the connection"
	Answered     Step = "when the transaction's answer is there"
	BeforeDelete Step = "before unused blobs are deleted"
	BeforeAck    Step = "before the acknowledgement is written"
	AfterAck     Step = "after the acknowledgement"

	BeforeAuditHead   Step = "before the audit log's head is written"
	AfterAuditHead    Step = "after the audit log's head"
	BeforeAuditDelete Step = "before sealed audit records are deleted"
	AfterAuditDelete  Step = "after sealed audit records were deleted"
)

// Steps lists those of a command; collection has BeforeRead, AfterRead and BeforeDelete,
// that of audit records those of its own.
func Steps() []Step {
	return []Step{BeforeRead, AfterRead, BeforeBlobs, BeforeBlob, AfterBlobs, BeforeCommit, Sent, Answered, BeforeAck, AfterAck}
}

// reached tells a test, if there is one, where a call has come to.
func (s *Store) reached(step Step) {
	if s.at != nil {
		s.at(step)
	}
}

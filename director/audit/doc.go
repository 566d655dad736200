// Package audit owns the log that cannot be altered unnoticed (S15): a Merkle tree
// over the audit records as the store has them, its signed heads, proofs, what
// others have said of theirs, and exports. It is pure and never knows where records
// lie, what time it is, or who is asked.
package audit

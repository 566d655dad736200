// Package access decides who may do what: an identity, what it was granted, and
// Allow, which says no to all else. It never finds out who somebody is
// (director/api does), nor keeps what was granted.
package access

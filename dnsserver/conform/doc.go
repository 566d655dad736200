// Package conform owns the comparison of Divert's answers with those of other
// servers, and with the lists that others test servers by. It has tests only, and
// never says what is right: the RFCs do, and each difference names its section.
package conform

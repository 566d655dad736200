// Package oidc knows people by what an OpenID provider has signed, and logs them in
// there (RFC 8628). It never decides what they may do, and nothing waits for the
// provider but its own refresh and a login.
package oidc

// Package secret owns how what a fleet shares is encrypted to its directors: their
// identities, the ciphertexts, and the vault that holds these. It never decides who may
// read, never keeps a value, and says none in an error.
package secret

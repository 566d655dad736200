// Package keypair owns a certificate and its key in files that others renew: it
// reads them, looks at them again and again, and says which pair is in force. It
// never makes one, and binds no socket.
package keypair

// Package fleet owns what a new fleet is laid out from: its authorities, certificates, keys
// and each site's settings, as folders to copy. It runs nothing and asks nobody.
package fleet

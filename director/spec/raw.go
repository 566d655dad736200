package spec

// Change is one difference between two specs.
type Change struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Path string `json:"path,omitempty"` // "spec.endpoints[1].addresses[0]"; "" where the whole resource comes or goes
	Old  string `json:"old,omitempty"`  // JSON
	New  string `json:"new,omitempty"`  // JSON
}

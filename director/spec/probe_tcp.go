package spec

import "fmt"

func readTCP(c cursor) *TCPProbe {
	t := &TCPProbe{}
	if c.object(fields{
		"port":   func(c cursor) { t.Port = c.port() },
		"send":   nil,
		"expect": nil,
	}) {
		c.portMissing()
	}
	return t
}

func (t *TCPProbe) port() uint16 { return t.Port }

// Definition is the canonical text of what is asked.
func (t *TCPProbe) Definition() string { return fmt.Sprintf("tcp port=%d", t.Port) }

func (t *TCPProbe) String() string { return fmt.Sprintf("tcp :%d", t.Port) }

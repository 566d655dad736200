package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// kind is what the queries of a scenario look like.
type kind int

const (
	plain kind = iota // the header and the question
	edns              // with an OPT record, as resolvers send it
	ecs               // with a client subnet in it
	perf              // as plain, sent by dnsperf
)

var kindNames = [...]string{"plain", "edns", "ecs", dnsperf}

// scenario is one way of asking.
type scenario struct {
	kind    kind
	clients int  // 0 = nobody asks, or each query comes by a port of its own
	ports   bool // it does
	changes bool // the plan changes all the while
}

func (s scenario) idle() bool { return s.clients == 0 && !s.ports }

const eachByItsPort = "ports"

func (s scenario) String() string {
	name := "idle"
	switch {
	case s.ports:
		name = kindNames[s.kind] + "/" + eachByItsPort
	case s.clients > 0:
		name = fmt.Sprintf("%s/%d", kindNames[s.kind], s.clients)
	}
	if s.changes {
		name += "+changes"
	}
	return name
}

// divertOnly tells whether there is nothing to compare: no other has a plan.
func (s scenario) divertOnly() bool { return s.changes || s.idle() }

func parseScenario(text string) (s scenario, err error) {
	wrong := fmt.Errorf("-scenarios: %q is none: write ecs/8, plain/ports, plain/8+changes or idle", text)
	rest, changes := strings.CutSuffix(text, "+changes")
	s.changes = changes
	if rest == "idle" {
		return s, nil
	}
	name, number, _ := strings.Cut(rest, "/")
	for k, known := range kindNames {
		if name == known {
			s.kind = kind(k)
			if s.ports = number == eachByItsPort && s.kind != perf; s.ports {
				return s, nil
			}
			s.clients, err = strconv.Atoi(number)
			if err != nil || s.clients < 1 || s.clients > 64 {
				return s, wrong
			}
			return s, nil
		}
	}
	return s, wrong
}

// templates are the queries for all names, of one kind; the ID, and the octets of
// a client subnet, which end each, are written into copies.
func templates(k kind) [][]byte {
	out := make([][]byte, hosts)
	for i := range out {
		out[i] = query(fullHost(i), k)
	}
	return out
}

func query(name string, k kind) []byte {
	extra := byte(0)
	if k == edns || k == ecs {
		extra = 1
	}
	q := []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, extra}
	for label := range strings.SplitSeq(name, ".") {
		q = append(q, byte(len(label)))
		q = append(q, label...)
	}
	q = append(q, 0, 0, 1, 0, 1) // the root, A, IN
	switch k {
	case edns:
		q = append(q, 0, 0, 41, 1232>>8, 1232&0xff, 0, 0, 0, 0, 0, 0)
	case ecs:
		q = append(q, 0, 0, 41, 1232>>8, 1232&0xff, 0, 0, 0, 0, 0, 11)
		q = append(q, 0, 8, 0, 7, 0, 1, 24, 0, 0, 0, 0) // RFC 7871 section 6: IPv4, /24
	}
	return q
}

// questionEnd is where the question of a template ends.
func questionEnd(q []byte) int {
	at := 12
	for q[at] != 0 {
		at += 1 + int(q[at])
	}
	return at + 5
}

// answers tells whether a reply is one to the query, with an answer in it. Of an
// echo only that it comes back whole is asked.
func answers(reply, template []byte, end int, echo bool) bool {
	if len(reply) < end || string(reply[12:end]) != string(template[12:end]) {
		return false
	}
	if echo {
		return true
	}
	const qr, tc, rcode = 0x80, 0x02, 0x0f
	return reply[2]&(qr|tc) == qr && reply[3]&rcode == 0 && binary.BigEndian.Uint16(reply[6:]) > 0
}

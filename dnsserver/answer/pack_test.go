package answer

import (
	"github.com/miekg/dns"

	"github.com/divertdns/divert/dnsserver/internal/records"
)

// pack gives a record's owner, lower case, and the record ready to be sent.
func pack(rr dns.RR) (owner, record []byte, err error) {
	if owner, err = records.Name(rr.Header().Name); err != nil {
		return nil, nil, err
	}
	list := records.New(1)
	if err := list.Add(records.AppendKey(nil, owner), rr, 0); err != nil {
		return nil, nil, err
	}
	return owner, list.Data(0), nil
}

package answer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	zonetext "github.com/divertdns/divert/dnsserver/zone"
)

// typeData is data of each type that a zone's text may hold, as people write it. More
// than one row of a type are more than one record, each at a name of its own.
var typeData = []struct{ rrtype, data string }{
	{"A", "192.0.2.1"},
	{"A", `\# 4 c0000201`}, // RFC 3597 section 5: a known type by its octets
	{"NS", "ns.example.net."},
	{"MD", "mail.example.net."},
	{"MF", "mail.example.net."},
	{"CNAME", "Target.example.net."},
	{"MB", "box.example.net."},
	{"MG", "group.example.net."},
	{"MR", "renamed.example.net."},
	{"NULL", `\# 3 00ff10`}, // it has no other form
	{"PTR", "host.example.net."},
	{"HINFO", `"CPU type" OS`},
	{"MINFO", "owner.example.net. errors.example.net."},
	{"MX", "10 mail.example.net."},
	{"MX", "0 ."}, // RFC 7505: no mail
	{"TXT", `"a;b" "" "c\"d\\e\009f"`},
	{"TXT", strings.Repeat(`"`+strings.Repeat("x", 255)+`" `, 4) + `"the end"`},
	{"RP", "who.example.net. why.example.net."},
	{"AFSDB", "1 afs.example.net."},
	{"X25", "311061700956"},
	{"ISDN", `"150862028003217" "004"`},
	{"RT", "10 relay.example.net."},
	{"NSAP-PTR", "nsap.example.net."},
	{"SIG", "A 13 3 300 20300101000000 20200101000000 12345 example.org. AwEAAQ=="}, // RFC 3755: data like any other
	{"KEY", "512 3 13 AwEAAQ=="},
	{"PX", "10 map.example.net. x400.example.net."},
	{"GPOS", "-32.6882 116.8652 10.0"},
	{"AAAA", "2001:db8::1"},
	{"AAAA", "::ffff:192.0.2.1"},
	{"LOC", "51 30 12.748 N 0 7 39.611 W 0.00m 1m 10000m 10m"},
	{"NXT", "next.example.org. A MX"},
	{"EID", "e32c6f78163a9348"},
	{"NIMLOC", "32251a030067"},
	{"SRV", "1 2 5060 sip.example.net."},
	{"ATMA", `\# 3 014e31`},
	{"NAPTR", `100 50 "s" "SIP+D2U" "" _sip._udp.example.net.`},
	{"NAPTR", `100 10 "u" "E2U+sip" "!^.*$!sip:info@example.net!" .`},
	{"KX", "10 kx.example.net."},
	{"CERT", "PGP 0 0 AwEAAQ=="},
	{"DNAME", "target.example.net."},
	{"APL", "1:192.0.2.0/24 !2:2001:db8::/32"},
	{"APL", ""}, // RFC 3123 section 4: it may list nothing
	{"DS", "60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A"},
	{"SSHFP", "4 2 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789"},
	{"IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="},
	{"IPSECKEY", "10 3 2 gateway.example.net. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="},
	{"DNSKEY", "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="},
	{"DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="},
	{"TLSA", "3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B97983A1D16E8A410E4561CB106618E971"},
	{"SMIMEA", "3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B97983A1D16E8A410E4561CB106618E971"},
	{"HIP", "2 200100107B1A74DF365639CC39F1D578 AwEAAQ== rvs.example.net."},
	{"NINFO", `"zone status"`},
	{"RKEY", "0 1 13 AwEAAQ=="},
	{"TALINK", "before.example.net. after.example.net."},
	{"CDS", "0 0 0 00"}, // RFC 8078 section 4: remove the DS
	{"CDNSKEY", "0 3 0 AA=="},
	{"OPENPGPKEY", "mQENBFVHm5sBCADnWuwq+MQ1eWrL"},
	{"CSYNC", "66 3 A NS AAAA"},
	{"ZONEMD", "2018031500 1 1 FEBE3D4CE2EC2FFA4BA99D46CD69D6D29711E55217057BEE7EB1A7B641A47BA7FED2DD5B97AE499FAFA4F22C6BD647DE"},
	{"SVCB", "0 alias.example.net."},
	{"SVCB", `1 pool.example.net. mandatory="ipv4hint" alpn="dot" port="853" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1" dohpath="/dns-query{?dns}"`},
	{"HTTPS", `16 . alpn="h2,h3" ech="AAAA" key667="hello\210qoo"`},
	{"SPF", `"v=spf1 -all"`},
	{"UINFO", `"user"`},
	{"UID", "1000"},
	{"GID", "1000"},
	{"UNSPEC", `\# 2 abcd`},
	{"NID", "10 0014:4fff:ff20:ee64"},
	{"L32", "10 192.0.2.1"},
	{"L64", "10 2001:0db8:1140:1000"},
	{"LP", "10 l64.example.net."},
	{"EUI48", "00-00-5e-00-53-2a"},
	{"EUI64", "00-00-5e-ef-10-00-00-2a"},
	{"URI", `10 1 "ftp://ftp.example.net/public"`},
	{"CAA", `0 issue "ca.example.net; account=230123"`},
	{"AVC", `"app-name:x" "app-class:y"`},
	{"AMTRELAY", "10 0 1 203.0.113.15"},
	{"AMTRELAY", "128 0 3 relay.example.net."},
	{"RESINFO", "qnamemin exterr=15-17 infourl=https://example.net/guide"},
	{"TA", "60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A"},
	{"DLV", "60485 13 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A"},
	// RFC 3597 section 5: types that nobody knows, and a known one by its number.
	{"TYPE65280", `\# 4 0a000001`},
	{"TYPE65280", `\# 0`},
	{"TYPE65534", `\# 5 ( 01 02 03 0405 )`},
	{"TYPE38", `\# 2 0000`},
	{"TYPE28", `\# 16 20010db8000000000000000000000001`},
}

// typeRefused is what check says of types that do not belong in a zone's text.
var typeRefused = map[string]struct{ data, want string }{
	"None":       {`\# 0`, "does not belong in a zone"},
	"OPT":        {`\# 0`, "does not belong in a zone"},
	"RRSIG":      {"A 13 3 300 20300101000000 20200101000000 12345 example.org. AwEAAQ==", "signed zones are not yet supported"},
	"NSEC":       {"b.example.org. A RRSIG NSEC", "signed zones are not yet supported"},
	"NSEC3":      {"1 0 0 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A", "signed zones are not yet supported"},
	"NSEC3PARAM": {"1 0 0 -", "signed zones are not yet supported"},
	"NXNAME":     {`\# 0`, "does not belong in a zone"},
	"TKEY":       {`\# 0`, "does not belong in a zone"},
	"TSIG":       {`\# 0`, "does not belong in a zone"},
	"IXFR":       {`\# 0`, "does not belong in a zone"},
	"AXFR":       {`\# 0`, "does not belong in a zone"},
	"MAILB":      {`\# 0`, "does not belong in a zone"},
	"MAILA":      {`\# 0`, "does not belong in a zone"},
	"ANY":        {`\# 0`, "does not belong in a zone"},
	"Reserved":   {`\# 0`, "does not belong in a zone"},
}

// SEMANTICS section 3: every type that the library can parse is served as static
// data, octet for octet, or is refused with the reason.
func TestEveryType(t *testing.T) {
	told := map[string]bool{"SOA": true} // it is in every zone
	var text strings.Builder
	owner := func(i int) string { return fmt.Sprintf("n%d.example.org.", i) }
	for i, row := range typeData {
		told[row.rrtype] = true
		fmt.Fprintf(&text, "%s 300 IN %s %s\n", owner(i), row.rrtype, row.data)
	}
	parsed, problems := zonetext.Parse(zonetext.Source{
		Origin: "example.org", Nameservers: []string{"ns1.example.net"}, Hostmaster: "h@example.org", Serial: 7, Text: text.String(),
	})
	for _, p := range problems {
		if p.Warning && strings.Contains(p.Message, "ZONEMD") {
			continue
		}
		t.Errorf("%v: %v", typeData[max(p.Line-1, 0)], p)
	}
	static, err := Pack("example.org.", parsed.List)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Compile(Options{Zones: []Zone{{Origin: "example.org.", Static: static}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range typeData {
		t.Run(fmt.Sprintf("%s %.20s", row.rrtype, row.data), func(t *testing.T) {
			want := mustRR(fmt.Sprintf("%s 300 IN %s %s", owner(i), row.rrtype, row.data))
			m := new(dns.Msg)
			m.SetQuestion(owner(i), want.Header().Rrtype)
			client := testClient
			client.Transport = TCP
			raw, _ := table.Reply(nil, pack1(t, m), client)
			var got dns.Msg
			if err := got.Unpack(raw); err != nil {
				t.Fatalf("unpacking the reply %x: %v", raw, err)
			}
			found := append(got.Answer, got.Ns...)
			if len(found) != 1 || got.Rcode != 0 {
				t.Fatalf("got\n%v\nwant %v", &got, want)
			}
			// Without an OPT the record's data is the message's end.
			_, record, err := pack(want)
			data := record[recordHead:]
			if err != nil || !strings.HasSuffix(string(raw), string(data)) || be16(raw[len(raw)-len(data)-2:]) != uint16(len(data)) {
				t.Errorf("got\n%x\nwant it to end in %x, %v", raw, data, err)
			}
			if strings.HasPrefix(row.data, `\#`) {
				return
			}
			// Numbers in hexadecimal come back in either case.
			if got, want := found[0].String(), inKeyOrder(want).String(); !strings.EqualFold(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	for _, rrtype := range slices.Sorted(maps.Keys(dns.TypeToString)) {
		name := dns.TypeToString[rrtype]
		refused, ok := typeRefused[name]
		switch {
		case !ok && !told[name]:
			t.Errorf("type %s is neither served nor refused here", name)
		case ok && told[name]:
			t.Errorf("type %s is both served and refused here", name)
		case ok:
			// By name, where a text may have it, and by number (RFC 3597 section 5).
			for _, written := range []string{name, fmt.Sprintf("TYPE%d", rrtype)} {
				if written == "None" || written == "ANY" || written == "Reserved" || written != name && !strings.HasPrefix(refused.data, `\#`) {
					continue
				}
				_, problems := zonetext.Parse(zonetext.Source{
					Origin: "example.org", Nameservers: []string{"ns1.example.net"}, Hostmaster: "h@example.org",
					Text: fmt.Sprintf("a 300 IN %s %s\n", written, refused.data),
				})
				if !zonetext.Failed(problems) || problems[0].Line != 1 || !strings.Contains(problems[0].Message, refused.want) {
					t.Errorf("%s: got %v, want %q", written, problems, refused.want)
				}
			}
		}
	}
}

// RFC 8777 section 4.2.3: with the D bit set, which the library forgets the relay for.
func TestRelayDiscovery(t *testing.T) {
	for text, want := range map[string]string{
		"10 1 1 203.0.113.15": "\x0a\x81\xcb\x00\x71\x0f", "10 1 3 r.example.net.": "\x0a\x83\x01r\x07example\x03net\x00",
		"10 1 0 .": "\x0a\x80", "10 1 2 2001:db8::15": "\x0a\x82\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x15",
	} {
		rr := mustRR("a.example.org. 300 IN AMTRELAY " + text)
		if _, record, err := pack(rr); err != nil || string(record[recordHead:]) != want {
			t.Errorf("%s: got %x, %v, want %x", text, record, err, want)
		}
		if rr.(*dns.AMTRELAY).GatewayType&0x80 == 0 {
			t.Errorf("%s: the record was written to", text)
		}
	}
}

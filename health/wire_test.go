package health

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

func drawSubject(t *rapid.T) Subject {
	s := Subject{Kind: Kind(rapid.IntRange(1, 3).Draw(t, "kind"))}
	port := rapid.Uint16().Draw(t, "port")
	switch rapid.IntRange(0, 2).Draw(t, "family") {
	case 0:
		s.Addr = at4(rapid.IntRange(0, 65535).Draw(t, "v4"), port)
	case 1:
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))
		s.Addr = netipFrom(b, port)
	default:
		s.Addr = netipFrom([16]byte{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 1}, port)
	}
	if s.Kind != KindSignal {
		s.Def = strings.Map(func(r rune) rune { return rune("0123456789abcdef"[r%16]) }, rapid.StringOfN(rapid.Rune(), 16, 16, -1).Draw(t, "def"))
	}
	return s
}

func TestSubjectHasOneForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSubject(t)
		if !s.Valid() {
			t.Skip("not valid")
		}
		got, err := parseSubject(appendSubject(nil, s))
		if err != nil || got != s || subjectHash(got) != subjectHash(s) {
			t.Fatalf("binary form of %s gives %s, %v", s, got, err)
		}
		if got, err := ParseSubject(s.String()); err != nil || got != s {
			t.Fatalf("text of %s gives %s, %v", s, got, err)
		}
	})
	for _, s := range []Subject{{}, {Kind: KindSignal}, {Kind: KindCheck, Addr: site(1)}, {Kind: KindSignal, Addr: site(1), Def: check(1).Def}, {Kind: 9, Addr: site(1)}, {Kind: KindCheck, Addr: site(1), Def: "0123456789ABCDEF"}} {
		if s.Valid() {
			t.Errorf("%+v is valid", s)
		}
	}
}

func TestWireRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var votes []Vote
		var certs []Certificate
		var summary []Standing
		for range rapid.IntRange(0, 20).Draw(t, "size") {
			v := Vote{Subject: drawSubject(t), N: rapid.Uint64Range(1, 1<<40).Draw(t, "n"), To: State(rapid.IntRange(0, 2).Draw(t, "to"))}
			if v.To != Unknown {
				v.Suspicion = uint16(rapid.IntRange(0, maxSuspicion).Draw(t, "suspicion"))
			}
			votes = append(votes, v)
			summary = append(summary, Standing{v.Subject, v.N})
			c := Certificate{Subject: v.Subject, N: v.N, Reason: rapid.SampledFrom([]string{"", "status 503"}).Draw(t, "reason")}
			for range rapid.IntRange(0, 3).Draw(t, "proof") {
				c.Proof = append(c.Proof, rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "ballot"))
			}
			certs = append(certs, c)
		}
		ballot, err := DecodeVotes(EncodeVotes(votes, nil))
		if d := diff(ballot.Votes, votes); d != "" || err != nil || ballot.Cover != nil {
			t.Fatalf("votes: %v %s", err, d)
		}
		cover := &Range{Low: 3, High: rapid.Uint64Min(3).Draw(t, "high")}
		if ballot, err := DecodeVotes(EncodeVotes(votes, cover)); err != nil || *ballot.Cover != *cover {
			t.Fatalf("cover: %v", err)
		}
		got, err := DecodeSummary(EncodeSummary(summary))
		if err != nil || !slices.Equal(got, summary) {
			t.Fatalf("summary: %v", err)
		}
		var back []Certificate
		for _, payload := range EncodeCertificates(certs) {
			some, err := DecodeCertificates(payload)
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, some...)
		}
		if d := diff(back, certs); d != "" {
			t.Fatalf("certificates: %s", d)
		}
	})
	h := Heartbeat{
		Votes: 1, Certificates: 1 << 63, Heard: []Heard{{"d2", 3, 4}, {"d3", 0, 0}}, Plan: "f/1.2/ab", Highest: "f/1.3/cd",
		Wall: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Abstaining: true,
	}
	for _, h := range []Heartbeat{{}, h} {
		got, err := DecodeHeartbeat(EncodeHeartbeat(h))
		if d := diff(got, h); d != "" || err != nil {
			t.Errorf("heartbeat: %v %s", err, d)
		}
	}
}

func TestLargeCertificatesAreSplit(t *testing.T) {
	var certs []Certificate
	for i := range 900 {
		c := Certificate{Subject: Subject{Kind: KindSignal, Addr: at4(i, 443)}, N: 1}
		for j := range 3 {
			ballot := make([]byte, 1400)
			ballot[0], ballot[1], ballot[2] = byte(i), byte(i>>8), byte(j)
			c.Proof = append(c.Proof, ballot)
		}
		certs = append(certs, c)
	}
	total := 0
	for _, payload := range EncodeCertificates(certs) {
		if len(payload) > maxCertsPayload+8<<10 {
			t.Errorf("a message of %d octets", len(payload))
		}
		got, err := DecodeCertificates(payload)
		if err != nil {
			t.Fatal(err)
		}
		total += len(got)
	}
	if total != len(certs) {
		t.Errorf("%d certificates arrive of %d", total, len(certs))
	}
}

func TestUnknownFieldsAreTolerated(t *testing.T) {
	extra := func(b []byte) []byte {
		b = protowire.AppendTag(b, 99, protowire.BytesType)
		b = protowire.AppendString(b, "from a later version")
		b = protowire.AppendTag(b, 98, protowire.Fixed32Type)
		return protowire.AppendFixed32(b, 7)
	}
	if b, err := DecodeVotes(extra(EncodeVotes([]Vote{{Subject: signal(1), N: 1, To: Down}}, nil))); err != nil || len(b.Votes) != 1 {
		t.Errorf("votes: %v", err)
	}
	if _, err := DecodeHeartbeat(extra(EncodeHeartbeat(Heartbeat{Votes: 3}))); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	if s, err := DecodeSummary(extra(EncodeSummary([]Standing{{signal(1), 1}}))); err != nil || len(s) != 1 {
		t.Errorf("summary: %v", err)
	}
	if c, err := DecodeCertificates(extra(EncodeCertificates([]Certificate{{Subject: signal(1), N: 1}})[0])); err != nil || len(c) != 1 {
		t.Errorf("certificates: %v", err)
	}
}

func TestF13MalformedIsRefused(t *testing.T) {
	vote := func(v Vote) []byte { return appendBytes(appendVarint(nil, 1, wireFormat), 2, appendVote(nil, v)) }
	many := appendVarint(nil, 1, wireFormat)
	for range maxBallotVotes + 1 {
		many = appendBytes(many, 2, appendVote(nil, Vote{Subject: signal(1), N: 1, To: Up}))
	}
	tests := []struct {
		name    string
		payload []byte
	}{
		{"empty", nil},
		{"no format", EncodeVotes(nil, nil)[2:]},
		{"a later format", appendVarint(nil, 1, wireFormat+1)},
		{"truncated", EncodeVotes([]Vote{{Subject: signal(1), N: 1, To: Up}}, nil)[:8]},
		{"too many votes", many},
		{"a vote without subject", appendBytes(appendVarint(nil, 1, wireFormat), 2, []byte{})},
		{"a vote on no transition", vote(Vote{Subject: signal(1), N: 0, To: Down})},
		{"a state that is none", vote(Vote{Subject: signal(1), N: 1, To: Down + 1})},
		{"more suspicion than there is", vote(Vote{Subject: signal(1), N: 1, To: Up, Suspicion: maxSuspicion + 1})},
		{"a withdrawal that suspects", vote(Vote{Subject: signal(1), N: 1, Suspicion: 1})},
		{"half a cover", appendFixed(appendVarint(nil, 1, wireFormat), 3, 1)},
		{"an empty cover", EncodeVotes(nil, &Range{Low: 2, High: 1})},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := DecodeVotes(tc.payload); err == nil {
				t.Errorf("read as %+v", got)
			}
		})
	}
}

func TestReasonsArePrintable(t *testing.T) {
	for in, want := range map[string]string{"status 503": "status 503", "a\x1b[31m\nb": "a [31m b", "\xff": "?", strings.Repeat("é", 200): strings.Repeat("é", 120)} {
		if got := printable(in, maxReason); got != want {
			t.Errorf("printable(%q) = %q", in, got)
		}
	}
}

func FuzzDecodeVotes(f *testing.F) {
	f.Add(EncodeVotes([]Vote{{Subject: signal(1), N: 1, To: Down}, {Subject: check(2), N: 7, To: Unknown}}, &Range{1, 2}))
	f.Add(EncodeVotes([]Vote{{Subject: signal(1), N: 1, To: Up, Suspicion: late}, {Subject: check(2), N: 7, To: Down, Suspicion: maxSuspicion}}, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeVotes(data)
		if err != nil {
			return
		}
		again, err := DecodeVotes(EncodeVotes(got.Votes, got.Cover))
		if d := diff(again, got); d != "" || err != nil {
			t.Errorf("read again: %v %s", err, d)
		}
		b := newTestBook(3, 2)
		got.Director, got.Boot, got.Seq, got.Raw = "d2", 1, 1, data
		_, _ = b.Ballot(got, epoch)
		b.Judge(epoch)
	})
}

func FuzzDecodeHeartbeat(f *testing.F) {
	f.Add(EncodeHeartbeat(Heartbeat{Votes: 1, Heard: []Heard{{"d1", 1, 2}}, Plan: "p", Wall: epoch, Abstaining: true}))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeHeartbeat(data)
		if err != nil {
			return
		}
		if len(got.Heard) > maxHeard || len(got.Plan) > maxIdentity {
			t.Error("bounds are not kept")
		}
		if _, err := DecodeHeartbeat(EncodeHeartbeat(got)); err != nil {
			t.Errorf("read again: %v", err)
		}
		got.Director, got.Boot, got.Seq = "d2", 1, 1
		_ = newTestBook(3, 1).Heartbeat(got, epoch)
		p := NewPublisher("d1", 1, []string{"d2"})
		p.Cast([]Vote{{Subject: signal(1), N: 1, To: Up}}, epoch)
		p.Acknowledged(got, epoch)
		p.Due(epoch)
	})
}

func FuzzDecodeCertificates(f *testing.F) {
	f.Add(EncodeCertificates([]Certificate{certify(signal(1), 1, 1, 5, "d2", "d3")})[0])
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeCertificates(data)
		if err != nil {
			return
		}
		newTestBook(3, 1).Merge(got, verifyFor(rosterOf(3)), epoch)
		for _, payload := range EncodeCertificates(got) {
			if _, err := DecodeCertificates(payload); err != nil {
				t.Errorf("read again: %v", err)
			}
		}
	})
}

func FuzzDecodeSummary(f *testing.F) {
	f.Add(EncodeSummary([]Standing{{signal(1), 1}, {check(2), 900}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeSummary(data)
		if err != nil {
			return
		}
		if again, err := DecodeSummary(EncodeSummary(got)); err != nil || !slices.Equal(again, got) {
			t.Errorf("read again: %v", err)
		}
		b := newTestBook(3, 1)
		if b.MergeSummary("d2", got, epoch); b.States()[signal(1)] != Unknown {
			t.Error("one director's summary moved a subject")
		}
	})
}

func FuzzRestore(f *testing.F) {
	b := newTestBook(1, 2)
	b.advance(b.topics[signal(1)], certify(signal(1), 1, 1, 5, "d1"), epoch)
	b.advance(b.topics[signal(1)], certify(signal(1), 2, 1, 6, "d1"), at(time.Second))
	f.Add(b.Save(at(time.Minute)))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newTestBook(3, 1)
		if err := b.Restore(data, epoch); err != nil {
			return
		}
		saved := b.Save(epoch)
		if err := newTestBook(3, 1).Restore(saved, epoch); err != nil {
			t.Errorf("saved again: %v", err)
		}
	})
}

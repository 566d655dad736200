package director_test

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// decoderCalls make something of octets.
func decoderCalls() []string {
	return strings.Fields("json.Unmarshal json.NewDecoder proto.Unmarshal yaml.NewDecoder yaml.Unmarshal pem.Decode io.ReadFull flate.NewReader gzip.NewReader " +
		"bufio.NewScanner httputil.NewChunkedReader asn1.Unmarshal x509.ParseCertificate note.Open tlog.ParseTree")
}

// TestDecodersLaw: whatever reads what others wrote, from a socket, a file or etcd, is
// fuzzed, or it says why not.
func TestDecodersLaw(t *testing.T) {
	named := regexp.MustCompile(`^(Decode|Unmarshal|Open|Restore|decode|unmarshal|open|restore)`)
	want, found := decoders(), map[string]bool{}
	sources(t, func(path string, file *ast.File) {
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			decodes := named.MatchString(fn.Name.Name) && takesOctets(fn)
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); ok {
					of, _ := s.X.(*ast.Ident)
					decodes = decodes || of != nil && slices.Contains(decoderCalls(), of.Name+"."+s.Sel.Name)
				}
				return true
			})
			if place := path + " " + fn.Name.Name; decodes {
				found[place] = true
				if _, known := want[place]; !known {
					t.Errorf("%s reads what somebody else may have written: fuzz it, and add its row to decoders()", place)
				}
			}
		}
	})
	known := proofs(t)
	for place, by := range want {
		if !found[place] {
			t.Errorf("%s decodes no more: take its row out of decoders()", place)
		}
		if folder, target, fuzzed := strings.Cut(by, ":Fuzz"); fuzzed && !known[by] {
			t.Errorf("%s: there is no fuzz target Fuzz%s in %s", place, target, folder)
		} else if !fuzzed && len(strings.Fields(by)) < 3 {
			t.Errorf("%s: %q is no reason", place, by)
		}
	}
}

// takesOctets tells whether a function has octets as a parameter.
func takesOctets(fn *ast.FuncDecl) bool {
	return slices.ContainsFunc(fn.Type.Params.List, func(p *ast.Field) bool {
		list, ok := p.Type.(*ast.ArrayType)
		if !ok || list.Len != nil {
			return false
		}
		of, ok := list.Elt.(*ast.Ident)
		return ok && of.Name == "byte"
	})
}

// decoders lists who reads octets, and the target that fuzzes it, "folder:FuzzTarget", or
// why there is none.
func decoders() map[string]string {
	const own = "the CLI reads what its own director says: encoding/json into fixed types, bounded; a fault ends one command"
	return map[string]string{
		"director/ownfiles.go earliestEnd":          "director:FuzzEarliestEnd",
		"director/fleet/further.go readCert":        "as readPEM, by which it reads",
		"director/fleet/revoke.go serials":          "lines that `fleet renew` itself wrote, beside the authorities' keys, bounded: three words, one of them a number",
		"dnsserver/keypair/crl.go parseCRL":         "dnsserver/keypair:FuzzCRL",
		"director/enroltoken.go decodeClaim":        "director:FuzzClaim",
		"cmd/divert/auditproof.go listedKeys":       "a person's own file, bounded: encoding/json into the type that the CLI itself printed; a fault ends one command",
		"cmd/divert/keys.go readOperatorKey":        "a person's own file, which others cannot read or write; one PEM block by the standard library",
		"director/access/role.go UnmarshalText":     "a word of a fixed set",
		"director/access/scope.go UnmarshalText":    "director/access:FuzzParseScope",
		"director/api/client.go Watch":              own,
		"director/api/client.go getFor":             own,
		"director/api/refusal.go refused":           own,
		"director/api/client.go try":                own,
		"director/api/probe.go Probe":               own,
		"director/api/commands.go decodeStrict":     "director/api:FuzzDecodeStrict",
		"director/api/commands.go noDoubles":        "director/api:FuzzDecodeStrict",
		"director/audit/chain.go ReadRecord":        "director/audit:FuzzRecord",
		"director/audit/export.go verify":           "director/audit:FuzzVerify",
		"director/audit/export.go records":          "director/audit:FuzzVerify",
		"director/audit/given.go DecodeGiven":       "director/audit:FuzzGiven",
		"director/audit/head.go OpenHead":           "director/audit:FuzzHead",
		"director/audit/witness.go Decode":          "director/audit:FuzzWitness",
		"director/core/authority.go newHosts":       "reads JSON that the spec's own reader (FuzzJSON) reads in whole and refuses; a fault of it names no host",
		"director/core/emergencies.go Decode":       "director/core:FuzzDecodeEmergencies",
		"director/core/emergencies.go decodeWord":   "director/core:FuzzDecodeEmergencies",
		"director/core/json.go UnmarshalJSON":       "director/api:FuzzDecodeStrict",
		"director/core/wish.go wished":              "director/core:FuzzWish",
		"director/emergencyhistory.go overridesOf":  "director:FuzzReplay",
		"director/emergencywire.go decodeHolding":   "director:FuzzUrgentWire",
		"director/emergencywire.go decodeHoldings":  "director:FuzzUrgentWire",
		"director/emergencywire.go decodeWord":      "director:FuzzUrgentWire",
		"director/fleet/authority.go readPEM":       "files of the person who sets a fleet up, on the machine that makes its keys: one PEM block by the standard library, bounded",
		"director/fleet/authority.go LoadAuthority": "as readPEM, by which it reads",
		"director/fleet/authority.go NewAuthority":  "reads the certificate that it has just made",
		"director/gossip/envelope.go Open":          "director/gossip:FuzzOpen",
		"director/gossip/meta.go openMeta":          "director/gossip:FuzzOpenMeta",
		"director/gossip/identity.go loadKey":       "director/gossip:FuzzIdentity",
		"director/gossip/identity.go nextBoot":      "director/gossip:FuzzIdentity",
		"director/handover.go hear":                 "a socket of mode 0600 between two processes of one user: encoding/json of 64 KiB at most into a fixed type, after which the kernel says what the descriptors are",
		"director/hostnames.go restoreNames":        "director/resolve:FuzzRead",
		"director/resolve/save.go Restore":          "director/resolve:FuzzRead",
		"director/keyringwire.go decodeRingWord":    "director:FuzzKeyRingWords",
		"director/keyringwire.go decodeSealed":      "director:FuzzKeyRingWords",
		"director/keyringwire.go openSecret":        "director:FuzzKeyRingWords",
		"director/vaultwire.go decodeSecretWord":    "director:FuzzSecretWords",
		"director/secret/seal.go Open":              "director/secret:FuzzOpen",
		"director/secret/vault.go DecodeVault":      "director/secret:FuzzVault",
		"director/loadwire.go decodeLoad":           "director:FuzzLoad",
		"director/loadwire.go decodeLoadEntry":      "director:FuzzLoad",
		"director/oidc/issuer.go readKeys":          "director/oidc:FuzzKeys",
		"director/tokenreview/claims.go readClaims": "director/tokenreview:FuzzClaims",
		"health/kube/review.go decodeReview":        "health/kube:FuzzReview",
		"director/panelwire.go decodeAnswer":        "director:FuzzDecodeAnswer",
		"director/panelwire.go decodeQuestion":      "director:FuzzDecodeQuestion",
		"director/panelwire.go decodeSeen":          "director:FuzzDecodeAnswer",
		"director/past.go replay":                   "director:FuzzReplay",
		"director/past.go starts":                   "director:FuzzReplay",
		"director/plan/document.go ReadDoc":         "director/plan:FuzzReadDoc",
		"director/plan/emergency.go OpenWord":       "director/plan:FuzzOpenWord",
		"director/plan/emergency.go WordSum":        "director/plan:FuzzOpenWord",
		"director/plan/envelope.go Open":            "director/plan:FuzzOpen",
		"director/policy/bundle.go Decode":          "director/policy:FuzzDecode",
		"director/policy/input.go VerbOf":           "a person's own file for `divert policy eval`: encoding/json into one word",
		"director/policy/input.go withoutRecords":   "a resource of the document, which was read strictly before (FuzzReadDoc, FuzzJSON)",
		"director/policy/residency.go SpecOf":       "a person's own file for `divert policy eval`: encoding/json into resources",
		"director/policy/residency.go labelsOf":     "a resource of the document, which was read strictly before (FuzzReadDoc, FuzzJSON)",
		"director/sealask.go transitionsSince":      "director:FuzzReplay",
		"director/spec/json.go string":              "director/spec:FuzzJSON",
		"director/spec/json.go wrongJSON":           "director/spec:FuzzJSON",
		"director/spec/probe_secure.go readCA":      "director/spec:FuzzResolve",
		"director/spec/syntax.go firstError":        "director/spec:FuzzParse",
		"director/spec/yaml.go document":            "director/spec:FuzzParse",
		"director/store/audits.go decodeAuditHead":  "director/store:FuzzStored",
		"director/store/backup.go ReadBackup":       "director/store:FuzzReadBackup",
		"director/store/backup.go isOf":             "director/store:FuzzReadBackup",
		"director/store/backup.go part":             "director/store:FuzzReadBackup",
		"director/store/backup.go readable":         "director/store:FuzzReadBackup",
		"director/store/generation.go decode":       "director/store:FuzzDecode",
		"director/store/journalfile.go read":        "director/store:FuzzJournalFrame",
		"director/store/journalfile.go readFrame":   "director/store:FuzzJournalFrame",
		"director/store/journalfile.go unpack":      "director/store:FuzzJournalFrame",
		"director/store/move.go movedTo":            "director/store:FuzzStored",
		"director/store/store.go Audit":             "director/store:FuzzStored",
		"director/store/store.go heldAck":           "director/store:FuzzStored",
		"director/store/store.go read":              "director/store:FuzzStored",
		"director/store/store.go readResult":        "director/store:FuzzStored",
		"dnsserver/ask/addresses.go frame":          "dnsserver/ask:FuzzAddresses",
		"dnsserver/geo/mmdb/mmdb.go load":           "dnsserver/geo/mmdb:FuzzRead",
		"dnsserver/geo/mmdb/mmdb.go open":           "dnsserver/geo/mmdb:FuzzRead",
		"dnsserver/geo/table.go decode":             "the table that is built into the binary",
		"dnsserver/proxy.go readProxy":              "dnsserver:FuzzProxy",
		"dnsserver/tcp.go readQuery":                "a length and as many octets, 4,096 at most, which go where those of UDP go (FuzzReply, FuzzVerify)",
		"health/kube/ask.go get":                    "lists of an API server that a kubeconfig names: encoding/json into fixed types, bounded, off the way of decisions (S17)",
		"health/probe/dns.go over":                  "health/probe:FuzzDNSAnswer",
		"health/probe/grpc.go judgeHealth":          "health/probe:FuzzHealthAnswer",
		"health/probe/prometheus.go errorType":      "health/probe:FuzzNumber",
		"health/probe/prometheus.go parseNumber":    "health/probe:FuzzNumber",
		"health/probe/response.go chunks":           "health/probe:FuzzResponse",
		"health/save.go Restore":                    "health:FuzzRestore",
		"health/save.go decodeMark":                 "health:FuzzRestore",
		"health/save.go decodeMoment":               "health:FuzzRestore",
		"health/wire.go DecodeHeartbeat":            "health:FuzzDecodeHeartbeat",
		"health/wire.go DecodeVotes":                "health:FuzzDecodeVotes",
		"health/wire.go decodeHeard":                "health:FuzzDecodeHeartbeat",
		"health/wire.go decodeVote":                 "health:FuzzDecodeVotes",
		"health/wirecert.go DecodeCertificates":     "health:FuzzDecodeCertificates",
		"health/wirecert.go DecodeSummary":          "health:FuzzDecodeSummary",
		"health/wirecert.go decodeCertificate":      "health:FuzzDecodeCertificates",
	}
}

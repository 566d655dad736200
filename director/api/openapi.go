package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
	"github.com/divertdns/divert/director/spec"
)

const openAPIPath = "/v1/openapi.json"

// about is what the description says of one method of a route beside what its table does.
type about struct {
	does  string
	query []parameter
	takes any    // the value of a JSON body; nil: there is none
	body  string // the media type of a body that is no JSON
	gives any    // the value of a JSON answer; nil: see form
	form  string // the media type of an answer that is no single JSON object
}

type parameter struct {
	name, says string
	required   bool
}

// abouts is by method and path; HEAD is as GET. TestOpenAPI holds it against the routes.
func abouts() map[string]about {
	wait := parameter{name: "timeout", says: "how long to wait for all directors, such as 10s; 10m at most"}
	force := parameter{name: "force", says: "true: in spite of a rule that may be passed, which is recorded"}
	type alive struct {
		Status string `json:"status"`
	}
	return map[string]about{
		"GET /v1/status": {does: "What is seen, decided and drained, as the director that is asked has it.", gives: Status{}},
		"GET /v1/events": {does: "The status at once and after each change, as server-sent events.", gives: Status{}, form: "text/event-stream"},
		"GET /v1/explain": {does: "What a client is told for a host, and why.", gives: Explanation{}, query: []parameter{
			{name: "host", says: "the host's name", required: true},
			{name: "client", says: "address or prefix; none: a client of unknown place"},
			{name: "at", says: "an instant that is past: RFC 3339, or -2h"},
		}},
		"GET /v1/spec": {does: "Every resource of the fleet, as written.", gives: []spec.Raw{}},
		"GET /v1/audit": {does: "Audit records, oldest first.", gives: []AuditRecord{}, query: []parameter{
			{name: "from", says: "the first plan revision; none: the newest records"}, {name: "limit", says: "1 to 1000; 20 if not given"}, {name: "since", says: "an instant: RFC 3339, or -2h; automatic transitions come with it"},
		}},
		"GET /v1/audit/export": {does: "The sealed audit log, to be verified elsewhere.", form: octets},
		"GET /v1/audit/verify": {does: "Whether the audit log is what was sealed, what other directors hold, and what the store holds.", gives: AuditReport{}},
		"POST /v1/probe": {does: "Has all directors probe a target now; progress, then the last word.", gives: Probing{}, form: ndjson, query: []parameter{
			{name: "target", says: "service/shop, shop@fra or an address", required: true}, {name: "timeout", says: "how long to wait, such as 10s; 2m at most"},
		}},
		"GET /v1/emergency": {does: "What an operator needs to say a word while the store is away.", gives: Emergencies{}},
		"POST /v1/emergency": {
			does:  "Takes an operator's signed word while the store is away; progress, then the last word.",
			takes: OperatorWord{}, gives: Outcome{}, form: ndjson, query: []parameter{wait},
		},
		"POST /v1/commands": {
			does:  "Carries out a command; progress, then the last word. The same ID again is the same command. What it takes is the role of its verb, in each scope that it is about.",
			takes: core.Command{}, gives: Outcome{}, form: ndjson, query: []parameter{wait},
		},
		"POST /v1/store/init":    {does: "Begins a new fleet.", gives: Outcome{}, form: ndjson},
		"POST /v1/store/recover": {does: "Writes what this director holds into a store that lost it, one epoch on.", gives: Outcome{}, form: ndjson, query: []parameter{force}},
		"POST /v1/store/migrate": {does: "Moves the store to another etcd.", takes: MigrateOptions{}, gives: Outcome{}, form: ndjson},
		"GET /v1/store/check":    {does: "What in the store is not as it should be, and what puts it right.", gives: StoreReport{}},
		"GET /v1/backup": {does: "A backup. One that broke off lacks its last part.", form: octets, query: []parameter{
			{name: "local", says: "true: of what this director holds, without the audit log"},
		}},
		"POST /v1/restore": {does: "Brings a backup back.", body: octets, gives: Outcome{}, form: ndjson, query: []parameter{
			{name: "reason", says: "why, for the audit log"},
			force,
			{name: "dry-run", says: "true: only say what would change"},
			{name: "audit", says: "true: the audit records that the store lacks, and nothing else"},
		}},
		"GET /v1/secrets": {does: "The fleet's secrets by name, version and reader, and the public keys that one is encrypted to; no value.", gives: Secrets{}},
		"GET /v1/tokens":  {does: "The tokens of the plan in force, without what lets anybody in.", gives: []Token{}},
		"GET /v1/whoami":  {does: "Who asks, and what he was granted.", gives: Whoami{}},
		"GET /v1/can": {does: "Whether whoever asks may do something, and why; nothing is done.", gives: Can{}, query: []parameter{
			{name: "action", says: "a verb such as drain, or see, probe, backup, check, keep, tokens", required: true}, {name: "scope", says: "such as cluster/fra; none: the fleet"},
		}},
		"GET " + openAPIPath: {does: "This description.", gives: map[string]any{}},
		"GET /metrics":       {does: "Metrics, as Prometheus reads them.", form: "text/plain"},
		"GET /healthz":       {does: "Whether the process lives.", gives: alive{}},
		"GET /readyz":        {does: "Whether the director answers from a plan. It never fails for isolation.", gives: alive{}},
	}
}

// OpenAPI describes what a director of this version serves: OpenAPI 3.1, in JSON, made of
// the table of routes and of the types that they give and take.
func OpenAPI() ([]byte, error) {
	routes := (&Server{}).table(prometheus.NewRegistry())
	schemas := &schemas{named: map[string]any{}}
	paths := map[string]map[string]any{}
	said := abouts()
	for _, path := range slices.Sorted(maps.Keys(routes)) {
		paths[path] = map[string]any{}
		for method, end := range routes[path] {
			if method == http.MethodHead {
				continue // as GET, without a body
			}
			paths[path][strings.ToLower(method)] = operation(path, method, end.action, said[method+" "+path], schemas)
		}
	}
	return json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Divert director", "version": "v1", "license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "What a director is asked and told. Off loopback only over TLS 1.3, with a client's certificate or a bearer's token; without either, loopback reads. x-divert-role is the role that an operation takes.",
		},
		"paths": paths,
		"components": map[string]any{
			"schemas": schemas.named,
			"securitySchemes": map[string]any{
				"token":       map[string]any{"type": "http", "scheme": "bearer", "description": "made by divert token create"},
				"certificate": map[string]any{"type": "mutualTLS"},
			},
		},
	}, "", "  ")
}

func operation(path, method string, action access.Action, a about, s *schemas) map[string]any {
	problem := map[string]any{"description": "why not, and what to do", "content": content("application/json", s.of(reflect.TypeFor[failure]()))}
	answer := map[string]any{"description": "as asked"}
	switch {
	case a.form == "text/event-stream" || a.form == ndjson:
		answer["description"] = "one JSON object after another, each on a line of its own"
		answer["content"] = content(a.form, s.of(reflect.TypeOf(a.gives)))
	case a.form != "":
		answer["content"] = content(a.form, map[string]any{"type": "string"})
	case a.gives != nil:
		answer["content"] = content("application/json", s.of(reflect.TypeOf(a.gives)))
	}
	out := map[string]any{
		"summary": a.does, "operationId": strings.ToLower(method) + strings.NewReplacer("/v1", "", "/", "-", ".", "-").Replace(path),
		"responses": map[string]any{"200": answer, "default": problem},
		"security":  []any{},
	}
	if action != access.Open {
		role, scoped := action.Needs()
		out["security"] = []any{map[string]any{"token": []string{}}, map[string]any{"certificate": []string{}}}
		out["x-divert-role"] = role.String()
		if scoped {
			out["x-divert-scope"] = "fleet"
		}
	}
	var parameters []any
	for _, p := range a.query {
		parameters = append(parameters, map[string]any{"name": p.name, "in": "query", "required": p.required, "description": p.says, "schema": map[string]any{"type": "string"}})
	}
	if parameters != nil {
		out["parameters"] = parameters
	}
	switch {
	case a.takes != nil:
		out["requestBody"] = map[string]any{"required": true, "content": content("application/json", s.of(reflect.TypeOf(a.takes)))}
	case a.body != "":
		out["requestBody"] = map[string]any{"required": true, "content": content(a.body, map[string]any{"type": "string", "format": "binary"})}
	}
	return out
}

func content(kind string, schema any) map[string]any {
	return map[string]any{kind: map[string]any{"schema": schema}}
}

// schemas describes Go types as encoding/json writes them; those with a name once.
type schemas struct{ named map[string]any }

func (s *schemas) of(t reflect.Type) any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case t == reflect.TypeFor[core.Command]():
		return s.object("Command", core.WireType())
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.object(nameOf(t), t)
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Interface:
		return map[string]any{}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	default:
		panic(fmt.Sprintf("the API gives a %s, which is no JSON", t)) // a programmer's mistake: TestOpenAPI goes through all
	}
}

// nameOf is a type's own name in this package, and with its package's elsewhere.
func nameOf(t reflect.Type) string {
	if t.Name() == "" {
		return ""
	}
	pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if pkg == "api" {
		return name
	}
	return pkg + "." + name
}

func (s *schemas) object(name string, t reflect.Type) any {
	if name == "" {
		properties, required := map[string]any{}, []string{}
		s.fields(t, properties, &required)
		return map[string]any{"type": "object", "properties": properties, "required": required}
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if _, known := s.named[name]; known {
		return ref
	}
	s.named[name] = nil // it may have itself in it
	properties, required := map[string]any{}, []string{}
	s.fields(t, properties, &required)
	described := map[string]any{"type": "object", "properties": properties}
	if slices.Sort(required); len(required) > 0 {
		described["required"] = required
	}
	s.named[name] = described
	return ref
}

func (s *schemas) fields(t reflect.Type, properties map[string]any, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			s.fields(f.Type, properties, required)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		properties[name] = s.of(f.Type)
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	data, err := OpenAPI()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error(), "")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n')) // a client that left misses nothing
}

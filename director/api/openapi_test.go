package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/divertdns/divert/director/access"
	"github.com/divertdns/divert/director/core"
)

type described struct {
	Paths map[string]map[string]struct {
		Summary     string
		OperationID string `json:"operationId"`
		Role        string `json:"x-divert-role"`
		Scope       string `json:"x-divert-scope"`
		Security    []map[string][]string
		Parameters  []struct{ Name string }
		RequestBody json.RawMessage `json:"requestBody"`
		Responses   map[string]struct {
			Content map[string]json.RawMessage
		}
	}
	Components struct {
		Schemas map[string]struct {
			Type       string
			Properties map[string]json.RawMessage
			Required   []string
		}
	}
}

// TestOpenAPI: every route and method is described, with the parameters that it really
// takes, what it takes of whoever asks, and types that are all there.
func TestOpenAPI(t *testing.T) {
	raw, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d described
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	s := serve(t, newFake())
	c := socketHTTP(t, s)
	said, ids := abouts(), map[string]bool{}
	wants := regexp.MustCompile(`want any of ([a-z, -]*)`)
	for path, route := range s.routes {
		for method, end := range route {
			if method == http.MethodHead {
				if route[http.MethodGet].action != end.action {
					t.Errorf("HEAD %s is not as GET", path)
				}
				continue
			}
			op, ok := d.Paths[path][strings.ToLower(method)]
			a, written := said[method+" "+path]
			delete(said, method+" "+path)
			if !ok || !written || op.Summary == "" || ids[op.OperationID] || len(op.Responses["200"].Content) != 1 || len(op.Responses["default"].Content) != 1 {
				t.Errorf("%s %s is not described: %+v", method, path, op)
			}
			ids[op.OperationID] = true
			if role, scoped := end.action.Needs(); end.action != access.Open && (op.Role != role.String() || (op.Scope != "") != scoped || len(op.Security) != 2) || end.action == access.Open && len(op.Security) != 0 {
				t.Errorf("%s %s: role %q, scope %q, security %v", method, path, op.Role, op.Scope, op.Security)
			}
			if (a.takes != nil || a.body != "") != (op.RequestBody != nil) {
				t.Errorf("%s %s: body %s", method, path, op.RequestBody)
			}
			if path == "/v1/events" || path == "/v1/store/migrate" || path == emergencyPath {
				continue // one streams for ever, one looks at its body first, and the fake takes no emergencies
			}
			var names []string
			for _, p := range op.Parameters {
				names = append(names, p.Name)
			}
			_, body := ask(t, c, method, "http://divert"+path+"?zzz=1", "")
			if m := wants.FindStringSubmatch(body); strings.Contains(body, "unknown parameter") {
				var takes []string
				if m != nil && m[1] != "" {
					takes = strings.Split(m[1], ", ")
				}
				slices.Sort(takes)
				slices.Sort(names)
				if !slices.Equal(takes, names) {
					t.Errorf("%s %s takes %v, and the description says %v", method, path, takes, names)
				}
			} else if len(names) > 0 {
				t.Errorf("%s %s is described with %v, and takes what nobody knows: %s", method, path, names, body)
			}
		}
	}
	for row := range said {
		t.Errorf("%s is described, and is no route", row)
	}
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/schemas/([^"]*)"`).FindAllSubmatch(raw, -1) {
		if _, ok := d.Components.Schemas[string(m[1])]; !ok {
			t.Errorf("the type %s is missing", m[1])
		}
	}
	if code, body := ask(t, c, http.MethodGet, "http://divert"+openAPIPath, ""); code != 200 || strings.TrimSpace(body) != string(raw) {
		t.Errorf("what is served is another: %d", code)
	}
}

// TestSchemasAreTrue: what JSON really has of the types is what the description says of them.
func TestSchemasAreTrue(t *testing.T) {
	raw, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d described
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	whole := core.Command{ID: "a", Verb: core.Drain, Scope: "s", Author: "x", Reason: "y", For: time.Second, Wait: time.Second, Soak: time.Second, Force: true, Token: &core.Token{}}
	for name, value := range map[string]any{"Status": Status{}, "Outcome": Outcome{}, "Command": whole, "Token": Token{}, "Whoami": Whoami{}, "Explanation": Explanation{}, "Probing": Probing{}} {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		schema := d.Components.Schemas[name]
		if len(schema.Properties) < len(fields) || len(fields) == 0 {
			t.Errorf("%s has %d fields, described are %d", name, len(fields), len(schema.Properties))
		}
		for field := range fields {
			if _, ok := schema.Properties[field]; !ok {
				t.Errorf("%s.%s is not described", name, field)
			}
		}
		for _, field := range schema.Required {
			if _, ok := fields[field]; !ok {
				t.Errorf("%s.%s is said to be always there", name, field)
			}
		}
	}
	if p := d.Components.Schemas["Command"].Properties; p["forSeconds"] == nil || p["for"] != nil || p["By"] != nil || p["label"] != nil {
		t.Errorf("a command has %v", reflect.ValueOf(p).MapKeys())
	}
}

package coldjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

type base struct {
	Major int64 `json:"major"`
	Label string
}

type named string

// sample has every kind of type that the package knows.
type sample struct {
	base
	Name     string `json:"name,omitempty"`
	Named    named  `json:"named,omitempty"`
	Plain    string
	Dash     string `json:"-"`
	private  string
	Bool     bool              `json:"bool,omitempty"`
	Int      int               `json:"int,omitempty"`
	Int8     int8              `json:"int8"`
	Uint16   uint16            `json:"uint16,omitempty"`
	Uint64   uint64            `json:"uint64,omitempty"`
	Float    float64           `json:"float,omitempty"`
	Float32  float32           `json:"float32,omitempty"`
	Pointer  *int              `json:"pointer,omitempty"`
	Twice    **string          `json:"twice,omitempty"`
	Mode     *os.FileMode      `json:"mode,omitempty"`
	Strings  []string          `json:"strings"`
	Nested   [][]string        `json:"nested,omitempty"`
	Names    []named           `json:"names,omitempty"`
	Children []*sample         `json:"children,omitempty"`
	Map      map[string]string `json:"map"`
	Keyed    map[named]base    `json:"keyed,omitempty"`
	Any      any               `json:"any,omitempty"`
	Time     time.Time         `json:"time"`
	Later    *time.Time        `json:"later,omitempty"`
	Addr     netip.Addr        `json:"addr"` // MarshalText
	Addrs    []*netip.Addr     `json:"addrs,omitempty"`
	Raw      json.RawMessage   `json:"raw"`
	Reader   fmt.Stringer      `json:"stringer,omitempty"`
	Process  *specs.Process    `json:"process,omitempty"`
	Embedded `json:"embedded"`
	Hidden   `json:"-"`
}

type Embedded struct{ Inner int }

type Hidden struct{ Secret int }

// roots are the types that are compared for every text.
func roots() []func() any {
	return []func() any{
		func() any { return new(*specs.Spec) },
		func() any { return new(specs.Process) },
		func() any { return new(specs.LinuxResources) },
		func() any { return new(sample) },
		func() any { return new(map[string]*sample) },
		func() any { return new([]sample) },
		func() any { return new(any) },
	}
}

// compare reads data with this package and with encoding/json and writes what came out with both.
func compare(t *testing.T, data []byte) {
	t.Helper()
	input := bytes.Clone(data)
	for _, make := range roots() {
		got, want := make(), make()
		gotErr, wantErr := Unmarshal(data, got), json.Unmarshal(data, want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%.200q into %T: %v, encoding/json: %v", data, got, gotErr, wantErr)
		}
		if wantErr == nil {
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%.200q into %T: %s, encoding/json: %s", data, got, show(got), show(want))
			}
			compareWriting(t, got)
			continue
		}
		e, ok := errors.AsType[*Error](gotErr)
		if !ok || e.Line < 1 || e.Column < 1 {
			t.Fatalf("%.200q: no place in %v", data, gotErr)
		}
		syntax, ok := errors.AsType[*json.SyntaxError](wantErr)
		if ok != e.syntax {
			t.Fatalf("%.200q into %T: %v, encoding/json: %v", data, got, gotErr, wantErr)
		}
		// encoding/json takes the end of the text for a space.
		if ok && (syntax.Error() != e.Err.Error() || e.offset != int(syntax.Offset)-1) &&
			!(strings.HasPrefix(syntax.Error(), "invalid character ' '") && e.Err.Error() == "unexpected end of JSON input") {
			t.Fatalf("%.200q: %v at %d, encoding/json: %v at %d", data, e.Err, e.offset, syntax, syntax.Offset-1)
		}
	}
	if !bytes.Equal(data, input) {
		t.Fatal("the text was changed")
	}
}

func compareWriting(t *testing.T, v any) {
	t.Helper()
	got, err := Append([]byte("x"), v)
	want, wantErr := json.Marshal(v)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%T: %v, encoding/json: %v", v, err, wantErr)
	}
	if err == nil && string(got) != "x"+string(want) {
		t.Fatalf("%T:\ngot  %s\nwant x%s", v, got, want)
	}
}

func show(v any) string {
	data, err := json.Marshal(v)
	return fmt.Sprintf("%s %v", data, err)
}

var texts = []string{
	``, ` `, `null`, "\n null\t", `nul`, `nulL`, `nullx`, `tru`, `trux`, `falsy`, `{}`, `[]`, `{ }`, `[ ]`, `{} {}`, `{},`, `[1,]`,
	`[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" 1}`, `{"a":1 "b":2}`, `{1:2}`, `[1 2]`, `]`, `}`, `{"a":1]`, `"`, `"\`, `"\u`, `"\u12`,
	`-`, `01`, `-01`, `1.`, `1.e1`, `1e`, `1e+`, `.5`, `+1`, `1.5`, `-0`, `1E+2`, `1e999`, `-x`, `1.x`, `1ex`, "\ufeff{}", "\x00", "'", `{'a':1}`,
	`"\x"`, `"\u00g0"`, "\"a\nb\"", "\"\x7f\"", `"a\"\\\/\b\f\n\r\tb"`, `["\u00e9\u0000\u2028"]`, "[\"\xff\xfe a\xc3\"]",
	`["\ud83d\ude00","\ud83d","\ud83dx","\ud83d\n","\ud83d\u0041","\ude00\ud83d","\ud83d\ud83d\ude00","\ud83d\uzzzz"]`,
	`["\ud83d\ude00","\ud83d","\ud83dx","\ud83d\n","\ud83d\u0041","\ude00\ud83d","\ud83d\ud83d\ude00"]`,
	`{"name":"a","NAME":"b"}`, `{"NAME":"b","Name":"c"}`, `{"Nameſ":"x","nAmeD":"k","MAJOR":3,"plain":"p","PLAIN":"q"}`, `{"ma\u006aor":5}`,
	`{"name":null,"bool":null,"int":null,"strings":null,"map":null,"any":null,"time":null,"addr":null,"raw":null,"pointer":null}`,
	`{"pointer":1,"pointer":2}`, `{"pointer":1,"pointer":null}`, `{"twice":"a","twice":null}`, `{"mode":420}`, `{"mode":-1}`, `{"mode":4294967296}`,
	`{"int8":127}`, `{"int8":128}`, `{"int8":-129}`, `{"uint16":65536}`, `{"uint64":18446744073709551615}`, `{"uint64":18446744073709551616}`,
	`{"int":1.0}`, `{"int":1e2}`, `{"int":"1"}`, `{"int":true}`, `{"bool":1}`, `{"bool":"true"}`, `{"uint16":-0}`, `{"int":-0}`,
	`{"float":1.5,"float32":1e-7}`, `{"float":1e999}`, `{"float32":1e39}`, `{"float":1e21,"float32":1e21,"any":1e-7}`, `{"float":"1"}`,
	`{"strings":["a",null,"b"]}`, `{"strings":[1]}`, `{"strings":[[]]}`, `{"strings":{}}`, `{"strings":"a"}`, `{"strings":[]}`, `{"strings":["a,b","]",","]}`,
	`{"strings":["a","b","c"],"strings":["d"],"strings":[null,null,null,null,null]}`, `{"strings":["a"],"strings":[]}`, `{"nested":[["a"],null,[]]}`,
	`{"children":[{"name":"a","int":1},{"name":"b"}],"children":[{"name":"c"},null]}`, `{"children":[{"children":[{"children":[]}]}]}`,
	`{"map":{"a":"1","b":null,"a":"2"},"map":{"c":"3"}}`, `{"map":{"a":1}}`, `{"map":[]}`, `{"map":{"<&>":"\u2028"}}`,
	`{"keyed":{"x":{"major":1},"y":{"Label":"n"},"x":{"label":"m"}}}`, `{"keyed":{"x":null}}`, `{"keyed":{"x":7}}`,
	`{"any":{"a":[1,"b",null,true,{"c":{}}]},"any":[]}`, `{"any":[1e999]}`, `{"any":"\ud83d"}`, `{"any":01}`, `{"any":-}`,
	`{"time":"2025-01-02T03:04:05.678+01:00","later":"2025-01-02T03:04:05Z"}`, `{"time":"yesterday"}`, `{"time":1}`, `{"time":{}}`, `{"later":[]}`,
	`{"addr":"10.0.0.1","addrs":["::1",null]}`, `{"addr":"10"}`, `{"addr":1}`, `{"addr":{}}`, `{"addr":[]}`, `{"addr":true}`, `{"addrs":[""]}`,
	`{"raw": { "a" : [ 1 , "<b> \u2028 \" \\" ] } }`, `{"raw":"` + "\u2028\u2029\xff" + ` & "}`, `{"raw":nul}`, `{"raw":{"a":}}`,
	`{"stringer":1}`, `{"stringer":null}`, `{"stringer":{}}`, `{"stringer":"x"}`, `{"stringer":[]}`,
	`{"embedded":{"inner":1},"Inner":2,"secret":3,"Dash":"x","-":"y","private":"z","base":{"major":1}}`,
	`{"int":"x","bool":}`, `{"int":"x"} x`, `{"x":{"y":[1,{"z":[]}]},"int":[]}`, `{"x":[}]}`, `{"":1,"":{"":[]}}`,
	`{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":8,"weight":1,"MINOR":2}]}}},"windows":{"credentialSpec":{"a":[1,null]}}}`,
}

func TestLikeEncodingJSON(t *testing.T) {
	for _, text := range texts {
		compare(t, []byte(text))
	}
}

func TestDepth(t *testing.T) {
	for _, depth := range []int{maxDepth, maxDepth + 1} {
		compare(t, []byte(strings.Repeat("[", depth)+strings.Repeat("]", depth)))
		compare(t, []byte(strings.Repeat(`{"x":`, depth)+"1"+strings.Repeat("}", depth)))
		compare(t, []byte(strings.Repeat(`{"any":[`, depth/2)+strings.Repeat("]}", depth/2)))
	}
	compare(t, bytes.Repeat([]byte(`{"children":[`), 1<<16))
}

// engineConfigs returns what real engines wrote.
func engineConfigs(t testing.TB) [][]byte {
	t.Helper()
	files, err := filepath.Glob("../testdata/engines/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations of engines: %v", err)
	}
	var configs [][]byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		configs = append(configs, data)
	}
	return configs
}

func TestEngineConfigs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, data := range engineConfigs(t) {
		compare(t, data)
		for range 10 {
			compare(t, mutate(random, data))
		}
	}
}

// mutate puts one strange thing into a text.
func mutate(random *rand.Rand, data []byte) []byte {
	at, other := random.IntN(len(data)), random.IntN(len(data))
	var middle []byte
	switch random.IntN(4) {
	case 0: // a byte
		bytes := "{}[]\",:\\ \x00\xff0-et"
		middle = []byte{bytes[random.IntN(len(bytes))]}
		other = at + 1
	case 1: // cut off
		other = len(data)
	case 2: // left out or twice
	case 3: // another value
		at += 1 + bytes.IndexByte(data[at:], ':')
		other = at + max(bytes.IndexAny(data[at:], ",}]"), 0)
		values := []string{"null", "-1", "1e3", `"x"`, "[]", "{}", "true", "4294967296", "[null]", `{"a":null}`, "1.5"}
		middle = []byte(values[random.IntN(len(values))])
	}
	return bytes.Join([][]byte{data[:at], middle, data[other:]}, nil)
}

func TestGeneratedValues(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		for _, make := range roots() {
			v := reflect.ValueOf(make())
			fill(random, v.Elem(), 0)
			compareWriting(t, v.Interface())
			data, err := json.MarshalIndent(v.Interface(), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			compare(t, data)
		}
	}
}

// fill puts random values into v and what it reaches.
func fill(random *rand.Rand, v reflect.Value, depth int) {
	strange := []string{"", "a", "/etc", "<&>", "\"\\\n\x01\x7f", "é\u2028\u2029", "\xff\xc3", "😀\ufffd"}
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(random.Int64N(1<<32), random.Int64N(1e9)).UTC()))
		return
	case reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{byte(random.Uint32())})))
		return
	case reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`{ "a" : [ "<\" &\\" , 1 ] }`))
		return
	}
	if random.IntN(2+depth) > 1 && v.Kind() != reflect.Struct {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(random, v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(random, f, depth+1)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), random.IntN(4), 9))
		for i := range v.Len() {
			fill(random, v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range random.IntN(4) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.SetString(strange[random.IntN(len(strange))])
			fill(random, value, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.Interface:
		if v.NumMethod() == 0 {
			v.Set(reflect.ValueOf([]any{random.NormFloat64(), nil, map[string]any{"a": true}, &base{}, time.Unix(1, 0).UTC()}))
		}
	case reflect.String:
		v.SetString(strange[random.IntN(len(strange))])
	case reflect.Bool:
		v.SetBool(random.IntN(2) > 0)
	default:
		switch {
		case v.CanInt():
			v.SetInt(random.Int64() >> random.IntN(64))
		case v.CanUint():
			v.SetUint(random.Uint64() >> random.IntN(64))
		case v.CanFloat():
			v.SetFloat(math.Pow(10, random.Float64()*60-30))
		}
	}
}

func FuzzLikeEncodingJSON(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	for _, data := range engineConfigs(f) {
		f.Add(data)
	}
	f.Fuzz(compare)
}

// Every type of config.json must be one that the package knows: without the options and kinds that it refuses, without
// two names that differ only by case, on whose order it would depend.
func TestKnowsTypesOfConfig(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		if reflect.PointerTo(typ).Implements(reflect.TypeFor[unmarshaler]()) {
			return
		}
		switch typ.Kind() {
		case reflect.Struct:
			folded := map[string]bool{}
			for _, f := range reflect.VisibleFields(typ) {
				name := strings.ToLower(fieldOf(reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: f.Tag}}), 0).name)
				if folded[name] {
					t.Errorf("%v has two fields %s", typ, name)
				}
				folded[name] = true
				visit(f.Type)
			}
		case reflect.Map:
			if typ.Key().Kind() != reflect.String || typ.Key().NumMethod() > 0 {
				t.Errorf("%v has strange keys", typ)
			}
			visit(typ.Elem())
		case reflect.Slice:
			if typ.Elem().Kind() == reflect.Uint8 {
				t.Error("a []byte")
			}
			visit(typ.Elem())
		case reflect.Pointer:
			visit(typ.Elem())
		case reflect.Array, reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
			t.Errorf("%v is not known", typ)
		}
	}
	visit(reflect.TypeFor[specs.Spec]())
	if len(seen) < 100 {
		t.Errorf("only %d types seen", len(seen))
	}
}

func TestErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"{\n \"int\": \"1\"}", "2:9: int: want int, got string"},
		{`{"children": [{}, {"strings": ["a", {}]}]}`, `1:37: children[1].strings[1]: want string, got object`},
		{`{"map": {"a.b": []}}`, `1:17: map["a.b"]: want string, got array`},
		{`{"any": {"a": [1, 1e999]}}`, `1:19: any.a[1]: want float64, got number 1e999`},
		{`{"INT8": 128}`, `1:10: INT8: want int8, got number 128`},
		{`{"addr": 4}`, `1:10: addr: want string, got number`},
		{`{"addr": ".1"}`, `1:10: addr: ParseAddr(".1"): IPv4 field must have at least one digit (at ".1")`},
		{`{"time": []}`, `1:10: time: Time.UnmarshalJSON: input is not a JSON string`},
		{`[]`, `1:1: want object, got array`},
		{`{"int": "1", "x": tru}`, `1:22: invalid character '}' in literal true (expecting 'e')`},
		{`{"x": tru`, `1:9: unexpected end of JSON input`},
	}
	for _, tt := range tests {
		if err := Unmarshal([]byte(tt.in), &sample{}); err == nil || err.Error() != tt.want {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.in, err, tt.want)
		}
	}
	var parseError *time.ParseError
	if err := Unmarshal([]byte(`"x"`), &time.Time{}); !errors.As(err, &parseError) {
		t.Errorf("%v does not wrap the error of the method", err)
	}
	for _, v := range []any{nil, sample{}, (*sample)(nil)} {
		if err := Unmarshal([]byte("{}"), v); err == nil {
			t.Errorf("no error for %T", v)
		}
	}
}

type failing struct{ output string }

func (f failing) MarshalJSON() ([]byte, error) {
	if f.output == "" {
		return nil, os.ErrInvalid
	}
	return []byte(f.output), nil
}

func TestAppendErrors(t *testing.T) {
	type list []list
	inList := make(list, 1)
	inList[0] = inList
	inMap := map[string]any{}
	inMap["a"] = inMap
	for _, v := range []any{
		failing{},
		[]failing{{"1"}, {"{"}},
		map[string]*failing{"a": {"1 2"}},
		struct{ A any }{failing{}},
		math.Inf(1),
		[]float64{math.NaN()},
		inList, inMap, time.Unix(1<<40, 0),
	} {
		compareWriting(t, v)
		if dst, err := Append([]byte("x"), v); err == nil || string(dst) != "x" {
			t.Errorf("%T: got %.20q, %v", v, dst, err)
		}
	}
	if _, err := Append(nil, failing{}); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("%v does not wrap the error of the method", err)
	}
	for _, v := range []any{nil, sample{private: "x"}, (*sample)(nil), []string(nil), map[string]int(nil), float32(1e21), float32(1e-6), 1e-10, uint8(7)} {
		compareWriting(t, v)
	}
}

// What would be read or written in another way than by encoding/json is refused.
func TestRefusedTypes(t *testing.T) {
	refuses := func(what string, do func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s is not refused", what)
			}
		}()
		do()
	}
	for _, v := range []any{
		&struct {
			A int `json:"a,string"`
		}{},
		&struct{ *Embedded }{},
	} {
		refuses("writing", func() { _, _ = Append(nil, v) })
		refuses("reading", func() { _ = Unmarshal([]byte(`{"a":1}`), v) })
	}
	for _, v := range []any{[]byte("a"), map[int]int{}, [1]int{}, make(chan int), struct{ F func() }{}} {
		refuses("writing", func() { _, _ = Append(nil, v) })
	}
	for _, v := range []any{new([]byte), new(map[int]int), new([1]int), new(chan int)} {
		for _, text := range []string{`"YQ=="`, `{"1":1}`, `[1]`, `1`} {
			if err := Unmarshal([]byte(text), v); err == nil && (text != "[1]" || reflect.TypeOf(v) != reflect.TypeFor[*[]byte]()) {
				t.Errorf("%T is read from %s", v, text)
			}
		}
	}
}

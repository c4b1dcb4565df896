package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Command lines, names and analysis ids come from strangers, and they are bytes: NUL and invalid UTF-8 occur. Databases
// refuse such text, some for ever, so it is made safe before it is stored, and visibly: the byte 0xff becomes the four
// characters \xff. A string that is fine is stored as it is.

// Clean returns s with NUL and bytes that are not UTF-8 written as \xNN.
func Clean(s string) string {
	if utf8.ValidString(s) && !strings.ContainsRune(s, 0) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// marshal is json.Marshal for records: the result is valid JSON of clean strings, whatever v holds.
func marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && !suspect(b) {
		return b, nil
	}
	c := reflect.New(reflect.TypeOf(v)).Elem()
	copyClean(c, reflect.ValueOf(v))
	return json.Marshal(c.Interface())
}

// suspect reports whether JSON text may hold a NUL or half a surrogate pair, or a byte that json.Marshal replaced: it
// writes U+FFFD as an escape only then.
func suspect(b []byte) bool {
	return bytes.Contains(b, []byte(`\u0000`)) || bytes.Contains(b, []byte(`\ufffd`)) ||
		bytes.Contains(b, []byte(`\ud`)) || bytes.Contains(b, []byte(`\uD`)) || !utf8.Valid(b)
}

var rawMessage = reflect.TypeFor[json.RawMessage]()

// copyClean copies src to dst, which has the same type, deeply and with clean strings. What JSON cannot say becomes what
// it can: a pointer to NaN or an infinity becomes nil (not known), a RawMessage that is no JSON becomes a string.
func copyClean(dst, src reflect.Value) {
	switch src.Kind() {
	case reflect.String:
		dst.SetString(Clean(src.String()))
	case reflect.Pointer:
		if !src.IsNil() && !notANumber(src.Elem()) {
			dst.Set(reflect.New(src.Type().Elem()))
			copyClean(dst.Elem(), src.Elem())
		}
	case reflect.Struct:
		dst.Set(src) // unexported fields, as those of time.Time, come along
		for i := range src.NumField() {
			if src.Type().Field(i).IsExported() {
				dst.Field(i).SetZero()
				copyClean(dst.Field(i), src.Field(i))
			}
		}
	case reflect.Slice:
		copyCleanSlice(dst, src)
	case reflect.Map:
		copyCleanMap(dst, src)
	default:
		dst.Set(src)
	}
}

func copyCleanSlice(dst, src reflect.Value) {
	switch {
	case src.IsNil():
	case src.Type() == rawMessage:
		dst.SetBytes(cleanJSON(src.Bytes()))
	default:
		dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
		for i := range src.Len() {
			copyClean(dst.Index(i), src.Index(i))
		}
	}
}

func copyCleanMap(dst, src reflect.Value) {
	if src.IsNil() {
		return
	}
	dst.Set(reflect.MakeMapWithSize(src.Type(), src.Len()))
	for it := src.MapRange(); it.Next(); {
		k, v := reflect.New(src.Type().Key()).Elem(), reflect.New(src.Type().Elem()).Elem()
		copyClean(k, it.Key())
		copyClean(v, it.Value())
		dst.SetMapIndex(k, v)
	}
}

func notANumber(v reflect.Value) bool {
	return v.CanFloat() && (math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0))
}

// cleanJSON returns JSON text whose strings are clean. Text that is not JSON becomes a JSON string of it.
func cleanJSON(b []byte) []byte {
	var v any
	d := json.NewDecoder(strings.NewReader(Clean(string(b))))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || d.More() {
		v = string(b)
	}
	out, err := json.Marshal(cleanValue(v))
	if err != nil {
		return []byte("null")
	}
	return out
}

// cleanValue cleans the strings of a decoded JSON value.
func cleanValue(v any) any {
	switch v := v.(type) {
	case string:
		return Clean(v)
	case []any:
		for i := range v {
			v[i] = cleanValue(v[i])
		}
	case map[string]any:
		for k, e := range v {
			delete(v, k)
			v[Clean(k)] = cleanValue(e)
		}
	}
	return v
}

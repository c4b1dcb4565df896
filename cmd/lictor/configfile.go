package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// readConfig reads the text of one configuration file. It is strict: a key that it does not know, or a value that cannot
// be read, is an error that names file, line and key. Such a file:
//
//	memory_max = "4G"
//	runtime_max = 3600
//
//	[ceiling]
//	memory_max = "16G"
func readConfig(path, text string) (settings, ceilings []Setting, err error) {
	var tree map[string]any
	meta, err := toml.Decode(text, &tree)
	if parse, ok := errors.AsType[toml.ParseError](err); ok {
		return nil, nil, fmt.Errorf("%s:%d: %s", path, parse.Position.Line, parse.Message)
	} else if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, key := range meta.Keys() {
		name, isCeiling := strings.CutPrefix(key.String(), "ceiling.")
		if name == "ceiling" && meta.Type("ceiling") == "Hash" {
			continue
		}
		place := fmt.Sprintf("%s:%d", path, lineOf(text, key.String()))
		setting, err := readSetting(place, name, isCeiling, lookUp(tree, key))
		if err != nil {
			return nil, nil, err
		}
		if isCeiling {
			ceilings = append(ceilings, setting)
		} else {
			settings = append(settings, setting)
		}
	}
	return settings, ceilings, nil
}

func readSetting(place, name string, isCeiling bool, value any) (Setting, error) {
	k, ok := findConfigKey(name)
	switch {
	case !ok && isCeiling, ok && isCeiling && !k.ceiling:
		return Setting{}, fmt.Errorf("%s: there is no ceiling %q (there are %s)", place, name, keyNames(true))
	case !ok:
		return Setting{}, fmt.Errorf("%s: unknown key %q (there are %s)", place, name, keyNames(false))
	}
	text, ok := settingText(value)
	if !ok {
		return Setting{}, fmt.Errorf("%s: %s: neither a string nor a number", place, name)
	}
	if err := k.check(name, text); err != nil {
		return Setting{}, fmt.Errorf("%s: %w", place, err)
	}
	return Setting{Key: name, Text: text, From: place}, nil
}

// settingText returns what a flag of the same name would be given: runtime_max = 1800 is the same as "1800".
func settingText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

func keyNames(ceilings bool) string {
	var names []string
	for _, k := range configKeys {
		if k.ceiling || !ceilings {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ", ")
}

func lookUp(tree map[string]any, key toml.Key) any {
	var value any = tree
	for _, part := range key {
		table, _ := value.(map[string]any)
		value = table[part]
	}
	return value
}

// lineOf returns the line on which key is set, counted from 1; the TOML package does not tell. Key is a full one, such as
// ceiling.memory_max, which may be written under [ceiling], dotted, or in an inline table.
func lineOf(text, key string) int {
	table := ""
	for i, line := range strings.Split(text, "\n") {
		left, _, isSetting := strings.Cut(line, "=")
		left = strings.NewReplacer(" ", "", "\t", "", "\r", "", `"`, "", "'", "").Replace(left)
		if strings.HasPrefix(left, "[") && !isSetting {
			left, _, _ = strings.Cut(left, "#")
			table = strings.Trim(left, "[]")
			left = ""
		}
		here := strings.Trim(table+"."+left, ".")
		if here != "" && (left != "" || table == key) && (key == here || strings.HasPrefix(key, here+".")) {
			return i + 1
		}
	}
	return 1
}

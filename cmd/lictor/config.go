package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Setting is the value of one configuration key, as text, and where it was set.
type Setting struct {
	Key  string // memory_max
	Text string // 2G
	From string // "LICTOR_MEMORY_MAX", "/etc/lictor/lictor.toml:3"; empty for a built-in default
}

// Config is what the files and the environment say about runs. Flags go on top of it, see Limits.
type Config struct {
	Settings map[string]Setting
	Ceilings map[string]Setting // from /etc only; nothing raises them
}

// configKey is a key that a configuration file may have at its top level.
type configKey struct {
	name     string
	fallback string // the built-in default
	ceiling  bool   // may stand under [ceiling] too
	check    func(name, text string) error
}

// variable is the environment variable of a key: that of memory_max is LICTOR_MEMORY_MAX.
func (k configKey) variable() string {
	if k.name == keyDatabase {
		return "LICTOR_DATABASE_URL"
	}
	return "LICTOR_" + strings.ToUpper(k.name)
}

// The keys that are about records and not about runs.
const (
	keyDatabase       = "database"
	keyRetention      = "retention"
	keyRetentionKills = "retention_kills"
	keyStoreMax       = "store_max"
)

// configKeys lists the keys. The flag of memory_max is --memory-max.
var configKeys = []configKey{
	{"memory_max", "2G", true, checkSize},
	{"memory_swap_max", "0", false, checkSizeOrZero},
	{"memory_high", "infinity", false, checkSize},
	{"tasks_max", "infinity", true, checkCount},
	{"runtime_max", "1800", true, checkTimespan},
	{"grace", "10s", false, checkTimespan},
	{"cpu_quota", "infinity", false, checkPercent},
	{"oom_policy", "kill", false, checkOOMPolicy},
	{keyDatabase, "", false, checkDatabase},
	{keyRetention, "90d", false, checkTimespan},
	{keyRetentionKills, "1y", false, checkTimespan},
	{keyStoreMax, "1G", false, checkSize},
}

// LoadConfig reads the configuration: environment over the user's file over the administrator's files over the built-in
// defaults. A file that is not there is no error; one that is wrong in any way is.
func (a *App) LoadConfig() (*Config, error) {
	c := &Config{Settings: map[string]Setting{}, Ceilings: map[string]Setting{}}
	for _, k := range configKeys {
		c.Settings[k.name] = Setting{Key: k.name, Text: k.fallback}
	}
	files, err := a.adminConfigFiles()
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		if err := c.addFile(path, true); err != nil {
			return nil, err
		}
	}
	if path := a.userConfigFile(); path != "" {
		if err := c.addFile(path, false); err != nil {
			return nil, err
		}
	}
	return c, c.addEnvironment(a.Getenv)
}

// adminConfigFiles returns lictor.toml and its drop-ins, in the order in which later ones win.
func (a *App) adminConfigFiles() ([]string, error) {
	main := filepath.Join(a.EtcDir, "lictor.toml")
	entries, err := os.ReadDir(main + ".d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	files := []string{main}
	for _, e := range entries { // sorted by name
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(main+".d", e.Name()))
		}
	}
	return files, nil
}

func (a *App) userConfigFile() string {
	if dir := a.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lictor/config.toml")
	}
	if home := a.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config/lictor/config.toml")
	}
	return ""
}

// addFile puts the settings of one file over those that are there. Only an administrator's file may set ceilings.
func (c *Config) addFile(path string, admin bool) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	settings, ceilings, err := readConfig(path, string(text))
	if err != nil {
		return err
	}
	if len(ceilings) > 0 && !admin {
		return withHint(fmt.Errorf("%s: only the administrator sets ceilings", ceilings[0].From),
			"ceilings belong in "+filepath.Join("/etc/lictor", "lictor.toml"))
	}
	for _, s := range settings {
		c.Settings[s.Key] = s
	}
	for _, s := range ceilings {
		c.Ceilings[s.Key] = s
	}
	return nil
}

// addEnvironment puts LICTOR_* variables over the files. An empty variable is not set.
func (c *Config) addEnvironment(getenv func(string) string) error {
	for _, k := range configKeys {
		name := k.variable()
		text := getenv(name)
		if text == "" {
			continue
		}
		if err := k.check(name, text); err != nil {
			return err
		}
		c.Settings[k.name] = Setting{Key: k.name, Text: text, From: name}
	}
	return nil
}

func findConfigKey(name string) (configKey, bool) {
	i := slices.IndexFunc(configKeys, func(k configKey) bool { return k.name == name })
	if i < 0 {
		return configKey{}, false
	}
	return configKeys[i], true
}

// The checks see whether a value can be read at all, where it was written. Physical memory plays no part in that.
func checkSize(name, text string) error {
	_, _, err := ParseBytes(name, text, 1<<40)
	return err
}

func checkSizeOrZero(name, text string) error {
	_, _, err := ParseBytesOrZero(name, text, 1<<40)
	return err
}

func checkCount(name, text string) error {
	_, _, err := ParseCount(name, text)
	return err
}

func checkTimespan(name, text string) error {
	_, _, err := ParseTimespan(name, text)
	return err
}

func checkPercent(name, text string) error {
	_, _, err := ParsePercent(name, text)
	return err
}

// checkDatabase does not repeat the URL, in which there may be a password.
func checkDatabase(name, text string) error {
	if text == "" || strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		return nil
	}
	return withHint(fmt.Errorf("%s: not the URL of a PostgreSQL database", name), "write it like postgres://user@host/database")
}

func checkOOMPolicy(name, text string) error {
	if text == "kill" || text == "continue" {
		return nil
	}
	return &limitError{name, text, "not a policy", "write kill or continue"}
}

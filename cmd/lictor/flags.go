package main

import "github.com/spf13/pflag"

// listFlags are the flags that every listing has.
type listFlags struct {
	json, noLegend bool
}

func (f *listFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.json, "json", false, "JSON: bytes and seconds as numbers")
	flags.BoolVar(&f.noLegend, "no-legend", false, "no header")
}

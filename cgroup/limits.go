package cgroup

// Limits are what the kernel enforces on a cgroup, apart from what its ancestors' limits leave of it.
type Limits struct {
	MemoryMax     Value // bytes
	MemoryHigh    Value // bytes
	MemorySwapMax Value // bytes
	PidsMax       Value // processes and threads
}

// Limits reads all of them; those without a file are unset.
func (g *Group) Limits() (Limits, error) {
	var l Limits
	for _, f := range []struct {
		to   *Value
		file string
	}{
		{&l.MemoryMax, "memory.max"},
		{&l.MemoryHigh, "memory.high"},
		{&l.MemorySwapMax, "memory.swap.max"},
		{&l.PidsMax, "pids.max"},
	} {
		v, err := g.readValue(f.file)
		if err != nil {
			return Limits{}, err
		}
		*f.to = v
	}
	return l, nil
}

// MemoryMax is the hard limit, in bytes (memory.max); unset without the memory controller and in the root.
func (g *Group) MemoryMax() (Value, error) { return g.readValue("memory.max") }

// MemoryHigh is the limit above which processes are throttled, in bytes (memory.high).
func (g *Group) MemoryHigh() (Value, error) { return g.readValue("memory.high") }

// MemorySwapMax is the limit of swap, in bytes (memory.swap.max); unset on a kernel without swap accounting.
func (g *Group) MemorySwapMax() (Value, error) { return g.readValue("memory.swap.max") }

// PidsMax is how many processes and threads the cgroup and its descendants may have (pids.max); unset without the pids
// controller and in the root.
func (g *Group) PidsMax() (Value, error) { return g.readValue("pids.max") }

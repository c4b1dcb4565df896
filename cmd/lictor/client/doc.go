// Package client talks to the lictor daemon from Go: what runs, what ended and why, as it happens, and how to start and stop runs.
//
//	c, err := client.New(os.Getenv("LICTOR_HOST"), os.Getenv("LICTOR_TOKEN"))
//	run, err := c.Launch(ctx, &client.Launch{Command: []string{"python3", "embed.py"}, Limits: map[string]client.Amount{"memory_max": "2G"}})
//	run, err = c.Wait(ctx, run.Run) // run.Reason says what ended it, if anything forced it
//
// On the unix socket the kernel tells the daemon who calls. Over TCP a token does (lictor token). Every error that the daemon tells is
// a *Problem, or wraps events.ErrNotFound or events.ErrAmbiguous.
package client

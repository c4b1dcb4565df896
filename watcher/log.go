package watcher

// Keys of log attributes.
const (
	logError = "error"
	logKind  = "kind"
	logPID   = "pid"
	logRun   = "run"
)

// Package api is how programs talk to the daemon: HTTP/1.1 on a unix socket, on which the kernel says who is at the other end
// (SO_PEERCRED, unix(7)); nothing that a caller writes can change that. On TCP, loopback only, a token says it.
//
// It is transport only. What is done, and whether the caller may, is the business of the Backend.
//
//	POST  /api/v1/keep                a launcher hands its run over; the connection becomes a Conn
//	GET   /api/v1/runs                run records, newest first (RunQuery)
//	POST  /api/v1/runs                start a command as the caller, inside limits (Launch)
//	GET   /api/v1/runs/{run}          one record
//	PATCH /api/v1/runs/{run}          change limits
//	POST  /api/v1/runs/{run}/stop     SIGTERM, grace, SIGKILL
//	POST  /api/v1/runs/{run}/kill     one signal
//	POST  /api/v1/runs/{run}/release  let it live on without limits
//	POST  /api/v1/runs/adopt          put a running process tree into a scope
//	GET   /api/v1/runs/{run}/processes  those of a live run
//	GET   /api/v1/live                what the kernel says of live runs at this moment
//	GET   /api/v1/summary             the machine, what is alive, and what ended within a day
//	GET   /api/v1/resolve             the run that a person means
//	GET   /api/v1/events              events (EventQuery); with Accept: text/event-stream as they happen
//	GET   /api/v1/kills               how many kills since a time
//	GET   /api/quests/status          the section of the old watchdog
//	POST  /api/v1/login               an address at which a browser is logged in
//	…     /api/v1/tokens              what says over TCP who calls
//	GET   /metrics                    for Prometheus: numbers of all users together
//	GET   /healthz                    the daemon answers
//	GET   /readyz                     it can keep and record one more run
//	GET   /openapi.json               all this, for programs
//
// Callers see and act on their own runs only; of another's they hear what they hear of one that does not exist, 404. Root and the
// group lictor-admin see all. Errors are problem documents (RFC 9457).
package api

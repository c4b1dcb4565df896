#!/bin/sh
# The main job, shown: real analyses under real limits, then what lictor knows of them. Needs lictor in PATH, systemd and
# cgroup v2; as root the system manager is used, else the user's own. Its records go to a directory of their own.
set -u
cd "$(dirname "$0")" || exit 1
LICTOR_STATE_DIR=$(mktemp -d) || exit 1
export LICTOR_STATE_DIR
export LANG="${LANG:-C.UTF-8}"
trap 'rm -rf "$LICTOR_STATE_DIR"' EXIT
status=0

show() {
	printf '\n$ %s\n' "$*"
	"$@"
}

# analysis CODE ARGUMENTS…: runs lictor and checks its exit status.
analysis() {
	want=$1
	shift
	show lictor run "$@"
	got=$?
	[ "$got" -eq 0 ] || echo "(exit status $got)"
	if [ "$got" -ne "$want" ]; then
		echo "demo: expected exit status $want" >&2
		status=1
	fi
}

analysis 0 --analysis-id summary -- python3 summarize.py
analysis 3 --analysis-id checks -- python3 validate.py
analysis 137 --analysis-id embed-all -m 48M -- python3 embed.py
analysis 0 --analysis-id folds -m 64M --oom-policy continue -- python3 crossval.py
analysis 124 --analysis-id fit -t 4 --grace 2 -- python3 fit.py
analysis 0 --analysis-id fetch --grace 2 -- python3 fetch.py

show lictor ps -a
show lictor kills
show lictor why embed-all
show lictor why folds
show lictor why fit
run=$(lictor show embed-all -p Run --value)
show journalctl --no-pager -q -o json-pretty "LICTOR_RUN=$run" LICTOR_KIND=ended
exit "$status"

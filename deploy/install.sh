#!/bin/sh
# Installs lictor, or removes it again: `make install` and `make uninstall` execute it. Usage: install.sh install|uninstall
#
# DESTDIR is put before every place, for packages; then nothing of this machine but files is touched. PREFIX is /usr, or
# /usr/local, where systemd looks too. LICTOR is the binary.
set -eu
umask 022

here=$(cd -- "$(dirname -- "$0")" && pwd)
DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr}
LICTOR=${LICTOR:-$here/../bin/lictor}

bin=$PREFIX/bin/lictor
systemd=$PREFIX/lib/systemd
man=$PREFIX/share/man/man1
doc=$PREFIX/share/doc/lictor
config=/etc/lictor/lictor.toml
example=$doc/examples/lictor.toml
case $PREFIX in # where Debian's zsh looks
/usr) zsh=$PREFIX/share/zsh/vendor-completions/_lictor ;;
*) zsh=$PREFIX/share/zsh/site-functions/_lictor ;;
esac

# files calls $1 with the place and the source of each file that is a copy, and completions with the place and the shell of
# each completion. Install and uninstall go through the same lists.
files() {
	for unit in lictor.service lictor-forward.service lictor.socket lictor-http.socket lictor.slice; do "$1" "$systemd/system/$unit" "$here/$unit"; done
	for unit in lictor.service lictor-forward.service; do "$1" "$systemd/user/$unit" "$here/user/$unit"; done
	"$1" "$systemd/user/lictor.slice" "$here/lictor.slice"
	"$1" "$systemd/catalog/lictor.catalog" "$here/lictor.catalog"
	"$1" "$PREFIX/lib/sysusers.d/lictor.conf" "$here/sysusers.d/lictor.conf"
	"$1" "$PREFIX/lib/tmpfiles.d/lictor.conf" "$here/tmpfiles.d/lictor.conf"
	"$1" "$example" "$here/lictor.toml"
	"$1" "$doc/examples/postgres-roles.sql" "$here/../migrations/roles.sql"
	"$1" "$doc/examples/prometheus-rules.yml" "$here/prometheus-rules.yml"
	"$1" "$doc/examples/grafana-dashboard.json" "$here/grafana-dashboard.json"
}
completions() {
	"$1" "$PREFIX/share/bash-completion/completions/lictor" bash
	"$1" "$zsh" zsh
	"$1" "$PREFIX/share/fish/vendor_completions.d/lictor.fish" fish
}

# put replaces a file by what it reads, at once: whoever uses the old one keeps it.
put() { # PLACE [MODE]
	[ -d "$DESTDIR${1%/*}" ] || mkdir -p "$DESTDIR${1%/*}"
	cat >"$DESTDIR$1.new"
	[ -z "${2:-}" ] || chmod "$2" "$DESTDIR$1.new"
	mv -f "$DESTDIR$1.new" "$DESTDIR$1"
}
place() { printf '%s\n' "$DESTDIR$1"; }
put_file() { sed "s|/usr/bin/lictor|$bin|g" "$2" | put "$1"; }
put_completion() {
	text=$("$LICTOR" completion "$2") # not in a pipe, where a failure would go unnoticed
	printf '%s\n' "$text" | put "$1"
}
say() { echo "lictor: $*"; }

# The configuration is replaced only while it is what an earlier install put there.
put_config() {
	if [ ! -e "$DESTDIR$config" ] || cmp -s "$DESTDIR$config" "$DESTDIR$example"; then
		put "$config" <"$here/lictor.toml"
	elif ! cmp -s "$DESTDIR$config" "$here/lictor.toml"; then
		say "$config was changed and is kept; the defaults of this version: $example"
	fi
}

put_man() {
	mkdir -p "$DESTDIR$man"
	remove_man # of commands that there are no longer
	"$LICTOR" man "$DESTDIR$man"
}
remove_man() { rm -f "$DESTDIR$man/lictor.1" "$DESTDIR$man"/lictor-*.1; }

booted() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; }

install() {
	put "$bin" 755 <"$LICTOR"
	put_config
	files put_file
	completions put_completion
	put_man
	[ -z "$DESTDIR" ] || return 0
	systemd-sysusers "$PREFIX/lib/sysusers.d/lictor.conf"
	systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/lictor.conf"
	journalctl --update-catalog
	! booted || systemctl daemon-reload
	if booted && systemctl -q is-active lictor.service; then
		say 'the daemon is still the one of before; no run feels it if you: systemctl restart lictor'
	else
		say 'installed. The daemon: systemctl enable --now lictor, or for one user: systemctl --user enable --now lictor'
	fi
}

# uninstall ends no run: their limits are the kernel's and systemd's, and the next lictor completes their records.
uninstall() {
	if booted; then
		systemctl -q --global disable lictor.service 2>/dev/null || :
		systemctl -q disable --now lictor.service lictor.socket lictor-http.socket 2>/dev/null || :
	fi
	rm -f "$DESTDIR$bin"
	{ files place && completions place; } | xargs -d '\n' rm -f
	remove_man
	rmdir "$DESTDIR$doc/examples" "$DESTDIR$doc" 2>/dev/null || :
	[ -z "$DESTDIR" ] || return 0
	journalctl --update-catalog
	! booted || systemctl daemon-reload
	say "removed. Kept: /etc/lictor (configuration), /var/lib/lictor and ~/.local/state/lictor (records), the groups lictor and lictor-admin, and every live run"
}

case ${1:-} in
install | uninstall) "$1" ;;
*)
	echo "usage: $0 install|uninstall" >&2
	exit 2
	;;
esac

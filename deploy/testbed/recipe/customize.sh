#!/bin/sh
# Runs on the host as mmdebstrap's customize hook: $1 is the guest's root directory, LICTOR_RECIPE the directory of
# this file, LICTOR_PUBKEY the ssh key that may log in, LICTOR_OUT where the kernel and the initrd go.
set -eu
root=$1

cp -r --no-preserve=ownership "$LICTOR_RECIPE"/overlay/. "$root"

echo lictor-testbed >"$root/etc/hostname"
printf '127.0.0.1 localhost lictor-testbed\n' >"$root/etc/hosts"
# The initrd has mounted the root file system as it should be, and has set up the network.
: >"$root/etc/fstab"
rm -f "$root/etc/machine-id"
chroot "$root" systemd-machine-id-setup >/dev/null 2>&1

for user in alice:1000 bob:1001; do
	chroot "$root" useradd --create-home --shell /bin/bash --uid "${user#*:}" --user-group "${user%:*}"
done
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/alice" "$root/var/lib/systemd/linger/bob"

for home in root home/alice home/bob; do
	mkdir -p -m 700 "$root/$home/.ssh"
	printf '%s\n' "$LICTOR_PUBKEY" >"$root/$home/.ssh/authorized_keys"
done
chroot "$root" chown -R alice:alice /home/alice/.ssh
chroot "$root" chown -R bob:bob /home/bob/.ssh

# One host key is enough, and quicker to load.
rm -f "$root"/etc/ssh/ssh_host_*
chroot "$root" ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key

chroot "$root" systemctl set-default --quiet multi-user.target
chroot "$root" systemctl enable --quiet ssh.service
chroot "$root" systemctl disable --quiet earlyoom.service
grep -v '^#' "$LICTOR_RECIPE/masked.txt" | while read -r unit; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
grep -v '^#' "$LICTOR_RECIPE/masked-user.txt" | while read -r unit; do
	ln -sf /dev/null "$root/etc/systemd/user/$unit"
done

sh "$LICTOR_RECIPE/boot.sh" "$root" "$LICTOR_OUT"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/usr/share/doc/* \
	"$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/boot/*
# Nothing is left to be updated at the first boot (systemd-update-done.service(8)).
chroot "$root" ldconfig
chroot "$root" journalctl --update-catalog
touch "$root/etc/.updated" "$root/var/.updated"

#!/bin/sh
# Runs on the host, as mmdebstrap's customize hook: $1 is the guest's root directory.
# LICTOR_OVERLAY is the overlay tree, LICTOR_PUBKEY the key that may log in.
set -eu
root=$1

cp -r --no-preserve=ownership "$LICTOR_OVERLAY"/. "$root"

echo lictor-testbed >"$root/etc/hostname"
printf '127.0.0.1 localhost lictor-testbed\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults,noatime 0 0\n' >"$root/etc/fstab"
: >"$root/etc/machine-id"

for user in alice:1000 bob:1001; do
	chroot "$root" useradd --create-home --shell /bin/bash --uid "${user#*:}" --user-group "${user%:*}"
done
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/alice" "$root/var/lib/systemd/linger/bob"

for home in root home/alice home/bob; do
	install -d -m 700 "$root/$home/.ssh"
	printf '%s\n' "$LICTOR_PUBKEY" >"$root/$home/.ssh/authorized_keys"
done
chroot "$root" chown -R alice:alice /home/alice/.ssh
chroot "$root" chown -R bob:bob /home/bob/.ssh

# One host key is enough, and quicker to load.
rm -f "$root"/etc/ssh/ssh_host_*
chroot "$root" ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key

# The other killers are for the tests that start them.
chroot "$root" systemctl disable --quiet earlyoom.service systemd-oomd.service systemd-oomd.socket || true

# What a test guest never needs, and what slows its boot.
for unit in \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer man-db.timer logrotate.timer systemd-tmpfiles-clean.timer \
	getty@tty1.service serial-getty@ttyS0.service getty-static.service console-getty.service \
	systemd-timesyncd.service systemd-networkd.service systemd-networkd.socket \
	systemd-networkd-wait-online.service systemd-firstboot.service systemd-pcrphase.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl enable --quiet testbed-net.service ssh.service
chroot "$root" systemctl set-default --quiet multi-user.target

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/usr/share/doc/* \
	"$root"/usr/share/man/* "$root"/usr/share/locale/*

#!/bin/busybox sh
# /init of a guest: the disk, the fixed addresses of qemu's user network, and on to systemd.
busybox mount -t devtmpfs dev /dev
while read -r module; do
	busybox insmod "/modules/$module"
done </order
busybox ip link set lo up
busybox ip address add 10.0.2.15/24 dev eth0
busybox ip link set eth0 up
busybox ip route add default via 10.0.2.2
busybox mount -t ext4 -o noatime /dev/vda /new
exec busybox switch_root /new /sbin/init

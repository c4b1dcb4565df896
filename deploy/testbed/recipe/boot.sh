#!/bin/sh
# Makes $2/vmlinux and $2/initrd.img from the kernel in the root directory $1.
#
# Under emulation the kernel takes two seconds to unpack itself, and Debian's initrd eight to find a disk. qemu can
# start an unpacked kernel (PVH), and one disk and one network card need five modules and no search.
set -eu
root=$1 out=$2
version=$(ls "$root/lib/modules")

# The offsets are in Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
vmlinuz=$root/boot/vmlinuz-$version
word() { od -An -t"u$2" -j"$1" -N"$2" "$vmlinuz" | tr -d ' '; }
start=$((($(word 497 1) + 1) * 512 + $(word 584 4)))
payload() { tail -c +$((start + 1)) "$vmlinuz" | head -c $(($(word 588 4) - 4)); }
case $(payload | od -An -tx1 -N4 | tr -d ' ') in
02214c18) payload | chroot "$root" lz4 -dc >"$out/vmlinux" ;;
28b52ffd) payload | chroot "$root" zstd -dc >"$out/vmlinux" ;;
fd377a58) payload | chroot "$root" xz -dc >"$out/vmlinux" ;;
*) echo "kernel $version: compression unknown" >&2 && exit 1 ;;
esac

dir=$root/tmp/initrd
mkdir -p "$dir/bin" "$dir/dev" "$dir/modules" "$dir/new"
cp "$root/bin/busybox" "$dir/bin"
cp "$LICTOR_RECIPE/init.sh" "$dir/init"
chmod 755 "$dir/init"
: >"$dir/order"
for module in virtio_pci virtio_blk virtio_net ext4; do
	chroot "$root" modprobe --set-version "$version" --show-depends "$module"
done | while read -r verb path _; do
	name=$(basename "${path%.xz}")
	[ "$verb" = insmod ] && [ ! -e "$dir/modules/$name" ] || continue
	case $path in
	*.xz) chroot "$root" xz -dc "$path" >"$dir/modules/$name" ;;
	*) cp "$root/$path" "$dir/modules/$name" ;;
	esac
	echo "$name" >>"$dir/order"
done
chroot "$root" sh -c 'cd /tmp/initrd && find . | cpio --quiet -o -H newc' >"$out/initrd.img"
rm -rf "$dir"

#!/bin/bash -e
# A stage for pi-gen. Copy the folder stage-set-rto next to pi-gen's stage2, and the Debian packages of `cargo xtask dist`
# into 00-set-rto/files. In pi-gen's config:
#
#     STAGE_LIST="stage0 stage1 stage2 stage-set-rto"
#
# The 32-bit image also runs on a Pi Zero and a Pi 1: it takes the ARMv6 package.
#
# stage2 exports its image as well: `touch stage2/SKIP_IMAGES` if it is not wanted.

architecture=$(on_chroot <<<"dpkg --print-architecture")
case "${architecture}" in
armhf) name="set-rto_*_armhf_pi-zero-and-1.deb" ;;
*) name="set-rto_*_${architecture}.deb" ;;
esac
mapfile -t packages < <(compgen -G "files/${name}")
if [ ${#packages[@]} -ne 1 ]; then
	echo "set-rto: files/ must have one package ${name}" >&2
	exit 1
fi
install -m 644 "${packages[0]}" "${ROOTFS_DIR}/root/set-rto.deb"

# systemd does not run in the image: `enable` makes a link, and the first boot attaches the rules.
on_chroot <<END
dpkg -i /root/set-rto.deb
rm /root/set-rto.deb
systemctl enable set-rto
END

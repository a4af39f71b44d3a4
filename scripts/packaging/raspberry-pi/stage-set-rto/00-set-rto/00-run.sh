#!/bin/bash -e
# A stage for pi-gen: copy the folder stage-set-rto next to its stage2, put the Debian package of `cargo xtask dist`
# into 00-set-rto/files, and name the stage in pi-gen's config: STAGE_LIST="stage0 stage1 stage2 stage-set-rto".
#
# Tried: this stage with pi-gen's own functions (copy_previous, on_chroot) on a root of Debian. Not tried: a complete
# run of pi-gen, and a Raspberry Pi.

package=$(ls files/set-rto_*.deb)
install -m 644 "$package" "${ROOTFS_DIR}/root/set-rto.deb"

# systemd does not run in the image: `enable` makes a link, and the first boot attaches the rules.
on_chroot <<END
dpkg -i /root/set-rto.deb
rm /root/set-rto.deb
systemctl enable set-rto
END

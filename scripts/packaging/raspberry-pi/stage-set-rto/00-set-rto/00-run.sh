#!/bin/bash -e
# A stage for pi-gen: copy the folder stage-set-rto beside its stage2, put the Debian package that `cargo xtask dist`
# made into 00-set-rto/files, and name the stage in pi-gen's config: STAGE_LIST="stage0 stage1 stage2 stage-set-rto".
#
# Tried: this stage with pi-gen's own functions (copy_previous, on_chroot) on a root of Debian. Not tried: a whole
# run of pi-gen, and a Raspberry Pi.

package=$(ls files/set-rto_*.deb)
install -m 644 "$package" "${ROOTFS_DIR}/root/set-rto.deb"

# In the image there is no systemd yet: `enable` is a link, the rules come into force at the first boot.
on_chroot <<END
dpkg -i /root/set-rto.deb
rm /root/set-rto.deb
systemctl enable set-rto
END

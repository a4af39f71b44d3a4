#!/bin/sh
# Run in the image before it boots, as those who build images do: in a chroot, with no systemd.
set -e
dpkg -i /payload/1.deb >/dev/null
systemctl enable set-rto systemd-networkd

# An interface that appears while the system boots, as a radio does.
cat >/etc/systemd/network/10-radio.netdev <<END
[NetDev]
Name=radio0
Kind=dummy
END
cat >/etc/systemd/network/10-radio.network <<END
[Match]
Name=radio0
[Network]
Address=192.0.2.1/24
Address=198.51.100.1/24
LinkLocalAddressing=no
END
cat >/etc/systemd/system/image.service <<END
[Unit]
After=systemd-networkd.service
[Service]
Type=exec
ExecStart=/bin/bash /payload/test.sh
StandardOutput=tty
TTYPath=/dev/console
[Install]
WantedBy=multi-user.target
END
systemctl enable image

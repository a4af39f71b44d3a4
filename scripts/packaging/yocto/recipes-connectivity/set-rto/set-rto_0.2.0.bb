# For rules of your own, in a set-rto_%.bbappend with files/rules.toml beside it:
#
#     FILESEXTRAPATHS:prepend := "${THISDIR}/files:"
#     SRC_URI += "file://rules.toml"
#     SET_RTO_RULES = "${UNPACKDIR}/rules.toml"
SUMMARY = "TCP's first retransmit timer per connection, by rules compiled into the binary"
HOMEPAGE = "https://set-rto.invalid/set-rto"
SECTION = "net"
# The second: the BPF program inside the binary.
LICENSE = "(Apache-2.0 OR MIT) AND (GPL-2.0-only OR MIT)"
LIC_FILES_CHKSUM = " \
    file://LICENSE-MIT;md5=6e182b04f1a19dca42d17a46901249f4 \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
    file://LICENSE-GPL-2.0;md5=b234ee4d69f5fce4486a80fdaf4a4263 \
"

SRC_URI = "https://set-rto.invalid/set-rto/releases/download/v${PV}/set-rto-${PV}.tar.gz"
SRC_URI[sha256sum] = "0000000000000000000000000000000000000000000000000000000000000000"

inherit cargo cargo-update-recipe-crates systemd update-rc.d

require ${BPN}-crates.inc

# clang compiles the BPF program, and the build script reads it with the native libbpf. libbpf is in meta-oe: 1.5 or newer.
DEPENDS = "clang-native elfutils elfutils-native libbpf libbpf-native zlib zlib-native"

export CLANG = "${STAGING_BINDIR_NATIVE}/clang"
SET_RTO_RULES ?= "${S}/rules.toml"
export SET_RTO_RULES
# The tree strips by itself, and keeps what it took away.
export CARGO_PROFILE_RELEASE_STRIP = "false"

CARGO_BUILD_FLAGS += "--package set-rto --no-default-features --features system"

SYSTEMD_SERVICE:${PN} = "set-rto.service"
INITSCRIPT_NAME = "set-rto"
INITSCRIPT_PARAMS = "start 35 S ."

do_install:append() {
    install -d ${D}${sbindir}
    mv ${D}${bindir}/set-rto ${D}${sbindir}/set-rto
    install -D -m 0644 ${S}/scripts/packaging/systemd/set-rto.service ${D}${systemd_system_unitdir}/set-rto.service
    install -D -m 0755 ${S}/scripts/packaging/buildroot/set-rto/S35set-rto ${D}${sysconfdir}/init.d/set-rto
    install -D -m 0644 ${S}/scripts/packaging/man/set-rto.8 ${D}${mandir}/man8/set-rto.8
    install -D -m 0644 ${S}/scripts/packaging/man/set-rto-rules.5 ${D}${mandir}/man5/set-rto-rules.5
}

# For a layer of yours. Its set-rto_%.bbappend says where the sources are: SRC_URI, or EXTERNALSRC (externalsrc.bbclass).
# `bitbake -c update_crates set-rto` then writes set-rto-crates.inc out of Cargo.lock. For rules of your own, beside the
# .bbappend as files/rules.toml:
#
#     FILESEXTRAPATHS:prepend := "${THISDIR}/files:"
#     SRC_URI += "file://rules.toml"
#     SET_RTO_RULES = "${UNPACKDIR}/rules.toml"
#
# Tried: bitbake and openembedded-core (blacksail) read it and find what it depends on. Not tried: a build.
SUMMARY = "TCP's first retransmit timer per connection, by rules compiled into the binary"
LICENSE = "Apache-2.0 OR MIT"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=6e182b04f1a19dca42d17a46901249f4"

inherit cargo cargo-update-recipe-crates pkgconfig systemd update-rc.d

# Not there before the first `update_crates`.
include ${BPN}-crates.inc

# clang (of meta-clang, or of the core since 5.3) compiles the BPF program.
DEPENDS = "clang-native"

export CLANG = "${STAGING_BINDIR_NATIVE}/clang"
SET_RTO_RULES ?= "${S}/rules.toml"
export SET_RTO_RULES
# As in .cargo/config.toml, which cargo reads only where it is called inside the tree.
export LIBBPF_SYS_EXTRA_CFLAGS = "-I../../elfutils/libelf -I../../zlib"
# The tree strips by itself, and keeps what it took away.
export CARGO_PROFILE_RELEASE_STRIP = "false"

CARGO_BUILD_FLAGS += "--package set-rto"

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

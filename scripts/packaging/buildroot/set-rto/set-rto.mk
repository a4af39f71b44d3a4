################################################################################
#
# set-rto
#
################################################################################

SET_RTO_VERSION = 0.2.0
# By default the name would end in -cargo6, which a release does not have.
# check-package disable lib_mk.RemoveDefaultPackageSourceVariable
SET_RTO_SOURCE = set-rto-$(SET_RTO_VERSION).tar.gz
SET_RTO_SITE = https://set-rto.invalid/set-rto/releases/download/v$(SET_RTO_VERSION)
SET_RTO_LICENSE = MIT or Apache-2.0, GPL-2.0 or MIT (BPF program)
SET_RTO_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE LICENSE-GPL-2.0

# The build script compiles the BPF program and reads it with libbpf.
SET_RTO_DEPENDENCIES = elfutils host-clang host-libbpf libbpf zlib

# Without BR2_PACKAGE_LLVM, which is for the target, nothing else adds the
# backend to host-clang.
ifeq ($(BR2_PACKAGE_SET_RTO),y)
ifeq ($(BR2_PACKAGE_LLVM_BPF),)
# check-package disable TypoInPackageVariable
LLVM_TARGETS_TO_BUILD += BPF
endif
endif

# Not the wrapper, which adds flags for the target's processor.
SET_RTO_CARGO_ENV = CLANG="$(HOST_DIR)/bin/clang.br_real"

SET_RTO_RULES = $(call qstrip,$(BR2_PACKAGE_SET_RTO_RULES))
ifneq ($(SET_RTO_RULES),)
SET_RTO_CARGO_ENV += SET_RTO_RULES="$(abspath $(SET_RTO_RULES))"
endif

SET_RTO_CARGO_BUILD_OPTS = --package set-rto --no-default-features --features system

define SET_RTO_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_BPF_SYSCALL)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BPF_JIT)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUPS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_BPF)
endef

# cargo install would put it into /usr/bin.
define SET_RTO_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)/set-rto \
		$(TARGET_DIR)/usr/sbin/set-rto
endef

define SET_RTO_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(SET_RTO_PKGDIR)/S35set-rto $(TARGET_DIR)/etc/init.d/S35set-rto
endef

define SET_RTO_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/scripts/packaging/systemd/set-rto.service \
		$(TARGET_DIR)/usr/lib/systemd/system/set-rto.service
endef

$(eval $(cargo-package))

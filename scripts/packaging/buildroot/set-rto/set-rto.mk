################################################################################
#
# set-rto
#
################################################################################

# For a tree of your own (BR2_EXTERNAL): `source` Config.in from its Config.in,
# `include` this file from its external.mk.
#
# Tried: Buildroot reads both files, and utils/check-package has no complaint.
# Not tried: a build inside Buildroot, and the init script.
SET_RTO_VERSION = 0.2.0
SET_RTO_SITE = $(call qstrip,$(BR2_PACKAGE_SET_RTO_TREE))
SET_RTO_SITE_METHOD = local
SET_RTO_LICENSE = MIT or Apache-2.0, GPL-2.0 or MIT (BPF program)
SET_RTO_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE LICENSE-GPL-2.0

# libbpf-sys asks for it.
SET_RTO_DEPENDENCIES = host-pkgconf

SET_RTO_CARGO_ENV = CLANG="$(call qstrip,$(BR2_PACKAGE_SET_RTO_CLANG))"

ifneq ($(call qstrip,$(BR2_PACKAGE_SET_RTO_RULES)),)
SET_RTO_CARGO_ENV += SET_RTO_RULES=$(abspath $(call qstrip,$(BR2_PACKAGE_SET_RTO_RULES)))
endif

# What Cargo.lock names; the build itself is offline.
define SET_RTO_FETCH
	cd $(@D) && $(TARGET_MAKE_ENV) $(PKG_CARGO_ENV) cargo fetch --locked
endef
SET_RTO_PRE_BUILD_HOOKS += SET_RTO_FETCH

define SET_RTO_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_BPF_SYSCALL)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BPF_JIT)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUPS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_BPF)
endef

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

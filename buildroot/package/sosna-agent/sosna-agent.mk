################################################################################
#
# sosna-agent
#
################################################################################

# The same number as in the Cargo.toml at the top of the repository; utils/check
# compares them.
SOSNA_AGENT_VERSION = 0.1.0
# Not GitHub's archive of the tag, but the one that utils/pack-source makes for a
# release: with the crates inside, and without buildroot/, so that the hash beside
# this file can be part of the release it is about.
SOSNA_AGENT_SOURCE = sosna-agent-$(SOSNA_AGENT_VERSION)-vendored.tar.gz
SOSNA_AGENT_SITE = https://github.com/sosna/sosna/releases/download/v$(SOSNA_AGENT_VERSION)
SOSNA_AGENT_LICENSE = Apache-2.0 or MIT
SOSNA_AGENT_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT
SOSNA_AGENT_INSTALL_IMAGES = YES

# One file without a C library beside it: the slot holds none.
SOSNA_AGENT_RUSTFLAGS = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs

SOSNA_AGENT_CARGO_ENV = \
	CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))_RUSTFLAGS="$(SOSNA_AGENT_RUSTFLAGS)"

SOSNA_AGENT_BUILT = $(@D)/target/$(RUSTC_TARGET_NAME)/dist
SOSNA_AGENT_SHARE = $(TARGET_DIR)/usr/share/sosna

# The infrastructure builds with --release, and the repository has a profile of its own for
# devices: size goes before speed, and a panic ends the program.
define SOSNA_AGENT_BUILD_CMDS
	cd $(@D) && \
	$(TARGET_MAKE_ENV) $(TARGET_CONFIGURE_OPTS) $(PKG_CARGO_ENV) $(SOSNA_AGENT_CARGO_ENV) \
		cargo build --offline --locked --profile dist \
			--package sosna-agent --bin sosna-agent \
			--package sosna-boot --bin sosna-init
endef

# `cargo install` would compile everything once more for each program.
define SOSNA_AGENT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(SOSNA_AGENT_BUILT)/sosna-agent \
		$(TARGET_DIR)/usr/bin/sosna-agent
	$(INSTALL) -D -m 0644 $(@D)/LICENSE-APACHE \
		$(SOSNA_AGENT_SHARE)/licences/sosna/LICENSE-APACHE
	$(INSTALL) -D -m 0644 $(@D)/LICENSE-MIT \
		$(SOSNA_AGENT_SHARE)/licences/sosna/LICENSE-MIT
	$(INSTALL) -D -m 0644 $(@D)/Cargo.lock \
		$(SOSNA_AGENT_SHARE)/sbom/Cargo.lock
endef

# Not for the slot: post-image.sh puts it into the initramfs.
define SOSNA_AGENT_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0755 $(SOSNA_AGENT_BUILT)/sosna-init \
		$(BINARIES_DIR)/sosna-init
endef

$(eval $(cargo-package))

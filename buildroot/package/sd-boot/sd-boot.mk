################################################################################
#
# sd-boot
#
################################################################################

# Version, site and hashes are those of Buildroot's systemd, whose download is shared.
SD_BOOT_VERSION = 258.7
SD_BOOT_SOURCE = systemd-$(SD_BOOT_VERSION).tar.gz
SD_BOOT_SITE = $(call github,systemd,systemd,v$(SD_BOOT_VERSION))
SD_BOOT_DL_SUBDIR = systemd
SD_BOOT_LICENSE = LGPL-2.1+
SD_BOOT_LICENSE_FILES = LICENSE.LGPL2.1
SD_BOOT_CPE_ID_VENDOR = systemd_project
SD_BOOT_CPE_ID_PRODUCT = systemd
SD_BOOT_INSTALL_IMAGES = YES
SD_BOOT_INSTALL_TARGET = NO
# systemd's build description asks for the libraries of its user space even when only
# the boot manager is made; none of them reaches the slot.
SD_BOOT_DEPENDENCIES = \
	host-gperf \
	host-python-jinja2 \
	host-python-pyelftools \
	libcap \
	libxcrypt \
	util-linux-libs

SD_BOOT_CONF_OPTS = \
	-Dbootloader=enabled \
	-Defi=true \
	-Dfuzz-tests=false \
	-Dman=disabled \
	-Dmode=release \
	-Dsbat-distro= \
	-Dtests=false \
	-Dtpm=true \
	-Dukify=disabled \
	-Dvcs-tag=false

SD_BOOT_EFI_ARCH = $(if $(BR2_x86_64),x64,aa64)

SD_BOOT_FILES = \
	src/boot/systemd-boot$(SD_BOOT_EFI_ARCH).efi \
	src/boot/linux$(SD_BOOT_EFI_ARCH).efi.stub

define SD_BOOT_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(NINJA) $(NINJA_OPTS) -C $(@D)/buildroot-build $(SD_BOOT_FILES)
endef

define SD_BOOT_INSTALL_IMAGES_CMDS
	$(foreach f,$(SD_BOOT_FILES), \
		$(INSTALL) -D -m 0644 $(@D)/buildroot-build/$(f) \
			$(BINARIES_DIR)/sd-boot/$(notdir $(f))
	)
endef

$(eval $(meson-package))

################################################################################
#
# e2fs-static
#
################################################################################

# Version, site and hashes are those of Buildroot's e2fsprogs, whose download is shared.
E2FS_STATIC_VERSION = 1.47.4
E2FS_STATIC_SOURCE = e2fsprogs-$(E2FS_STATIC_VERSION).tar.xz
E2FS_STATIC_SITE = $(BR2_KERNEL_MIRROR)/linux/kernel/people/tytso/e2fsprogs/v$(E2FS_STATIC_VERSION)
E2FS_STATIC_DL_SUBDIR = e2fsprogs
E2FS_STATIC_LICENSE = GPL-2.0, MIT-like with advertising clause (libss and libet)
E2FS_STATIC_LICENSE_FILES = NOTICE lib/ss/mit-sipb-copyright.h lib/et/internal.h
E2FS_STATIC_CPE_ID_VENDOR = e2fsprogs_project
E2FS_STATIC_CPE_ID_PRODUCT = e2fsprogs
E2FS_STATIC_DEPENDENCIES = host-pkgconf

# With its own libblkid and libuuid: nothing else is needed, and nothing is shared.
E2FS_STATIC_CONF_OPTS = \
	--disable-debugfs \
	--disable-defrag \
	--disable-e2initrd-helper \
	--disable-elf-shlibs \
	--disable-fsck \
	--disable-fuse2fs \
	--disable-imager \
	--disable-resizer \
	--disable-testio-debug \
	--disable-tls \
	--disable-uuidd \
	--enable-libblkid \
	--enable-libuuid \
	--without-libarchive

E2FS_STATIC_CONF_ENV = ac_cv_path_LDCONFIG=true

define E2FS_STATIC_BUILD_CMDS
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D) libs
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D)/e2fsck e2fsck.static
	$(TARGET_MAKE_ENV) $(MAKE) -C $(@D)/misc mke2fs.static
endef

define E2FS_STATIC_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/e2fsck/e2fsck.static $(TARGET_DIR)/usr/sbin/e2fsck
	$(INSTALL) -D -m 0755 $(@D)/misc/mke2fs.static $(TARGET_DIR)/usr/sbin/mkfs.ext4
	$(INSTALL) -D -m 0644 $(@D)/NOTICE \
		$(TARGET_DIR)/usr/share/sosna/licences/e2fsprogs/NOTICE
endef

$(eval $(autotools-package))

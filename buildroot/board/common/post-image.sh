#!/bin/sh
# From what Buildroot made to a disk image: the slot with its hash tree, the initramfs that opens
# it, the root hash in the command line of the slot's boot files, and the partitions.
set -eu

board=$2
common=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
boards=$(dirname -- "${common}")
images=${BINARIES_DIR}
scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT

fail() {
	echo "post-image.sh: $*" >&2
	exit 1
}

version=$(sed -n 's/^SOSNA_AGENT_VERSION = //p' \
	"${BR2_EXTERNAL_SOSNA_PATH}/package/sosna-agent/sosna-agent.mk")
[ -n "${version}" ] || fail "sosna-agent.mk names no version"

# The slot: squashfs, padded to whole blocks, and at once its hash tree without superblock. The
# salt comes from the content, so that equal slots have equal hashes.
slot=${images}/sosna-slot.img
cp "${images}/rootfs.squashfs" "${slot}"
truncate -s %4096 "${slot}"
size=$(stat -c %s "${slot}")
blocks=$((size / 4096))
salt=$(sha256sum "${slot}" | cut -d' ' -f1)
root=$("${HOST_DIR}/sbin/veritysetup" format --no-superblock --format=1 --hash=sha256 \
	--data-block-size=4096 --hash-block-size=4096 --data-blocks="${blocks}" \
	--hash-offset="${size}" --salt="${salt}" "${slot}" "${slot}" |
	sed -n 's/^Root hash:[[:space:]]*//p')
[ "${#root}" -eq 64 ] || fail "veritysetup named no root hash"
"${HOST_DIR}/sbin/veritysetup" verify --no-superblock --format=1 --hash=sha256 \
	--data-block-size=4096 --hash-block-size=4096 --data-blocks="${blocks}" \
	--hash-offset="${size}" --salt="${salt}" "${slot}" "${slot}" "${root}"

# The initramfs: the first program, and no modules, because the kernel has all built in.
mkdir -p "${scratch}/initramfs/modules"
for folder in dev proc sys run slot; do
	mkdir "${scratch}/initramfs/${folder}"
done
install -m 0755 "${images}/sosna-init" "${scratch}/initramfs/init"
: >"${scratch}/initramfs/modules/order"
find "${scratch}/initramfs" -exec touch -h -d @1 {} +
(cd "${scratch}/initramfs" && find . -mindepth 1 | LC_ALL=C sort |
	cpio --quiet -o -H newc --reproducible -R +0:+0) >"${scratch}/initramfs.cpio"
"${HOST_DIR}/bin/zstd" -q -19 -f --no-progress -o "${images}/initramfs.cpio.zst" \
	"${scratch}/initramfs.cpio"

# The kernel's command line of slot a; the last console is where the device speaks to people.
cmdline() {
	printf 'sosna.slot=a sosna.verity=%s:%s:%s sosna.board=%s sosna.version=%s %s panic=-1 quiet' \
		"${root}" "${salt}" "${blocks}" "${board}" "${version}" "$1"
}

# One file for UEFI: the stub with its sections behind each other, each at a page's start.
unified() {
	stub=$1
	kernel=$2
	tool=$(find "${HOST_DIR}/bin" -name '*-linux*-objcopy' | head -n 1)
	[ -n "${tool}" ] || fail "there is no objcopy in ${HOST_DIR}/bin"
	printf 'VERSION_ID=%s\nID=sosna\nPRETTY_NAME="Sosna %s"\n' "${version}" "${version}" \
		>"${scratch}/osrel"
	set --
	next=$("${tool%objcopy}objdump" -h "${stub}" | awk '
		function number(text,    i, sum) {
			for (i = 1; i <= length(text); i++)
				sum = sum * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
			return sum
		}
		$1 ~ /^[0-9]+$/ { end = number($4) + number($3); if (end > last) last = end }
		END { printf "%.0f", last }')
	for section in osrel cmdline initrd linux; do
		case ${section} in
		initrd) file=${images}/initramfs.cpio.zst ;;
		linux) file=${kernel} ;;
		*) file=${scratch}/${section} ;;
		esac
		next=$(((next + 4095) / 4096 * 4096))
		set -- "$@" --add-section ".${section}=${file}" \
			--change-section-vma ".${section}=${next}"
		next=$((next + $(stat -c %s "${file}")))
	done
	"${tool}" "$@" "${stub}" "${images}/sosna-slot.efi"
}

config=${scratch}/genimage.cfg
cp "${common}/sosna-README.txt" "${images}/sosna-README.txt"
case ${board} in
x86_64-uefi)
	cmdline 'console=tty0 console=ttyS0,115200' >"${scratch}/cmdline"
	unified "${images}/sd-boot/linuxx64.efi.stub" "${images}/bzImage"
	cp "${common}/loader.conf" "${images}/loader.conf"
	sed "s/@VERSION@/${version}/" "${boards}/${board}/genimage.cfg" >"${config}"
	;;
arm64-uefi)
	cmdline 'console=tty0 console=ttyAMA0' >"${scratch}/cmdline"
	unified "${images}/sd-boot/linuxaa64.efi.stub" "${images}/Image"
	cp "${common}/loader.conf" "${images}/loader.conf"
	sed "s/@VERSION@/${version}/" "${boards}/${board}/genimage.cfg" >"${config}"
	;;
nanopi-r2s)
	printf 'bootargs=%s\n' "$(cmdline 'console=ttyS2,1500000')" >"${images}/boot.env"
	"${HOST_DIR}/bin/mkenvimage" -r -s 0x4000 -o "${images}/uboot.env" \
		"${boards}/${board}/uboot.env.txt"
	cp "${boards}/${board}/genimage.cfg" "${config}"
	;;
rpi4 | rpi5)
	# The foundation's device trees turn the memory controller off, and this turns it on again.
	cmdline 'cgroup_enable=memory console=serial0,115200 console=tty1' >"${images}/cmdline.txt"
	cp "${boards}/rpi/config.txt" "${boards}/rpi/autoboot.txt" "${images}/"
	list='"config.txt", "cmdline.txt", "Image", "initramfs.cpio.zst"'
	for file in "${images}"/*.dtb; do
		list="${list}, \"$(basename -- "${file}")\""
	done
	# The Pi 5's firmware is in the board itself.
	if [ "${board}" = rpi4 ]; then
		for file in start4.elf fixup4.dat; do
			cp "${images}/rpi-firmware/${file}" "${images}/${file}"
			list="${list}, \"${file}\""
		done
	fi
	sed -e "s/@FILES@/${list}/" -e "s/@BOARD@/${board}/" -e "s/@NUMBER@/${board#rpi}/" \
		"${boards}/rpi/genimage.cfg" >"${config}"
	;;
*)
	fail "there is no board ${board}; the boards are the folders of ${boards}"
	;;
esac

mkdir "${scratch}/root"
"${HOST_DIR}/bin/genimage" --config "${config}" --rootpath "${scratch}/root" \
	--tmppath "${scratch}/genimage" --inputpath "${images}" --outputpath "${images}"
(cd "${images}" && sha256sum "sosna-${board}.img" sosna-slot.img >"sosna-${board}.sha256")

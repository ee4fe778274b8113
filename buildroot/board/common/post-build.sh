#!/bin/sh
# Adds to Buildroot's target folder what no package brings: who the image is, the folders that the
# device mounts into, the order of modules, and the empty file system of a first boot.
set -eu

target=$1
board=$2

fail() {
	echo "post-build.sh: $*" >&2
	exit 1
}

version=$(sed -n 's/^SOSNA_AGENT_VERSION = //p' \
	"${BR2_EXTERNAL_SOSNA_PATH}/package/sosna-agent/sosna-agent.mk")
[ -n "${version}" ] || fail "sosna-agent.mk names no version"

for folder in boot data dev etc proc run sys tmp usr/lib/modules usr/share/sosna var; do
	mkdir -p "${target}/${folder}"
done

cat >"${target}/etc/os-release.new" <<EOF
NAME="Sosna"
ID=sosna
PRETTY_NAME="Sosna ${version}"
VERSION_ID=${version}
VARIANT_ID=${board}
BUILD_ID=buildroot
EOF
rm -f "${target}/etc/os-release"
mv "${target}/etc/os-release.new" "${target}/etc/os-release"
ln -sfn /run/resolv.conf "${target}/etc/resolv.conf"

# The kernels of this tree have everything built in: there is nothing to load.
: >"${target}/usr/lib/modules/order"

# What the data partition is at first: empty, and grown by the device to the room there is. The
# numbers and the time make it the same file in each build.
template=$(mktemp -d)
trap 'rm -rf "${template}"' EXIT
truncate -s 64M "${template}/data.ext4"
SOURCE_DATE_EPOCH=1 E2FSPROGS_FAKE_TIME=1 "${HOST_DIR}/sbin/mkfs.ext4" -q -F -b 4096 -m 0 -L sosna-data \
	-U 5f4d1f2e-6a9b-4c5e-9b0c-0d1a2b3c4dff \
	-E lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed=5f4d1f2e-6a9b-4c5e-9b0c-0d1a2b3c4dfe \
	"${template}/data.ext4"
"${HOST_DIR}/bin/zstd" -q -19 -f --no-progress -o "${target}/usr/share/sosna/data.ext4.zst" \
	"${template}/data.ext4"

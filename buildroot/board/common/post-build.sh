#!/bin/sh
# Makes Buildroot's target folder a slot: the files of slot.list and nothing else. No shell, no
# login and no library is left; what is missing ends the build.
set -eu

target=$1
board=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

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
# two numbers make it the same file in each build; the device gives it a name of its own.
template=$(mktemp -d)
trap 'rm -rf "${template}"' EXIT
truncate -s 64M "${template}/data.ext4"
E2FSPROGS_FAKE_TIME=1 "${HOST_DIR}/sbin/mkfs.ext4" -q -F -b 4096 -m 0 -L sosna-data \
	-U 5f4d1f2e-6a9b-4c5e-9b0c-0d1a2b3c4dff \
	-E lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed=5f4d1f2e-6a9b-4c5e-9b0c-0d1a2b3c4dfe \
	"${template}/data.ext4"
"${HOST_DIR}/bin/zstd" -q -19 -f --no-progress -o "${target}/usr/share/sosna/data.ext4.zst" \
	"${template}/data.ext4"

# From the leaves up: a folder goes when nothing in it stayed.
set -f
keep=$(grep -v '^#' "${here}/slot.list")
find "${target}" -mindepth 1 -depth | while IFS= read -r path; do
	inside=${path#"${target}"}
	for pattern in ${keep}; do
		# shellcheck disable=SC2254 # the list holds patterns
		case ${inside} in
		${pattern}) continue 2 ;;
		esac
	done
	if [ -d "${path}" ] && [ ! -L "${path}" ]; then
		rmdir "${path}"
	else
		rm -f "${path}"
	fi
	echo "not in slot.list, removed: ${inside}"
done
set +f

for name in sh ash bash dash busybox login getty agetty sulogin su sshd dropbear telnetd; do
	found=$(find "${target}" -name "${name}")
	[ -z "${found}" ] || fail "a slot has no shell and no login, but here is ${found}"
done

for program in usr/bin/sosna-agent usr/sbin/e2fsck usr/sbin/mkfs.ext4; do
	[ -x "${target}/${program}" ] || fail "/${program} is missing"
	if readelf -lW "${target}/${program}" | grep -q INTERP; then
		fail "/${program} wants a dynamic linker, and a slot has none"
	fi
done
[ -s "${target}/etc/ssl/certs/ca-certificates.crt" ] || fail "there are no certificates"

#!/bin/sh
# Leaves in a slot the files of slot.list and nothing else. It runs in Buildroot's fakeroot, on the
# copy from which the file system is made: the target folder, and so the next make, stay as they
# are. No shell, no login and no library is left; what is missing ends the build.
set -eu

target=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
	echo "post-fakeroot.sh: $*" >&2
	exit 1
}

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

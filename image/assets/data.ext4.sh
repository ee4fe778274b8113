#!/bin/sh
# Makes data.ext4.zst, the empty file system that a device's data partition begins as. Needs mke2fs of e2fsprogs 1.47
# and zstd, no root. Growth: up to 8 TiB, for which 4 MiB of descriptors are kept free. The same bytes each time.
set -eu
cd "$(dirname "$0")"
out=${1:-data.ext4.zst}
image=$(mktemp)
trap 'rm -f "$image"' EXIT
truncate -s 64M "$image"
E2FSPROGS_FAKE_TIME=1767225600 MKE2FS_CONFIG=/dev/null mke2fs -q -F -t ext4 -b 4096 -I 256 -i 8192 -m 1 -L sosna-data \
  -U 50534e41-6461-4174-8000-000000000001 -J size=16 \
  -O has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
  -E hash_seed=50534e41-6461-4174-8000-000000000002,lazy_itable_init=0,lazy_journal_init=0,nodiscard,resize=2147483648 \
  "$image" 2>/dev/null
zstd -q -19 -f "$image" -o "$out"

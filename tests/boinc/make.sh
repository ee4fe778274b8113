#!/bin/bash
# Makes the exports in `first` and `second` again, by BOINC's own code. See README.md.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: make.sh SOURCE WORK    (BOINC's source tree; a folder for all that is built and unpacked)" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$1" && pwd)
mkdir -p "$2" && work=$(cd "$2" && pwd)
root=$work/root built=$work/built project=$work/project data=$work/data port=33917
mkdir -p "$work"/{debs,include,tmp} "$root" "$built"

# The packages, unpacked and not installed.
if [ ! -x "$root/usr/sbin/mariadbd" ]; then
  (cd "$work/debs" && apt-get -y download mariadb-server-core libmariadb-dev libmariadb3 mariadb-client-core \
    mariadb-common mysql-common libnuma1 liburing2 libfaketime)
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$root"; done
fi
library=$root/usr/lib/$(uname -m)-linux-gnu

# What ./configure would write.
cp "$here/config.h" "$work/include/"
printf '#pragma once\n#include "version.h"\n#define SVN_VERSION BOINC_VERSION_STRING\n' > "$work/include/svn_version.h"
sed 's/@BOINC_MAJOR_VERSION@/8/;s/@BOINC_MINOR_VERSION@/3/;s/@BOINC_RELEASE@/0/;s/@[A-Z_]*VERSION[A-Z_]*@/8.3.0/' \
  "$source/version.h.in" > "$work/include/version.h"

# db_dump and what it needs, each file as it is.
parts="sched/db_dump sched/sched_config sched/sched_limit sched/sched_util sched/sched_util_basic db/boinc_db db/db_base
  lib/coproc lib/opencl_boinc lib/filesys lib/hostinfo lib/md5 lib/md5_file lib/mfile lib/miofile lib/msg_log lib/parse
  lib/sched_msgs lib/shmem lib/str_util lib/url lib/util lib/unix_util lib/keyword lib/synch lib/wslinfo lib/proc_control
  lib/procinfo lib/procinfo_unix"
objects=()
for part in $parts; do
  object=$built/$(basename "$part").o
  objects+=("$object")
  [ "$object" -nt "$source/$part.cpp" ] || g++ -O1 -w -pthread -DHAVE_CONFIG_H -I"$work/include" -I"$source" \
    -I"$source"/{db,lib,sched,tools} -I"$root/usr/include/mariadb" -c "$source/$part.cpp" -o "$object"
done
g++ -pthread -o "$built/db_dump" "${objects[@]}" -L"$library" -Wl,-rpath,"$library" -lmariadb -lssl -lcrypto -lz

# A project's folder.
rm -rf "$project" "$data" && mkdir -p "$project"/{bin,html/ops,cgi-bin} "$data"
cat > "$project/config.xml" <<X
<?xml version="1.0" ?>
<boinc>
  <config>
    <master_url>https://project.example/</master_url>
    <long_name>Fixture</long_name>
    <db_name>fixture</db_name>
    <db_host>127.0.0.1:$port</db_host>
    <db_user>boincadm</db_user>
    <db_passwd>fixture</db_passwd>
  </config>
</boinc>
X
sed 's#^\( *\)<filename>\(user\|host\)</filename>#&\n\1<sort>id</sort>#' "$source/sched/db_dump_spec.xml" \
  > "$project/db_dump_spec.xml"

# Its database.
export LD_LIBRARY_PATH=$library
share=$root/usr/share/mysql
server() {
  "$root/usr/sbin/mariadbd" --no-defaults --basedir="$root/usr" --lc-messages-dir="$share" \
    --character-sets-dir="$share/charsets" --plugin-dir="$root/usr/lib/mysql/plugin" --datadir="$data" \
    --tmpdir="$work/tmp" --user="$(id -un)" --innodb-buffer-pool-size=64M --character-set-server=utf8mb4 \
    --collation-server=utf8mb4_unicode_ci "$@"
}
{
  printf '%s\n' "create database mysql;" "use mysql;" "set @auth_root_socket=NULL;" "set @skip_auth_anonymous=1;" \
    "set @current_hostname='localhost';"
  cat "$share/mysql_system_tables.sql" "$share/mysql_system_tables_data.sql"
} | server --bootstrap --log-warnings=0 > "$work/bootstrap.log" 2>&1
server --bind-address=127.0.0.1 --port=$port --socket="$work/socket" --pid-file="$work/pid" > "$work/server.log" 2>&1 &
running=$!
sql() {
  "$root/usr/bin/mariadb" --no-defaults --character-sets-dir="$share/charsets" --default-character-set=utf8mb4 \
    -S "$work/socket" -u root "$@"
}
stop() { sql -e shutdown 2>/dev/null || kill "$running" 2>/dev/null || true; wait "$running" 2>/dev/null || true; }
trap stop EXIT
for _ in $(seq 60); do
  sql -e 'select 1' > /dev/null 2>&1 && break
  kill -0 "$running" || { tail "$work/server.log"; exit 1; }
  sleep 0.5
done
# As BOINC's py/Boinc/database.py does.
sql -e "create database fixture character set utf8mb4 collate utf8mb4_unicode_ci;
  create user boincadm@'127.0.0.1' identified by 'fixture'; create user boincadm@localhost identified by 'fixture';
  grant all on fixture.* to boincadm@'127.0.0.1'; grant all on fixture.* to boincadm@localhost"
for part in schema constraints content; do sql fixture < "$source/db/$part.sql"; done

export_at() { # NAME TIME
  rm -rf "$project/html/stats"
  (cd "$project/bin" && TZ=UTC LD_PRELOAD=$library/faketime/libfaketime.so.1 FAKETIME="$2" \
    "$built/db_dump" --dump_spec ../db_dump_spec.xml -d 3) > "$work/$1.log" 2>&1 || { cat "$work/$1.log"; exit 1; }
  mkdir -p "$here/$1"
  cp "$project"/html/stats/{host,user}.gz "$here/$1/"
}
sql fixture < "$here/fill.sql"
export_at first '2025-10-09 09:00:00'
sql fixture < "$here/later.sql"
export_at second '2025-10-10 09:00:00'

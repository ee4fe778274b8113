#!/bin/sh
# Installs sosna-agent from the folder that this script lies in: with systemd, and with procd (OpenWrt).
# Installing again upgrades. Keeps the device's key and data always, and an existing configuration.
set -eu

usage() {
    cat <<'END'
Usage: ./install.sh [--uninstall] [--root DIR] [--data DIR]

  --uninstall   stops the agent and removes program and unit; key, data and configuration stay
  --data DIR    where a new configuration keeps the device's key and data
                (/var/lib/sosna-agent; /srv/sosna-agent on OpenWrt, where /var is lost at each restart)
  --root DIR    installs into a system that does not run, such as an image; nothing is started

To join a hub, write SOSNA_AGENT_JOIN=<the hub's token> into /etc/sosna/agent.env (mode 0600) before.
END
}

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

uninstall=''
root=''
data=''
while [ $# -gt 0 ]; do
    case "$1" in
    --uninstall) uninstall=1 ;;
    --root | --data)
        [ $# -ge 2 ] || fail "$1 wants a folder" 2
        if [ "$1" = --root ]; then root=${2%/}; else data=$2; fi
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        fail "unknown argument: $1" 2
        ;;
    esac
    shift
done
case "$data" in
'' | /*) ;;
*) fail "--data wants a path from the root: $data" 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)

# Whether the system that is installed into runs: then services are started and stopped, too.
if [ -z "$root" ]; then
    running=1
    [ "$(id -u)" = 0 ] || fail "only root can install; run: sudo $0"
else
    running=''
    [ -d "$root" ] || fail "there is no folder $root" 2
fi

if [ -n "$running" ] && [ -d /run/systemd/system ]; then
    init=systemd
elif [ -x "$root/sbin/procd" ] && [ -e "$root/etc/rc.common" ]; then
    init=procd
elif [ -z "$running" ] && { [ -x "$root/usr/lib/systemd/systemd" ] || [ -x "$root/lib/systemd/systemd" ]; }; then
    init=systemd
else
    fail "this system has neither systemd nor procd, and nothing was changed. The program runs without either: \
copy sosna-agent to /usr/local/bin and let your init run, as root: sosna-agent run"
fi

# Whole or absent, also while the old one runs.
put() { # mode, from, to
    mkdir -p "$root$(dirname "$3")"
    cp "$2" "$root$3.new"
    chmod "$1" "$root$3.new"
    mv -f "$root$3.new" "$root$3"
}

configured_data() {
    sed -n 's/^[[:space:]]*data[[:space:]]*=[[:space:]]*"\(.*\)".*/\1/p' "$root/etc/sosna/agent.toml" 2>/dev/null |
        head -n 1
}

unit=/etc/systemd/system/sosna-agent.service
script=/etc/init.d/sosna-agent

stop() {
    [ -n "$running" ] || return 0
    case "$init" in
    systemd)
        systemctl stop sosna-agent.service 2>/dev/null || true
        # Containers would outlive it, and nobody would be there to deliver what they find.
        systemctl kill --kill-who=all --signal=KILL sosna-agent.service 2>/dev/null || true
        ;;
    procd) [ ! -x "$script" ] || "$script" stop || true ;;
    esac
}

if [ -n "$uninstall" ]; then
    kept=$(configured_data)
    kept=${kept:-/var/lib/sosna-agent}
    stop
    case "$init" in
    systemd)
        rm -f "$root$unit" "$root/etc/systemd/system/multi-user.target.wants/sosna-agent.service"
        [ -z "$running" ] || systemctl daemon-reload || true
        ;;
    procd)
        [ -z "$running" ] || [ ! -x "$script" ] || "$script" disable || true
        rm -f "$root$script" "$root"/etc/rc.d/S??sosna-agent "$root"/etc/rc.d/K??sosna-agent
        ;;
    esac
    rm -f "$root/usr/bin/sosna-agent"
    echo "sosna-agent is removed."
    echo "KEPT: $root$kept holds this device's KEY and what hubs owe it: who deletes it without a copy loses that money."
    echo "KEPT: $root/etc/sosna"
    exit 0
fi

[ -f "$here/sosna-agent" ] || fail "there is no sosna-agent beside this script; unpack the whole archive"
# A program for another processor must not replace one that works.
if [ -n "$running" ]; then
    "$here/sosna-agent" --version >/dev/null 2>&1 || fail "this archive's program does not run here ($(uname -m)); nothing was changed"
fi

if [ ! -e "$root/etc/sosna/agent.toml" ]; then
    put 0644 "$here/agent.toml" /etc/sosna/agent.toml
    if [ -z "$data" ] && [ "$init" = procd ]; then
        data=/srv/sosna-agent
    fi
    if [ -n "$data" ]; then
        # Above the tables: below one it would be another key.
        { printf 'data = "%s"\n\n' "$data" && cat "$here/agent.toml"; } >"$root/etc/sosna/agent.toml"
    fi
elif [ -n "$data" ]; then
    fail "there is a configuration already; set data in $root/etc/sosna/agent.toml, and move what the device has" 2
fi
data=$(configured_data)
data=${data:-/var/lib/sosna-agent}
# Not one that is there: an agent that runs has opened it to its own user.
if [ ! -d "$root$data" ]; then
    mkdir -p "$root$data"
    chmod 0700 "$root$data"
fi
[ ! -e "$root/etc/sosna/agent.env" ] || chmod 0600 "$root/etc/sosna/agent.env"
put 0755 "$here/sosna-agent" /usr/bin/sosna-agent

if [ -e "$root/etc/sosna/agent.env" ] || [ -e "$root$data/enrolment.json" ]; then
    ready=1
else
    ready=''
fi

case "$init" in
systemd)
    put 0644 "$here/sosna-agent.service" "$unit"
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -sf ../sosna-agent.service "$root/etc/systemd/system/multi-user.target.wants/sosna-agent.service"
    if [ -n "$running" ]; then
        systemctl daemon-reload
        # Containers go on while the agent is replaced.
        [ -z "$ready" ] || systemctl restart sosna-agent.service
    fi
    ;;
procd)
    put 0755 "$here/sosna-agent.init" "$script"
    mkdir -p "$root/etc/rc.d"
    ln -sf ../init.d/sosna-agent "$root/etc/rc.d/S95sosna-agent"
    ln -sf ../init.d/sosna-agent "$root/etc/rc.d/K10sosna-agent"
    if [ -n "$running" ] && [ -n "$ready" ]; then
        "$script" restart
    fi
    ;;
esac

echo "sosna-agent is installed ($init); its key and data are in $root$data"
if [ -z "$ready" ]; then
    echo "It has no hub yet: write SOSNA_AGENT_JOIN=<the hub's token> into $root/etc/sosna/agent.env (mode 0600), then"
    case "$init" in
    systemd) echo "    systemctl start sosna-agent" ;;
    procd) echo "    $script start" ;;
    esac
fi

#!/bin/sh
# Run one command with a Docker engine of its own, which ends with it. As root, on Linux.
#
#   docker/local-engine.sh make docker-test
#
# For machines where no engine runs: Debian's docker.io brings dockerd. It touches no firewall rule
# and no bridge of the host's. Images stay in LONGSKIP_ENGINE_DIR (default ~/.cache/longskip/engine)
# for the next time; remove that folder to free the disk. Where the base image cannot be pulled, it
# is made by debootstrap. Status: the command's; 69 where the engine does not start.
set -eu

base=debian:bookworm-slim
suite=bookworm
root=${LONGSKIP_ENGINE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/longskip/engine}

[ $# -gt 0 ] || { echo "usage: docker/local-engine.sh COMMAND..." >&2; exit 64; }
[ "$(id -u)" = 0 ] || { echo "local-engine: dockerd needs root" >&2; exit 69; }
command -v dockerd >/dev/null || {
    echo "local-engine: there is no dockerd; apt-get install docker.io docker-compose debootstrap" >&2
    exit 69
}

mkdir -p "$root"
state=$(mktemp -d)
export DOCKER_HOST="unix://$state/docker.sock"
dockerd --data-root "$root/data" --exec-root "$state/exec" --pidfile "$state/dockerd.pid" \
    --host "$DOCKER_HOST" --iptables=false --ip6tables=false --bridge=none \
    > "$state/dockerd.log" 2>&1 &
engine=$!
stop() {
    status=$?
    trap - EXIT INT TERM
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    rm -rf "$state"
    exit "$status"
}
trap stop EXIT INT TERM

tries=0
until docker info >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ] || ! kill -0 "$engine" 2>/dev/null; then
        tail -n 5 "$state/dockerd.log" >&2
        echo "local-engine: dockerd did not start" >&2
        exit 69
    fi
    sleep 1
done

if ! docker image inspect "$base" >/dev/null 2>&1 && ! docker pull "$base" >/dev/null 2>&1; then
    echo "local-engine: $base cannot be pulled; making it with debootstrap, two minutes" >&2
    debootstrap --variant=minbase "$suite" "$state/rootfs" > "$state/debootstrap.log" 2>&1 || {
        tail -n 5 "$state/debootstrap.log" >&2
        exit 69
    }
    tar -C "$state/rootfs" -c . | docker import - "$base" >/dev/null
fi

"$@"

# shellcheck shell=bash
# A Docker engine with compose and BuildKit, for tests. Sourced by scripts/test, with $here, say and
# install_packages.

COMPOSE_VERSION=v2.32.4
BUILDX_VERSION=v0.19.3

engine_cache=${FULLTAPE_CACHE:-$HOME/.cache/fulltape}/docker
engine_pid=""
engine_folder=""

# The engine that runs, or one of our own in folder $1. Fails where there can be none.
require_engine() {
    if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
        require_plugins
        return
    fi
    if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then
        say "no Docker engine answers, and only root on Linux can start one"
        return 1
    fi
    command -v dockerd >/dev/null || install_packages "docker.io iptables" || return 1
    start_engine "$1" && remove_containers && require_plugins
}

# Images and build cache are kept between runs; containers and volumes are not, also not those of a run that was
# killed.
start_engine() {
    engine_folder=$1
    mkdir -p "$1" "$engine_cache/engine"
    export DOCKER_HOST=unix://$1/docker.sock
    setsid dockerd --data-root "$engine_cache/engine" --exec-root "$1/exec" --pidfile "$1/dockerd.pid" \
        --host "$DOCKER_HOST" >"$1/dockerd.log" 2>&1 </dev/null &
    engine_pid=$!
    for _ in {1..120}; do
        docker info >/dev/null 2>&1 && return
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 0.5
    done
    say "no Docker engine starts here:"
    tail -n 5 "$1/dockerd.log" >&2
    return 1
}

remove_containers() {
    docker ps -aq | xargs -r docker rm -f >/dev/null &&
        docker network prune -f >/dev/null && docker volume ls -q | xargs -r docker volume rm >/dev/null
}

stop_engine() {
    [ -n "$engine_pid" ] || return 0
    remove_containers || true
    kill "$engine_pid" 2>/dev/null || true
    wait "$engine_pid" 2>/dev/null || true
    # The network namespaces that it leaves mounted keep its folder from being removed.
    awk -v at="$engine_folder/exec/netns/" 'index($2, at) == 1 {print $2}' /proc/mounts | xargs -r umount || true
}

# Without packages for them, the plugins are built from their Go modules.
require_plugins() {
    docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && return
    export DOCKER_CONFIG=$engine_cache/plugins-$COMPOSE_VERSION-$BUILDX_VERSION
    local plugins=$DOCKER_CONFIG/cli-plugins
    mkdir -p "$plugins"
    go_plugin docker-compose "github.com/docker/compose/v2/cmd@$COMPOSE_VERSION" &&
        go_plugin docker-buildx "github.com/docker/buildx/cmd/buildx@$BUILDX_VERSION"
}

# go_plugin NAME MODULE
go_plugin() {
    local built
    [ -x "$plugins/$1" ] && return
    command -v go >/dev/null || { say "docker ${1#docker-} is missing: install Docker's plugin, or Go to build it"; return 1; }
    say "building the plugin $1"
    built=$(mktemp -d)
    GOBIN=$built go install "$2" >&2 && mv "$built"/* "$plugins/$1" || { rm -rf "$built"; return 1; }
    rmdir "$built"
}

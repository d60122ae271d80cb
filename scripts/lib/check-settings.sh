#!/bin/sh
# Checks the settings of docker-compose.yml, in the container `settings`, before anything else starts: the values
# are in the environment, the checkout is at /checkout. Ends with 64 if something is wrong, and names all of it.
set -u

checkout=${1:-/checkout}
wrong=0

complain() {
    printf 'settings: %s\n' "$*" >&2
    wrong=1
}

value_of() { eval "printf '%s' \"\${$1-}\""; }

mebibytes() {
    case $1 in
        *[gG]) echo $((${1%?} * 1024)) ;;
        *) echo "${1%?}" ;;
    esac
}

# is_size NAME: a number and m or g, as both Java and Docker read it
is_size() {
    value=$(value_of "$1")
    if ! printf '%s\n' "$value" | grep -Eqx '[1-9][0-9]{0,5}[mMgG]'; then
        complain "$1: expected a size such as 768m or 2g, got \"$value\""
        return 1
    fi
}

# Threads, buffers and code need the rest of the container.
for server in KAFKA CASSANDRA NAMENODE DATANODE; do
    is_size "${server}_HEAP" || continue
    is_size "${server}_MEMORY" || continue
    heap=$(mebibytes "$(value_of "${server}_HEAP")")
    memory=$(mebibytes "$(value_of "${server}_MEMORY")")
    if [ $((heap * 10)) -gt $((memory * 6)) ]; then
        complain "${server}_HEAP: ${heap}m does not fit into ${server}_MEMORY, ${memory}m: expected at most 60 % of it"
    fi
done

# A name that nobody reads is most likely mistyped.
is_read() {
    grep -Eq "^#?$1=" "$checkout/.env.example" || grep -q "$1" "$checkout/docker-compose.override.yml" 2>/dev/null
}

if [ -e "$checkout/.env" ] && [ ! -r "$checkout/.env" ]; then
    complain ".env: cannot be read"
elif [ -f "$checkout/.env" ]; then
    # `|| [ -n … ]` is for a last line without an end.
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        name=$(printf '%s' "$line" | sed -nE 's/^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=.*/\2/p')
        case $name in '' | COMPOSE_* | DOCKER_*) continue ;; esac
        is_read "$name" ||
            complain ".env:$number: $name: no such setting; .env.example has all of them"
    done <"$checkout/.env"
fi

# The rest are the roles' own: they know what they expect, and name the variable.
fulltape ingest --print-config >/dev/null || wrong=1

[ "$wrong" = 0 ] || exit 64
echo "settings: all good"

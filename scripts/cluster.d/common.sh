# shellcheck shell=bash
# Names, places and small helpers. Sourced by scripts/cluster, which sets ROOT and HERE.
# shellcheck disable=SC2034 # CACHE and JAVA are for the files sourced after this one

SERVERS=(controller kafka-1 kafka-2 namenode datanode-1 datanode-2 cassandra-1 cassandra-2)

# from_root PATH: a relative path counts from the checkout, wherever the script is called from.
from_root() {
  if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s/%s' "$ROOT" "${1#./}"; fi
}

STATE=$(from_root "${FULLTAPE_CLUSTER_DIR:-data/cluster}")
CACHE=$(from_root "${FULLTAPE_CACHE:-$HOME/.cache/fulltape}")
# Generous, because builds often share the machine.
DEADLINE=${FULLTAPE_CLUSTER_DEADLINE:-300}
MARKER=.fulltape-cluster

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { warn "cluster: $*"; exit 1; }

# Runs functions at once, each in its own process. Ends the script when one fails: were it called as a
# condition, `set -e` would not hold inside.
run_parallel() {
  local function pids=() pid failed=0
  for function in "$@"; do
    "$function" &
    pids+=("$!")
  done
  # Interrupted, they would go on waiting, with the lock. Servers they started are not in reach of this.
  trap 'kill "${pids[@]}" 2>/dev/null; exit 130' INT TERM
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  trap - INT TERM
  [[ $failed -eq 0 ]] || die "not all of it worked; the reason is above. What runs is left running: try again, or 'down'"
}

need_server() {
  local server
  for server in "${SERVERS[@]}"; do [[ $server != "$1" ]] || return 0; done
  die "no server '$1'; there are: ${SERVERS[*]}"
}

server_ports() {
  case $1 in
    kafka-1) say 127.0.0.1:19092 127.0.0.1:19093 ;;
    kafka-2) say 127.0.0.1:29092 127.0.0.1:29093 ;;
    # Below 32768, where the kernel starts to give ports to outgoing connections.
    controller) say 127.0.0.1:30093 ;;
    namenode) say 127.0.0.1:8020 127.0.0.1:9870 ;;
    datanode-1) say 127.0.0.1:9866 127.0.0.1:9864 127.0.0.1:9867 ;;
    datanode-2) say 127.0.0.1:19866 127.0.0.1:19864 127.0.0.1:19867 ;;
    cassandra-1) say 127.0.0.1:9042 127.0.0.1:7000 127.0.0.1:7199 ;;
    cassandra-2) say 127.0.0.2:9042 127.0.0.2:7000 127.0.0.1:7299 ;;
  esac
}

# The first port is the one that clients use.
client_port() { server_ports "$1" | cut -d' ' -f1; }

listening() { (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null; }

# http_get HOST:PORT PATH, without depending on curl
http_get() {
  (
    exec 3<>"/dev/tcp/${1%:*}/${1#*:}"
    printf 'GET %s HTTP/1.0\r\nHost: %s\r\n\r\n' "$2" "$1" >&3
    timeout 10 cat <&3
  ) 2>/dev/null
}

check_ports() {
  local server port
  for server in "${SERVERS[@]}"; do
    server_pid "$server" >/dev/null && continue
    for port in $(server_ports "$server"); do
      listening "$port" && die "$server needs $port, which is taken by $(port_holder "$port"). Stop that first."
    done
  done
  return 0
}

port_holder() {
  local line
  line=$(ss -ltnpH "sport = :${1#*:}" 2>/dev/null | sed -n 's/.*users:((\(.*\)))$/\1/p' | sort -u | head -n 1) || true
  say "${line:-a process that cannot be named from here ('ss -ltnp' as root would)}"
}

# --- the state folder ---------------------------------------------------------------------------------------

open_state() {
  check_path "$STATE"
  [[ -e $STATE/$MARKER ]] && return
  if [[ -d $STATE && -n $(ls -A "$STATE") ]]; then recognise_state; fi
  mkdir -p "$STATE"
  say "State of the servers that scripts/cluster runs. 'scripts/cluster wipe' deletes it." >"$STATE/$MARKER"
}

recognise_state() {
  [[ -f $STATE/$MARKER ]] || die "$STATE has no $MARKER, so it is not a cluster of ours; left alone"
}

# One command at a time; descriptor 9 is closed in the servers, which would hold the lock for ever.
lock_state() {
  [[ -z ${LOCKED:-} ]] || return 0
  exec 9<"$STATE"
  flock -w "$DEADLINE" 9 || die "another scripts/cluster has been working on $STATE for $DEADLINE s"
  [[ -d $STATE ]] || die "$STATE was wiped meanwhile; try again"
  LOCKED=yes
}

# Paths end up in properties, yaml, class paths and URLs, each with its own quoting.
check_path() {
  [[ $1 =~ ^[A-Za-z0-9._/@+-]+$ ]] || die "the path '$1' has characters that some server's settings do not take"
}

# --- what has to be installed ----------------------------------------------------------------------------------

require_tools() {
  JAVA=$(find_java) || install openjdk-17-jre-headless
  JAVA=$(find_java) || die "no Java 17: Cassandra 5.0 runs on 11 and 17 only, Hadoop 3.5 needs 17 (JAVA_HOME is looked at first)"
  command -v mvn >/dev/null || install maven
  python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
}

find_java() {
  local candidate
  for candidate in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*17*/bin/java; do
    [[ -x $candidate ]] && "$candidate" -version 2>&1 | grep -q 'version "17\.' && say "$candidate" && return
  done
  return 1
}

install() {
  if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    die "$1 is missing; on Debian and Ubuntu: sudo apt-get install $1"
  fi
  say "installing $1"
  { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$1"; } >&2 ||
    die "could not install $1"
}

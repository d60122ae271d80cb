# shellcheck shell=bash
# Servers as processes. A pid file holds the pid and the process's start time, so that a pid which the kernel
# has given to somebody else is never taken for a server, and never signalled.

STOP_DEADLINE=90

pid_file() { say "$STATE/run/$1.pid"; }
log_file() { say "$STATE/log/$1.log"; }
data_dir() { say "$STATE/$1"; }

# process_facts PID: its state and its start time, in clock ticks since boot
process_facts() {
  local line fields
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The command's name may hold blanks and parentheses; after the last ')' comes field 3.
  read -ra fields <<<"${line##*) }"
  say "${fields[0]} ${fields[19]}"
}

# server_pid SERVER: its pid, when it runs
server_pid() {
  local pid started condition now
  read -r pid started 2>/dev/null <"$(pid_file "$1")" || return 1
  read -r condition now < <(process_facts "$pid") || return 1
  # A killed process stays a zombie where nobody collects it, as in some containers.
  [[ $condition != Z && $now == "$started" ]] && say "$pid"
}

paused() { [[ $(process_facts "$1") == T* ]]; }

# launch SERVER COMMAND…: detached, so that it outlives this script and gets none of the terminal's signals
launch() {
  local server=$1 log
  shift
  # What servers unpack into their temporary folder stays there when they are killed.
  rm -rf "$(data_dir "$server")/tmp"
  mkdir -p "$STATE/run" "$STATE/log" "$(data_dir "$server")/tmp"
  log=$(log_file "$server")
  # The log of this run alone decides whether the server is ready; earlier runs are kept beside it.
  [[ -f $log ]] && cat "$log" >>"${log%.log}.earlier.log"
  rm -f "$(pid_file "$server")"
  (
    record_pid "$server" "$BASHPID"
    cd "$(data_dir "$server")" || exit
    exec setsid "$@" >"$log" 2>&1 </dev/null 8>&- 9>&-
  ) &
  disown "$!"
  for _ in {1..200}; do
    [[ ! -f $(pid_file "$server") ]] || return 0
    sleep 0.05
  done
  server_failed "$server" "did not start"
}

# Written by the process that becomes the server, so that none runs unrecorded when this script is killed;
# renamed, so that nobody reads half of it.
record_pid() {
  local facts
  facts=$(process_facts "$2")
  say "$2 ${facts#* }" >"$(pid_file "$1").new"
  mv "$(pid_file "$1").new" "$(pid_file "$1")"
}

# True when the server has to be launched; a paused one is let go on.
needs_launch() {
  local pid
  pid=$(server_pid "$1") || return 0
  if paused "$pid"; then
    say "$1: was paused, continues"
    kill -CONT "$pid"
  fi
  return 1
}

server_failed() {
  warn "cluster: $1 $2"
  warn "--- the end of $(log_file "$1"):"
  tail -n 20 "$(log_file "$1")" >&2 || true
  warn "---"
  die "see the whole log; '$0 up' tries again, '$0 wipe' starts afresh, FULLTAPE_CLUSTER_DEADLINE=600 waits longer"
}

# await SERVER WHAT COMMAND…: until the command succeeds, as long as the server lives
await() {
  local server=$1 what=$2 end=$((SECONDS + DEADLINE))
  shift 2
  until "$@"; do
    server_pid "$server" >/dev/null || server_failed "$server" "ended before it was ready ($what)"
    ((SECONDS < end)) || server_failed "$server" "was not ready within $DEADLINE s ($what)"
    sleep 0.3
  done
}

logged() { grep -qE -- "$2" "$(log_file "$1")"; }

ready() { say "$1: ready after $SECONDS s, pid $(server_pid "$1"), $(client_port "$1")"; }

gone() { ! server_pid "$1" >/dev/null; }

await_gone() {
  local end=$((SECONDS + $2))
  until gone "$1"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

stop_server() {
  local pid
  pid=$(server_pid "$1") || { rm -f "$(pid_file "$1")"; return 0; }
  kill -TERM "$pid" 2>/dev/null || true
  # A paused process acts on TERM only once it goes on.
  kill -CONT "$pid" 2>/dev/null || true
  if ! await_gone "$1" "$STOP_DEADLINE"; then
    warn "$1: still there $STOP_DEADLINE s after SIGTERM, killing it"
    kill -KILL "$pid" 2>/dev/null || true
    await_gone "$1" 30 || die "$1: pid $pid does not go, not even by SIGKILL"
  fi
  rm -f "$(pid_file "$1")"
  say "$1: stopped after $SECONDS s"
}

# Takes no lock: tests kill servers in the middle of everything.
kill_server() {
  local server=${1:-} signal=${2:-KILL} pid
  need_server "$server"
  signal=${signal#SIG}
  pid=$(server_pid "$server") || die "$server is not running"
  kill -s "$signal" "$pid" || die "could not send $signal to $server"
  case $signal in
    KILL | TERM | INT | 9 | 15 | 2) await_gone "$server" "$STOP_DEADLINE" || die "$server, pid $pid, outlived $signal by $STOP_DEADLINE s" ;;
  esac
}

# status_line SERVER: fails when it is not up
status_line() {
  local port pid condition=up rss
  port=$(client_port "$1")
  if ! pid=$(server_pid "$1"); then
    printf '%-12s %8s %-16s %-8s %8s\n' "$1" - "$port" down -
    return 1
  fi
  if paused "$pid"; then condition=paused; elif ! listening "$port"; then condition=starting; fi
  rss=$(awk '/^VmRSS/ { printf "%d MB", $2 / 1024 }' "/proc/$pid/status")
  printf '%-12s %8s %-16s %-8s %8s\n' "$1" "$pid" "$port" "$condition" "$rss"
  [[ $condition == up ]]
}

# shellcheck shell=bash
# Gets the servers from Maven and cqlsh from PyPI, pinned by the files beside this one, into a cache outside
# the checkout. Nothing in the cache has its final name before it is complete.

fetch_all() {
  fetch_server kafka
  fetch_server cassandra
  fetch_server hadoop
  fetch_cqlsh
}

# Each server has a library folder of its own: their logging bindings and netty versions exclude each other.
server_home() { say "$CACHE/servers/$1-$(server_version "$1")"; }

server_version() { sed -n 's:.*<version>\(.*\)</version>.*:\1:p' "$HERE/$1/pom.xml" | head -n 1; }

fetch_server() {
  local pom=$HERE/$1/pom.xml home temporary
  home=$(server_home "$1")
  check_path "$home"
  # The pom beside the libraries says what they were made from.
  cmp -s "$pom" "$home/pom.xml" && return
  mkdir -p "$CACHE/servers"
  lock_cache
  cmp -s "$pom" "$home/pom.xml" && return
  say "fetching $(basename "$home")" >&2
  # Left by a fetch that was killed; nobody writes there while we hold the lock, which Maven inherits.
  rm -rf "$CACHE"/servers/.fetching.*
  temporary=$(mktemp -d "$CACHE/servers/.fetching.XXXXXX")
  copy_dependencies "$pom" "$temporary/lib" ||
    { rm -rf "$temporary"; die "Maven could not fetch $1. Is the repository reachable? 'mvn -f $pom dependency:resolve' says more"; }
  cp "$pom" "$temporary/pom.xml"
  chmod 755 "$temporary"
  rm -rf "$home"
  mv -T "$temporary" "$home"
}

copy_dependencies() {
  # Maven 3.8 resets the terminal's colours even with -q and no terminal.
  mvn -B -q -f "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$2" 9>&- 2>&1 |
    sed 's/\x1b\[[0-9;]*m//g' >&2
}

cqlsh_home() { say "$CACHE/tools/cqlsh"; }

# A virtual environment cannot be renamed into place, so its requirements are copied into it last.
fetch_cqlsh() {
  local requirements=$HERE/cqlsh/requirements.txt home
  home=$(cqlsh_home)
  cmp -s "$requirements" "$home/requirements.txt" && return
  mkdir -p "$CACHE/tools"
  lock_cache
  cmp -s "$requirements" "$home/requirements.txt" && return
  say "fetching cqlsh" >&2
  rm -rf "$home"
  python3 -m venv "$home"
  "$home/bin/pip" install -q --disable-pip-version-check --no-deps -r "$requirements" >&2 ||
    die "pip could not install cqlsh. Is the package index reachable?"
  cp "$requirements" "$home/requirements.txt"
}

# Two checkouts, or a tool beside `up`, may fetch at once.
lock_cache() {
  exec 8<"$CACHE"
  flock -w 900 8 || die "another scripts/cluster has been fetching into $CACHE for 15 minutes"
}

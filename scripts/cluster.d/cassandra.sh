# shellcheck shell=bash
# Two nodes, on 127.0.0.1 and 127.0.0.2; their settings are in cassandra/.

CASSANDRA_CONF=$ROOT/cassandra

# A new node joins by asking the first, so that one has to serve by then. Afterwards each starts by itself.
cassandra_up() {
  cassandra_start cassandra-1
  if cassandra_joined cassandra-2; then cassandra_start cassandra-2; fi
  cassandra_await cassandra-1
  cassandra_start cassandra-2
  cassandra_await cassandra-2
  await cassandra-1 "each node seeing both up; ask 'scripts/cluster nodetool status'" cassandra_settled
  say "cassandra: both nodes up and normal after $SECONDS s"
}

# Both at once: neither needs the other to drain.
cassandra_down() { run_parallel cassandra_1_down cassandra_2_down; }
cassandra_1_down() { stop_server cassandra-1; }
cassandra_2_down() { stop_server cassandra-2; }

cassandra_start() {
  local server=$1 dir lib
  needs_launch "$server" || return 0
  dir=$(data_dir "$server")
  lib=$(server_home cassandra)/lib
  mkdir -p "$dir"
  cassandra_settings "$server" >"$dir/cassandra.yaml"
  # The waits are for clusters whose nodes are far apart; here they would be most of the time to start.
  launch "$server" "$JAVA" -Xms1g -Xmx1g -Xss256k -XX:+ExitOnOutOfMemoryError \
    -XX:+UseG1GC -XX:MaxGCPauseMillis=100 -XX:MaxTenuringThreshold=2 -XX:+ParallelRefProcEnabled \
    -Djava.io.tmpdir="$(data_dir "$server")/tmp" -Djava.net.preferIPv4Stack=true "@$CASSANDRA_CONF/jvm17.options" -javaagent:"$lib/jamm-0.4.0.jar" \
    -Dlogback.configurationFile="$CASSANDRA_CONF/logback.xml" \
    -Dcassandra.config="file://$dir/cassandra.yaml" -Dcassandra.storagedir="$dir/data" \
    -Dcassandra.logdir="$dir/log" -Dcassandra-foreground=yes \
    -Dcassandra.jmx.local.port="$(cassandra_jmx_port "$server")" \
    -Dcom.sun.management.jmxremote.authenticate=false \
    -Dcassandra.ring_delay_ms=1000 -Dcassandra.gossip_settle_min_wait_ms=500 \
    -Dcassandra.gossip_settle_interval_ms=250 \
    -cp "$lib/*" org.apache.cassandra.service.CassandraDaemon
}

cassandra_await() {
  await "$1" "starting" logged "$1" 'Starting listening for CQL clients'
  : >"$(data_dir "$1")/joined"
  ready "$1"
}

cassandra_joined() { [[ -f $(data_dir "$1")/joined ]]; }

cassandra_address() { say "127.0.0.${1#cassandra-}"; }

cassandra_jmx_port() { server_ports "$1" | sed 's/.*://'; }

# A seed takes no data from others when it joins, but starts without any of them. So the second node joins as
# an ordinary one and is a seed from then on, and each can come back while the other is down.
cassandra_settings() {
  local token=-9223372036854775808 seeds=127.0.0.1 memtables=80MiB
  [[ $1 == cassandra-2 ]] && token=0 memtables=50MiB
  cassandra_joined "$1" && seeds=127.0.0.1,127.0.0.2
  sed -e "s|@address@|$(cassandra_address "$1")|" -e "s|@token@|$token|" -e "s|@seeds@|$seeds|" \
    -e "s|@memtables@|$memtables|" \
    "$CASSANDRA_CONF/node.yaml.in"
}

# Writing at LOCAL_QUORUM needs each to see the other.
cassandra_settled() {
  local port
  for port in 7199 7299; do
    [[ $(nodetool -p "$port" status 2>/dev/null | grep -c '^UN') -eq 2 ]] || return 1
  done
}

# The numbered files, in order, in one session. They change nothing that exists.
cassandra_apply_schema() {
  local all=$STATE/schema.cql
  cat "$CASSANDRA_CONF"/[0-9]*.cql >"$all"
  cqlsh --connect-timeout=60 --request-timeout=120 -f "$all" >"$STATE/log/schema.log" ||
    die "the schema could not be applied: $all"
  say "cassandra: schema applied"
}

cqlsh() { CQLSH_HOST=${CQLSH_HOST:-127.0.0.1} "$(cqlsh_home)/bin/cqlsh" "$@"; }

nodetool() {
  local where=(-p 7199)
  [[ ${1:-} != -p ]] || { where=(-p "$2"); shift 2; }
  "$JAVA" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "@$CASSANDRA_CONF/jvm17.options" \
    -Dlogback.configurationFile="$CASSANDRA_CONF/logback-tools.xml" -cp "$(server_home cassandra)/lib/*" \
    org.apache.cassandra.tools.NodeTool -h 127.0.0.1 "${where[@]}" "$@"
}

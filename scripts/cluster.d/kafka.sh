# shellcheck shell=bash
# Two combined brokers and controllers, and a third controller.

KAFKA_BOOTSTRAP=127.0.0.1:19092,127.0.0.1:29092

kafka_up() {
  local server
  run_parallel kafka_controller_start kafka_1_start kafka_2_start
  for server in controller kafka-1 kafka-2; do kafka_await "$server"; done
  await kafka-1 "all replicas in sync; ask 'scripts/cluster kafka topics --describe'" kafka_settled
  say "kafka: both brokers serve, all replicas in sync, after $SECONDS s"
}

kafka_controller_start() { kafka_start controller; }
kafka_1_start() { kafka_start kafka-1; }
kafka_2_start() { kafka_start kafka-2; }

# The controller goes last: the brokers hand over their partitions through it.
kafka_down() {
  run_parallel kafka_1_down kafka_2_down
  stop_server controller
}

kafka_1_down() { stop_server kafka-1; }
kafka_2_down() { stop_server kafka-2; }

kafka_start() {
  local server=$1 settings heap=512m
  needs_launch "$server" || return 0
  settings=$(data_dir "$server")/node.properties
  mkdir -p "$(data_dir "$server")"
  kafka_settings "$server" >"$settings"
  kafka_format "$server" "$settings"
  [[ $server == controller ]] && heap=256m
  # The collector's settings are those of Kafka's own start script.
  launch "$server" "$JAVA" -Xms"$heap" -Xmx"$heap" -XX:+ExitOnOutOfMemoryError \
    -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent \
    -Djava.io.tmpdir="$(data_dir "$server")/tmp" \
    -Dlog4j2.configurationFile="$HERE/kafka/log4j2.xml" \
    -cp "$(server_home kafka)/lib/*" kafka.Kafka "$settings"
}

# It says so once controllers know the broker and let it serve.
kafka_await() {
  await "$1" "starting" logged "$1" 'Kafka Server started'
  ready "$1"
}

kafka_settings() {
  local template=broker id=${1#kafka-}
  [[ $1 == controller ]] && template=controller id=3
  sed -e "s|@id@|$id|" -e "s|@client_port@|${id}9092|" -e "s|@data@|$(data_dir "$1")/data|" \
    -e "s|@controller_port@|$(kafka_controller_port "$1")|" "$HERE/kafka/$template.properties.in"
  cat "$HERE/kafka/shared.properties"
  # One setting a line; the last of equal ones counts.
  printf '%s\n' "${MORE_SETTINGS[@]}"
}

kafka_controller_port() { server_ports "$1" | sed 's/.*://'; }

kafka_format() {
  local log
  [[ -f $(data_dir "$1")/data/meta.properties ]] && return
  mkdir -p "$STATE/log"
  log=$(log_file "$1")
  kafka_java kafka.tools.StorageTool format --cluster-id "$(kafka_cluster_id)" --config "$2" >"$log" 2>&1 ||
    server_failed "$1" "could not format its data folder"
}

# One for all nodes, new for each new cluster: 16 bytes as Kafka writes a UUID. ln decides between two at once.
kafka_cluster_id() {
  local file=$STATE/kafka-cluster-id new
  if [[ ! -f $file ]]; then
    new=$(mktemp "$STATE/.id.XXXXXX")
    # A leading dash would look like an option.
    head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' | sed 's/^-/A/' >"$new"
    ln "$new" "$file" 2>/dev/null || true
    rm -f "$new"
  fi
  cat "$file"
}

# Every partition has all its replicas in sync, so that a test may now take away either broker. The offsets
# topic counts too: the first consumer would create it, but cannot while a broker is down.
kafka_settled() {
  local topics
  topics=$(kafka_cli topics --describe 2>/dev/null) || return 1
  if ! grep -q 'Topic: __consumer_offsets' <<<"$topics"; then
    kafka_cli consumer-groups --describe --group fulltape-cluster-up >/dev/null 2>&1 || true
    return 1
  fi
  awk -F'\t' '
    /Isr: / {
      for (i = 1; i <= NF; i++) {
        if ($i ~ /^Replicas: /) replicas = split($i, unused, ",")
        if ($i ~ /^Isr: /) in_sync = split($i, unused, ",")
      }
      if (in_sync < replicas) exit 1
    }' <<<"$topics"
}

# A tool lives a second or two: compile little, collect simply.
kafka_java() {
  "$JAVA" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dlog4j2.configurationFile="$HERE/kafka/log4j2-tools.xml" -cp "$(server_home kafka)/lib/*" "$@"
}

kafka_cli() {
  local tool=${1:-} class
  shift || true
  class=$(kafka_tool_class "$tool") || die "no Kafka tool '$tool'; there are: $KAFKA_TOOLS"
  case " $* " in
    *" --bootstrap-server"* | *" --bootstrap-controller"*) kafka_java "$class" "$@" ;;
    *) kafka_java "$class" --bootstrap-server "$KAFKA_BOOTSTRAP" "$@" ;;
  esac
}

KAFKA_TOOLS='topics configs groups consumer-groups get-offsets delete-records console-producer console-consumer
producer-perf consumer-perf broker-api-versions metadata-quorum log-dirs leader-election reassign-partitions'

kafka_tool_class() {
  local tools=org.apache.kafka.tools
  case $1 in
    topics) say $tools.TopicCommand ;;
    configs) say kafka.admin.ConfigCommand ;;
    groups) say $tools.GroupsCommand ;;
    consumer-groups) say $tools.consumer.group.ConsumerGroupCommand ;;
    get-offsets) say $tools.GetOffsetShell ;;
    delete-records) say $tools.DeleteRecordsCommand ;;
    console-producer) say $tools.ConsoleProducer ;;
    console-consumer) say $tools.consumer.ConsoleConsumer ;;
    producer-perf) say $tools.ProducerPerformance ;;
    consumer-perf) say $tools.ConsumerPerformance ;;
    broker-api-versions) say $tools.BrokerApiVersionsCommand ;;
    metadata-quorum) say $tools.MetadataQuorumCommand ;;
    log-dirs) say $tools.LogDirsCommand ;;
    leader-election) say $tools.LeaderElectionCommand ;;
    reassign-partitions) say $tools.reassign.ReassignPartitionsCommand ;;
    *) return 1 ;;
  esac
}

# shellcheck shell=bash
# A NameNode and two DataNodes, with hadoop-config/ as it is. What differs between them is in the environment.

# Whoever starts the NameNode is the superuser; this keeps it one name on every machine.
HDFS_USER=${HADOOP_USER_NAME:-fulltape}
HDFS_UI=127.0.0.1:9870

hdfs_up() {
  local server
  for server in namenode datanode-1 datanode-2; do hdfs_start "$server"; done
  for server in namenode datanode-1 datanode-2; do hdfs_await "$server"; done
  await namenode "two live DataNodes and safe mode off; ask 'scripts/cluster hdfs dfsadmin -report'" hdfs_settled
  say "hdfs: two live DataNodes, safe mode off, after $SECONDS s"
}

# The NameNode last: a DataNode without one would only wait for it.
hdfs_down() {
  stop_server datanode-1
  stop_server datanode-2
  stop_server namenode
}

hdfs_start() {
  local server=$1
  needs_launch "$server" || return 0
  case $server in
    namenode)
      hdfs_format
      hdfs_launch "$server" 512m namenode.NameNode
      ;;
    datanode-1) hdfs_launch "$server" 256m datanode.DataNode ;;
    datanode-2)
      FULLTAPE_DATANODE_PORT=19866 FULLTAPE_DATANODE_HTTP_PORT=19864 FULLTAPE_DATANODE_IPC_PORT=19867 \
        hdfs_launch "$server" 256m datanode.DataNode
      ;;
  esac
}

hdfs_await() {
  case $1 in
    namenode) await "$1" "web UI" http_ok "$HDFS_UI" /jmx?qry=none ;;
    datanode-*) await "$1" "registering with the NameNode" logged "$1" 'successfully registered with NN' ;;
  esac
  ready "$1"
}

# hdfs_launch SERVER HEAP CLASS
hdfs_launch() {
  FULLTAPE_HADOOP_DATA=$(data_dir "$1")/data HADOOP_USER_NAME=$HDFS_USER \
    launch "$1" "$JAVA" -Xms64m -Xmx"$2" -XX:+ExitOnOutOfMemoryError \
    -Djava.io.tmpdir="$(data_dir "$1")/tmp" "@$HERE/hadoop/jvm.options" -cp "$(hdfs_class_path)" "org.apache.hadoop.hdfs.server.$3"
}

hdfs_class_path() { say "$ROOT/hadoop-config:$(server_home hadoop)/lib/*"; }

# Without -force it refuses a folder that already holds something.
hdfs_format() {
  local data log
  data=$(data_dir namenode)/data
  log=$(log_file namenode)
  [[ -f $data/name/current/VERSION ]] && return
  mkdir -p "$data" "$STATE/log"
  FULLTAPE_HADOOP_DATA=$data hdfs_java org.apache.hadoop.hdfs.server.namenode.NameNode -format -nonInteractive \
    >"$log" 2>&1 || server_failed namenode "could not format its data folder"
}

http_ok() { http_get "$1" "$2" | head -n 1 | grep -q ' 200 '; }

hdfs_settled() {
  local answer
  answer=$(http_get "$HDFS_UI" '/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState') || return 1
  grep -q '"NumLiveDataNodes" : 2' <<<"$answer" && grep -q '"FSState" : "Operational"' <<<"$answer"
}

hdfs_java() {
  HADOOP_USER_NAME=$HDFS_USER "$JAVA" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "@$HERE/hadoop/jvm.options" \
    -Dhadoop.root.logger="${HADOOP_ROOT_LOGGER:-WARN,console}" -cp "$(hdfs_class_path)" "$@"
}

hdfs_cli() {
  local tool=${1:-} tools=org.apache.hadoop.hdfs.tools
  shift || true
  case $tool in
    dfs) hdfs_java org.apache.hadoop.fs.FsShell "$@" ;;
    dfsadmin) hdfs_java $tools.DFSAdmin "$@" ;;
    fsck) hdfs_java $tools.DFSck "$@" ;;
    getconf) hdfs_java $tools.GetConf "$@" ;;
    *) die "no HDFS tool '$tool'; there are: dfs dfsadmin fsck getconf" ;;
  esac
}

#!/usr/bin/env bash
# Writes the node's settings from CASSANDRA_… variables as the official image does, then runs the command.
set -euo pipefail

die() { printf 'cassandra: %s\n' "$*" >&2; exit 1; }

settings() {
  local address=${CASSANDRA_LISTEN_ADDRESS:-$(hostname -i | cut -d' ' -f1)} number
  while read -r number; do
    case $number in
      CASSANDRA_CLUSTER_NAME | CASSANDRA_SEEDS | CASSANDRA_NUM_TOKENS | CASSANDRA_LISTEN_ADDRESS) ;;
      *) die "$number: the stand-in image does not know this setting" ;;
    esac
  done < <(compgen -e | grep '^CASSANDRA_')
  # The other values are those of the file that Cassandra 5.0 ships.
  cat <<YAML
cluster_name: '${CASSANDRA_CLUSTER_NAME:-Test Cluster}'
num_tokens: ${CASSANDRA_NUM_TOKENS:-16}
allocate_tokens_for_local_replication_factor: 3
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: $address
broadcast_address: $address
rpc_address: 0.0.0.0
broadcast_rpc_address: $address
start_native_transport: true
native_transport_port: 9042
storage_port: 7000
commitlog_sync: periodic
commitlog_sync_period: 10000ms
data_file_directories: [/var/lib/cassandra/data]
commitlog_directory: /var/lib/cassandra/commitlog
saved_caches_directory: /var/lib/cassandra/saved_caches
hints_directory: /var/lib/cassandra/hints
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: "${CASSANDRA_SEEDS:-$address}"}]
YAML
}

if [[ ${1:-} == cassandra ]]; then settings >/etc/cassandra/cassandra.yaml; fi
exec "$@"

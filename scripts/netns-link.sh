#!/usr/bin/env bash
# Joins two network namespaces by a link of a given rate and round trip, and runs a command at each end:
#
#   sudo scripts/netns-link.sh 10mbit 50ms "accordion serve PACKAGE --host 10.77.0.1 --port 8642" \
#        "accordion fetch http://10.77.0.1:8642/NAME -o MODEL"
#
# RATE may also be a measured trace, replay:FILE[:ID][@SECONDS], which the token buckets then follow in real time:
#
#   sudo scripts/netns-link.sh replay:traces.jsonl:drive-7@12 50ms "…" "…"
#
# (with ACCORDION_PYTHON naming a Python that has accordion, if `python3` has not).
#
# The first command (the endpoint) runs in the background and is stopped at the end; the exit code is the second one's (the
# device). The rate is a token bucket (tc tbf) on both ends; half of the round trip is added in each direction (tc netem).
# Needs root, ip and tc, and touches nothing outside the two namespaces that it makes and removes. Exit code 77: can't be done here.
set -euo pipefail

if [ $# -ne 4 ]; then
  echo "usage: $0 RATE ROUND-TRIP ENDPOINT-COMMAND DEVICE-COMMAND   (10mbit 50ms \"…\" \"…\")" >&2
  exit 2
fi
if [ "$(id -u)" -ne 0 ] || ! command -v ip >/dev/null || ! command -v tc >/dev/null; then
  echo "skipped: joining network namespaces needs root, ip and tc" >&2
  exit 77
fi
rate=$1 rtt=$2 serve=$3 fetch=$4 replay='' start=0
if [[ $rate == replay:* ]]; then
  replay=${rate#replay:} rate=8kbit
  if [[ $replay =~ ^(.+)@([0-9]+(\.[0-9]+)?)$ ]]; then replay=${BASH_REMATCH[1]} start=${BASH_REMATCH[2]}; fi
fi
milliseconds=${rtt%ms}
if ! [[ $milliseconds =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
  echo "the round trip '$rtt' is not of the form 50ms" >&2
  exit 2
fi
half=$(awk "BEGIN { print $milliseconds / 2 }")ms
there=accordion-$$-e here=accordion-$$-d server='' replayer=''

clean() {
  [ -z "$replayer" ] || kill "$replayer" 2>/dev/null || true
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  ip netns del "$there" 2>/dev/null || true
  ip netns del "$here" 2>/dev/null || true
}
trap clean EXIT

if ! ip netns add "$there" 2>/dev/null; then
  echo "skipped: this machine makes no network namespaces" >&2
  exit 77
fi
ip netns add "$here"
ip link add veth0 netns "$there" type veth peer name veth0 netns "$here"
for side in "$there 10.77.0.1" "$here 10.77.0.2"; do
  read -r name address <<<"$side"
  ip -n "$name" addr add "$address/24" dev veth0
  ip -n "$name" link set lo up
  ip -n "$name" link set veth0 up
  if ! ip netns exec "$name" tc qdisc add dev veth0 root handle 1: tbf rate "$rate" burst 16kb latency 400ms; then
    echo "skipped: the kernel has no token bucket (sch_tbf), or '$rate' is no rate such as 10mbit" >&2
    exit 77
  fi
  if [ "$half" != 0ms ] && ! ip netns exec "$name" tc qdisc add dev veth0 parent 1:1 handle 10: netem delay "$half" limit 10000; then
    echo "note: this kernel has no delay (sch_netem): the link has its rate, and no round trip is added" >&2
    half=0ms
  fi
done
ip netns exec "$there" bash -c "exec $serve" &
server=$!
for _ in $(seq 100); do  # until the endpoint listens
  ip netns exec "$there" ss -Hltn 2>/dev/null | grep -q . && break
  kill -0 "$server" 2>/dev/null || { echo "the endpoint ended before it listened" >&2; exit 1; }
  sleep 0.1
done
if [ -n "$replay" ]; then
  exec 3< <(exec "${ACCORDION_PYTHON:-python3}" "$(dirname "$0")/netns-replay.py" "$replay" "$start" "$there" "$here")
  replayer=$!
  read -r _ <&3 || exit 2  # it says when the link has its first rate
fi
ip netns exec "$here" bash -c "$fetch"

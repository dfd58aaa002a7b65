#!/bin/sh
# Runs a million seeds of the simulator, ten thousand at a time, and goes on after a block that breaks a rule.
# Usage: scripts/soak.sh [FIRST_SEED [SEEDS [DIRECTORY]]]    Each block's report is DIRECTORY/FIRST-LAST.json.
set -eu
first=${1:-1000000}
seeds=${2:-1000000}
directory=${3:-soak}
root=$(CDPATH='' cd -- "$(dirname "$0")/.." && pwd -P)
block=10000
mkdir -p "$directory"
broken=0
last=$((first + seeds - 1))
while [ "$first" -le "$last" ]; do
  end=$((first + block - 1))
  if [ "$end" -gt "$last" ]; then end=$last; fi
  report=$directory/$first-$end.json
  if ! nice -n 10 "$root/bin/nightshift" simulate --seeds "$first..$end" --json >"$report"; then
    broken=$((broken + 1))
    echo "seeds $first to $end: see $report" >&2
  fi
  first=$((end + 1))
done
echo "$broken blocks with a broken rule, reports in $directory" >&2
[ "$broken" -eq 0 ]

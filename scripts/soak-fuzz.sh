#!/usr/bin/env bash
# Feeds decoders with far more inputs than `make fuzz`, in blocks with seeds of their own:
# scripts/soak-fuzz.sh [--inputs N] [--seed N] [--block N] [TARGET...]. Defaults: 1,000,000 inputs of every target, from seed 1000.
# Writes a line for each block, and everything about one that failed, to fuzz-soak.log.
set -euo pipefail
cd "$(dirname "$0")/.."

inputs=1000000
seed=1000
block=50000
targets=()
while (($#)); do
  case $1 in
    --inputs) inputs=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --block) block=$2; shift 2 ;;
    *) targets+=("$1"); shift ;;
  esac
done

fuzz() { nice -n 19 node_modules/.bin/node test/fuzz/main.ts --threads 1 "$@"; }
((${#targets[@]})) || mapfile -t targets < <(fuzz --list)

status=0
for target in "${targets[@]}"; do
  for ((done = 0; done < inputs; done += block)); do
    runs=$((inputs - done < block ? inputs - done : block))
    fuzz --target "$target" --runs "$runs" --seed $((seed + done / block)) >>fuzz-soak.log || status=1
  done
  tail -n 2 fuzz-soak.log | head -n 1
done
exit "$status"

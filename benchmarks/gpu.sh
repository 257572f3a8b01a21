#!/usr/bin/env bash
# All that is to be measured on a borrowed GPU, most telling first, in at most eight minutes; each part is a process of
# its own, so that one that fails costs nothing else.
#
#   OUT=results [WHEELS=folder] [PARTS="device fit"] [LIMIT=480] benchmarks/gpu.sh [--tiny]
#
# Needs Python 3.12 with torch, and no network. WHEELS: what benchmarks/gpu_wheels.sh gathered. Writes $OUT/<part>.json
# and $OUT/tables.md. LIMIT: seconds. --tiny: sizes for a
# CPU, to see that it runs.
set -u
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3} out=${OUT:-gpu-results} LIMIT=${LIMIT:-480}
export PYTHONPATH=$PWD/src PYTHONUNBUFFERED=1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
mkdir -p "$out"
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit
    PYTHONPATH=$PYTHONPATH:$site
fi
declare -A seconds=([device]=40 [fit]=90 [generator]=140 [raster]=30 [sampling]=50 [tests]=110)
for part in ${PARTS:-device fit generator raster sampling tests}; do
    left=$((LIMIT - SECONDS)) most=$((seconds[$part] + 30))
    [ "$left" -gt 10 ] || { echo "$part: left out, no time was left"; continue; }
    # a part begins nothing new after its seconds; what hangs is ended a little later
    timeout -k 5 $((left < most ? left : most)) "$python" benchmarks/gpu.py "$part" --out "$out" \
        --seconds "${seconds[$part]}" "$@" 2>"$out/$part.log" || tail -n 3 "$out/$part.log"
done
cat "$out"/*.log >"$out/log.txt" && rm -f "$out"/*.log
"$python" benchmarks/gpu_tables.py "$out" | tee "$out/tables.md"

#!/usr/bin/env bash
# Gathers what a borrowed machine without a network lacks beside Python 3.12 and torch, for benchmarks/gpu.sh.
#
#   [LIMIT=64] benchmarks/gpu_wheels.sh FOLDER
#
# Versions are those of requirements.txt. LIMIT: MiB in all. What comes first is needed most: the fit, the rasterisers and the
# generator work without av, which packs frames in stores, and without mediapipe.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} folder=$1 limit=${LIMIT:-64}
mkdir -p "$folder"
for name in annotated-types pydantic_core pydantic donfig google-crc32c numcodecs zarr diffusers av scenedetect mediapipe; do
    pinned=$(grep -i "^$name==" requirements.txt) || { echo "$name: not in requirements.txt" >&2; exit 1; }
    new=$(mktemp -d)
    "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
        --python-version "${TARGET:-3.12}" --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d "$new" "$pinned"
    if [ "$(cat "$folder"/*.whl "$new"/*.whl 2>/dev/null | wc -c)" -gt $((limit << 20)) ]; then
        echo "$pinned: left out, more than $limit MiB with it"
    else
        mv "$new"/*.whl "$folder"
    fi
    rm -r "$new"
done
du -ch "$folder"/*.whl | tail -n 1

#!/usr/bin/env bash
# Everything that wants a GPU, measured on one in at most ten minutes: one command; measure.py says what the steps are.
#
#   benchmarks/gpu/run.sh pack fer2013.zip [MiB]     here: cut the zip into parts that travel (12 MiB each), fetch wheels
#   benchmarks/gpu/run.sh [flags]                    there: install what is missing, join the parts, measure
#   benchmarks/gpu/run.sh --data_dir fer2013.zip     there, when the zip is at hand; without zip and parts FER-2013 is left out
#   benchmarks/gpu/run.sh --only fer2013 [flags]     there: one step alone; the published network, trained for the time there is
#   benchmarks/gpu/run.sh --device cpu --limit       the way through, in a few minutes on a CPU; its figures mean nothing
#
# Parts and wheels lie in out/gpu/parts and out/gpu/wheels, which git ignores. Where only so much travels at a time, carry the parts one
# by one: what lies there already stays. Written to --output_dir (default $OUT or out/gpu/run): results.json and results.md, anew after
# every step, and what FER-2013's training writes. No weights. Flags are those of measure.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
parts=out/gpu/parts wheels=out/gpu/wheels
python=${PYTHON:-python3}

if [ "${1:-}" = pack ]; then
    zip=${2:?expected the path of fer2013.zip}
    mkdir -p "$parts" "$wheels"
    rm -f "$parts"/fer2013.zip.*
    split --bytes="${3:-12}M" --numeric-suffixes --suffix-length=2 "$zip" "$parts/fer2013.zip."
    (cd "$(dirname "$zip")" && sha256sum "$(basename "$zip")") | cut -d' ' -f1 >"$parts/sha256"
    # what images for training lack: of our requirements, and of the tests'
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${GPU_PYTHON:-3.12}" --dest "$wheels" \
        datasets dill multiprocess lz4 pyxdf parameterized pytest-socket zstandard
    du -ch "$parts"/* "$wheels"/* | sort -k2
    exit
fi

if ! "$python" -c "import datasets" 2>/dev/null && [ -d "$wheels" ]; then
    site=$(mktemp -d)
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
if ! "$python" -c "import meco_expressnet_moe, meco_himoe, meco_mcoenet" 2>/dev/null; then
    # entry points are read from metadata, so the packages are installed and not just put on the path
    site=$(mktemp -d)
    if "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --no-compile --target "$site" \
        . plugins/expressnet_moe plugins/himoe plugins/mcoenet 2>"$site/log"; then
        export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    else
        # no build backend there: the sources, and the entry points written as their wheels would have them
        "$python" benchmarks/gpu/entry_points.py "$site" pyproject.toml plugins/{expressnet_moe,himoe,mcoenet}/pyproject.toml
        for sources in plugins/{expressnet_moe,himoe,mcoenet}/src; do
            export PYTHONPATH="$PWD/$sources${PYTHONPATH:+:$PYTHONPATH}"
        done
        export PYTHONPATH="$site:$PWD/src:$PYTHONPATH"
    fi
fi

data=()
case " $* " in
*" --data_dir "*) ;;
*)
    if [ -f "$parts/sha256" ]; then
        joined=$(mktemp -d)/fer2013.zip
        cat "$parts"/fer2013.zip.* >"$joined"
        [ "$(sha256sum "$joined" | cut -d' ' -f1)" = "$(cat "$parts/sha256")" ] || {
            echo "The parts in $parts do not make up the zip they were cut from. Pack and carry them again." >&2
            exit 1
        }
        data=(--data_dir "$joined")
    fi
    ;;
esac
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 PYTHONUNBUFFERED=1
exec "$python" benchmarks/gpu/measure.py "${data[@]}" "$@"

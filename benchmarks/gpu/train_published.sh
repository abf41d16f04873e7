#!/usr/bin/env bash
# The published ExpressNet-MoE, trained on FER-2013 from scratch on one GPU in bf16, within ten minutes: one command.
#
#   benchmarks/gpu/train_published.sh pack fer2013.zip [MiB]   here: cut the zip into parts that travel (12 MiB each), fetch wheels
#   benchmarks/gpu/train_published.sh [flags]                  there: install what is missing, join the parts, train, write figures
#   benchmarks/gpu/train_published.sh --data_dir fer2013.zip   there, when the zip is at hand
#   benchmarks/gpu/train_published.sh --data_dir fer2013.zip --tiny --output_dir out/tiny     a trial of minutes on a CPU
#
# Parts and wheels lie in out/gpu/parts and out/gpu/wheels, which git ignores. Where only so much travels at a time, carry the parts one
# by one: what lies there already stays. Figures go to --output_dir (default $OUT or out/gpu/run), the weights stay where they were
# trained. Flags are those of train_published.py; --minutes 8 is how long the training may take.
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
    # what images for training lack; the rest of our requirements is there
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "${GPU_PYTHON:-3.12}" --dest "$wheels" \
        datasets dill multiprocess
    du -ch "$parts"/* "$wheels"/* | sort -k2
    exit
fi

if ! "$python" -c "import datasets" 2>/dev/null && [ -d "$wheels" ]; then
    site=$(mktemp -d)
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
if ! "$python" -c "import meco_expressnet_moe" 2>/dev/null; then
    # entry points are read from metadata, so the packages are installed and not just put on the path
    site=$(mktemp -d)
    if "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --no-compile --target "$site" \
        . plugins/expressnet_moe 2>"$site/log"; then
        export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    else
        # no build backend there: the two sources, and the entry points written as their wheels would have them
        "$python" benchmarks/gpu/entry_points.py "$site" pyproject.toml plugins/expressnet_moe/pyproject.toml
        export PYTHONPATH="$site:$PWD/src:$PWD/plugins/expressnet_moe/src${PYTHONPATH:+:$PYTHONPATH}"
    fi
fi

data=()
case " $* " in
*" --data_dir "*) ;;
*)
    joined=$(mktemp -d)/fer2013.zip
    cat "$parts"/fer2013.zip.* >"$joined"
    [ "$(sha256sum "$joined" | cut -d' ' -f1)" = "$(cat "$parts/sha256")" ] || {
        echo "The parts in $parts do not make up the zip they were cut from. Pack and carry them again." >&2
        exit 1
    }
    data=(--data_dir "$joined")
    ;;
esac
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 PYTHONUNBUFFERED=1
exec "$python" benchmarks/gpu/train_published.py "${data[@]}" "$@"

#!/usr/bin/env bash
# Makes phi-nano from nothing: environment, exercises, tokenizer, training, export, evaluation.
# Run it again to go on after an interruption: finished parts are kept, training resumes.
#   tools/train/train.sh [FOLDER] [MINUTES]     default: build/phi-nano, 75
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(realpath -m "${1:-build/phi-nano}")
minutes=${2:-75}
processes=$(nproc)
mkdir -p "$work"
cd "$here"

python="$work/venv/bin/python"
if [[ ! -e "$work/venv/ready" ]]; then
  python3 -m venv "$work/venv"
  "$python" -m pip install --quiet -r requirements.txt
  touch "$work/venv/ready"
fi
if [[ ! -e "$work/data/ready" ]]; then
  "$python" generate.py --out "$work/data" --suites "$work/suites"
  touch "$work/data/ready"
fi
if [[ ! -e "$work/tokenizer.json" ]]; then
  "$python" train_tokenizer.py --texts "$work/data/train.jsonl" --out "$work/tokenizer.json"
fi
# One thread in each process: see data_parallel.py. The batch of 16 rows is split over two of them.
if (( processes > 2 )); then processes=2; fi
OMP_NUM_THREADS=1 "$work/venv/bin/torchrun" --standalone --nproc-per-node "$processes" train_model.py \
  --data "$work/data" --tokenizer "$work/tokenizer.json" --checkpoints "$work/checkpoints" --minutes "$minutes"
"$python" plot_curve.py --progress "$work/checkpoints/progress.json" --out "$work/checkpoints/model/loss.png"
"$python" evaluate --backend transformers --model "$work/checkpoints/model" --suites "$work/suites"
echo "model: $work/checkpoints/model"

#!/usr/bin/env bats
# One network at several sizes of images: while it learns, when it is evaluated, and afterwards.
load helper

# Train a ViT of two small blocks into $1 with further options.
vit() {
    local out=$1
    shift
    "$FERKD" train "$WORK/train" --val "$WORK/val" --method ce --model "$SOURCE/tests/data/vit.json" --batch 4 --optimizer adamw --lr 0.001 \
        --seed 1 -o "$out" "$@"
}

value() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(round(d["top1"], 3), round(d["loss"], 4))'; }
last_row() { python3 -c 'import csv,sys; r=list(csv.DictReader(open(sys.argv[1])))[-1]; print(round(float(r["val_top1"]), 3), round(float(r["val_loss"]), 4))' "$1/metrics.csv"; }

@test "positions grow with the images; interrupted as uninterrupted, with whatever the optimiser keeps" {
    for how in "--ema 0.9 --accumulate 2 --clip 1" "--lean" "--optimizer sgd"; do
        rm -rf "$WORK/whole" "$WORK/cut"
        grow() { vit "$1" --size 48 --size-start 16 --epochs 6 --save-every 1 $how; }
        grow "$WORK/whole"
        kill_when_saved "$WORK/cut" grow "$WORK/cut"
        for _ in 1 2 3 4; do timeout -s INT 0.3 "$FERKD" train --resume "$WORK/cut" || true; done
        "$FERKD" train --resume "$WORK/cut"
        for f in last best; do cmp "$WORK/whole/$f.safetensors" "$WORK/cut/$f.safetensors"; done
    done
}

@test "a student is evaluated at the size that is asked for: while it learns, afterwards, and as ONNX" {
    vit "$WORK/wide" --size 32 --val-size 48 --epochs 2
    [ "$("$FERKD" eval "$WORK/wide" "$WORK/val" --weights last --json | value)" = "$(last_row "$WORK/wide")" ]
    [ "$("$FERKD" eval "$WORK/wide" "$WORK/val" --weights last --teacher-size 32 --json | value)" != "$(last_row "$WORK/wide")" ]
    "$FERKD" export "$WORK/wide" --weights last --teacher-size 64 -o "$WORK/wide.onnx"
    "$FERKD" eval "$WORK/wide" "$WORK/val" --weights last --teacher-size 64 --json | value > "$WORK/run"
    "$FERKD" eval "$WORK/wide.onnx" "$WORK/val" --json | value > "$WORK/onnx"
    cmp "$WORK/run" "$WORK/onnx"
    # Other than the size, too.
    train "$WORK/a" --method ce
    "$FERKD" eval "$WORK/a" "$WORK/val" --json | value > "$WORK/said"
    for other in "--crop-pct 0.5" "--teacher-mean 0.1" "--teacher-std 0.9" "--teacher-resize lanczos"; do
        "$FERKD" eval "$WORK/a" "$WORK/val" $other --json | value > "$WORK/other"
        [ "$(cat "$WORK/said")" != "$(cat "$WORK/other")" ]
    done
}

@test "a size that the network cannot have is refused before the first epoch" {
    for sizes in "--size 48 --size-start 4" "--size 28 --size-start 28 --val-size 4"; do
        run vit "$WORK/no" $sizes --epochs 3
        [ "$status" -ne 0 ]
        [[ "$output" != *"epoch 1/"* ]]
        [ ! -e "$WORK/no/last.safetensors" ]
    done
}

#!/usr/bin/env bats
# The whole way through the program, on a data set of a few images.
load helper

@test "label, inspect, train with every method, eval, predict, export" {
    run label "$WORK/labels.ferkd"
    [ "$status" -eq 0 ]
    [[ "$output" == *"bytes a region"* ]]
    run "$FERKD" inspect "$WORK/labels.ferkd" --json
    [ "$status" -eq 0 ]
    echo "$output" | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["regions"]==8 and d["classes"]==4 and d["topk"]==2, d'
    run "$FERKD" inspect "$WORK/labels.ferkd" --verify
    [ "$status" -eq 0 ]
    for m in ce kd funmatch deit fkd ferkd; do
        run train "$WORK/$m" --method $m --labels "$WORK/labels.ferkd" --teacher "$TEACHER" $HOW
        [ "$status" -eq 0 ]
        for f in recipe.yaml metrics.csv metrics.jsonl last.safetensors best.safetensors; do [ -s "$WORK/$m/$f" ]; done
        [ "$(wc -l < "$WORK/$m/metrics.csv")" -eq 4 ]
    done
    head -1 "$WORK/ce/metrics.csv" | grep -q 'epoch,train_loss,.*val_top1,.*images_per_s,seconds'
    run "$FERKD" export "$WORK/ferkd" -o "$WORK/s.onnx"
    [ "$status" -eq 0 ]
    a=$("$FERKD" eval "$WORK/ferkd" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["images"], d["top1"], d["top5"], round(d["loss"],4))')
    b=$("$FERKD" eval "$WORK/s.onnx" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["images"], d["top1"], d["top5"], round(d["loss"],4))')
    [ "$a" = "$b" ]
    run "$FERKD" predict "$WORK/ferkd" "$WORK/val/ant/rgb444.jpg" --top 2 --json
    [ "$status" -eq 0 ]
    echo "$output" | python3 -c 'import json,sys; d=json.load(sys.stdin); assert len(d)==1 and len(d[0]["top"])==2, d'
    run "$FERKD" label "$WORK/train" --teacher "$WORK/ferkd" --regions 2 --topk 4 -o "$WORK/again.ferkd"
    [ "$status" -eq 0 ]
}

@test "a student with a distillation token: one head learns the truth, the other what the teacher says; both are averaged" {
    tiny() { "$FERKD" train "$WORK/train" --val "$WORK/val" --model deit_tiny_distilled_patch16_224 --size 32 --batch 8 --epochs 1 --lr 0.01 --tune off --seed 1 --teacher "$TEACHER" $HOW "$@"; }
    tiny --method deit -o "$WORK/hard"
    tiny --method kd -o "$WORK/soft"
    tiny --method deit --kd-alpha 1 -o "$WORK/truth"
    tiny --method deit --kd-alpha 0 -o "$WORK/teacher"
    python3 - "$WORK" <<'EOF'
import json, struct, sys
def weights(run, name):
    b = open(f"{sys.argv[1]}/{run}/last.safetensors", "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    a, z = json.loads(b[8:8 + n])[name]["data_offsets"]
    return b[8 + n + a:8 + n + z]
zeros = bytes(4 * 4) # biases begin at zero
for run, class_head, teacher_head in (("hard", 1, 1), ("soft", 1, 1), ("truth", 1, 0), ("teacher", 0, 1)):
    assert (weights(run, "head.bias") != zeros, weights(run, "head_dist.bias") != zeros) == (class_head, teacher_head), run
EOF
    "$FERKD" export "$WORK/hard" -o "$WORK/hard.onnx"
    a=$("$FERKD" eval "$WORK/hard" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    b=$("$FERKD" eval "$WORK/hard.onnx" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    [ "$a" = "$b" ]
}

@test "the same seed gives the same bytes; another seed others" {
    label "$WORK/a.ferkd"
    label "$WORK/b.ferkd"
    cmp "$WORK/a.ferkd" "$WORK/b.ferkd"
    for o in "--method ce" "--method ferkd --labels $WORK/a.ferkd --mix both --mix-scope image" "--method ce --optimizer adamw --ema 0.9 --clip 1 --accumulate 2 --mix both"; do
        rm -rf "$WORK/r1" "$WORK/r2" "$WORK/r3"
        train "$WORK/r1" $o
        train "$WORK/r2" $o --threads 5
        cmp "$WORK/r1/last.safetensors" "$WORK/r2/last.safetensors"
        train "$WORK/r3" $o --seed 2
        run cmp -s "$WORK/r1/last.safetensors" "$WORK/r3/last.safetensors"
        [ "$status" -ne 0 ]
    done
}

@test "interrupted and resumed is uninterrupted, byte for byte" {
    label "$WORK/l.ferkd"
    o="--method ferkd --labels $WORK/l.ferkd --epochs 180 --ema 0.9 --accumulate 2 --regions-per-image 2"
    train "$WORK/whole" $o
    for signal in INT KILL; do
        rm -rf "$WORK/cut"
        train "$WORK/cut" $o --save-every 1 > "$WORK/log" 2>&1 3>&- &
        pid=$!
        for _ in $(seq 100); do [ -s "$WORK/cut/last.safetensors" ] && break; sleep 0.02; done
        pkill -$signal -P $pid ferkd || true
        wait $pid || true
        rm -f "$WORK"/cut/*.part
        [ "$(wc -l < "$WORK/cut/metrics.csv")" -lt 181 ]
        "$FERKD" train --resume "$WORK/cut"
        cmp "$WORK/whole/last.safetensors" "$WORK/cut/last.safetensors"
        cmp "$WORK/whole/best.safetensors" "$WORK/cut/best.safetensors"
        [ "$(wc -l < "$WORK/cut/metrics.csv")" -eq 181 ]
    done
}

@test "sizes grow, evaluation has its own, and a resumed run grows alike" {
    grow() {
        local out=$1
        shift
        "$FERKD" train "$WORK/train" --val "$WORK/val" --method ce --model resnet20 --size-start 32 --size 64 \
            --val-size 96 --batch 8 --epochs 6 --seed 1 -o "$out" "$@"
    }
    run grow "$WORK/grown"
    [ "$status" -eq 0 ]
    [[ "$output" == *"size 64 px from here on"* ]]
    [ "$(wc -l < "$WORK/grown/metrics.csv")" -eq 7 ]
    "$FERKD" export "$WORK/grown" -o "$WORK/grown.onnx"
    grep -q '"size": *96' "$WORK/grown.json"
    grow "$WORK/cut6" --save-every 1 > "$WORK/log" 2>&1 3>&- &
    pid=$!
    for _ in $(seq 200); do [ "$(wc -l < "$WORK/cut6/metrics.csv")" -ge 3 ] 2>/dev/null && break; sleep 0.01; done
    pkill -KILL -P $pid ferkd || true
    wait $pid || true
    rm -f "$WORK"/cut6/*.part
    "$FERKD" train --resume "$WORK/cut6"
    cmp "$WORK/grown/last.safetensors" "$WORK/cut6/last.safetensors"
    run grow "$WORK/wrong" --size-start 128
    [ "$status" -eq 2 ]
}

@test "unreadable images are skipped and counted, or stop the work" {
    cp -r "$WORK/train" "$WORK/bad"
    head -c 300 "$WORK/bad/ant/rgb420.jpg" > "$WORK/bad/ant/cut.jpg"
    : > "$WORK/bad/bee/empty.jpg"
    echo hello > "$WORK/bad/cat/text.png"
    run "$FERKD" label "$WORK/bad" --teacher "$TEACHER" $HOW --topk 2 -o "$WORK/bad.ferkd"
    [ "$status" -eq 0 ]
    [[ "$output" == *"3 images skipped"* ]]
    [[ "$output" == *"cut.jpg"* ]]
    run "$FERKD" label "$WORK/bad" --teacher "$TEACHER" $HOW --topk 2 --on-bad-image stop -o "$WORK/bad2.ferkd"
    [ "$status" -eq 5 ]
    run "$FERKD" train "$WORK/bad" --method ce --model small28 --size 28 --batch 8 --epochs 2 -o "$WORK/badrun"
    [ "$status" -eq 0 ]
    [[ "$output" == *"could not be read"* ]]
    run "$FERKD" train "$WORK/bad" --method ce --model small28 --size 28 --batch 8 --epochs 2 --on-bad-image stop -o "$WORK/badrun2"
    [ "$status" -ne 0 ]
}

@test "IDX and grey networks" {
    python3 - "$WORK" <<'P'
import struct, sys, random
random.seed(1)
n = 64
w = sys.argv[1]
img = bytearray(); lab = bytearray()
for i in range(n):
    c = i % 3
    lab.append(c)
    img += bytes(min(255, (x * 9 if c == 0 else y * 9 if c == 1 else 255 - x * 9) + random.randrange(20)) for y in range(28) for x in range(28))
open(w + "/toy-images-idx3-ubyte", "wb").write(struct.pack(">HBBIII", 0, 8, 3, n, 28, 28) + img)
open(w + "/toy-labels-idx1-ubyte", "wb").write(struct.pack(">HBBI", 0, 8, 1, n) + lab)
P
    run "$FERKD" train "$WORK/toy-images-idx3-ubyte" --val "$WORK/toy-images-idx3-ubyte" --method ce --model small28 \
        --size 28 --crop-pct 1 --batch 16 --epochs 12 --scale-min 0.8 --flip 0 --lr 0.1 -o "$WORK/toy"
    [ "$status" -eq 0 ]
    top1=$("$FERKD" eval "$WORK/toy" "$WORK/toy-images-idx3-ubyte" --json | python3 -c 'import json,sys; print(int(json.load(sys.stdin)["top1"]))')
    [ "$top1" -ge 90 ]
}

@test "an experiment trains what is missing, resumes, compares, and refuses another recipe" {
    label "$WORK/e.ferkd"
    cat > "$WORK/grid.yaml" <<EOF
name: a grid
base: {data: $WORK/train, val: $WORK/val, labels: $WORK/e.ferkd, model: small28, size: 28, batch: 8, epochs: 2, lr: 0.01}
seeds: 2
methods:
  fkd: {method: fkd}
  ferkd: {method: ferkd, calibrate: "wrong: hard", extra-seconds: 600}
  drop: {method: ferkd, calibrate: "max < \$x: discard", vary: {x: [10%, 20%]}, seeds: [1]}
target: 1
EOF
    run "$FERKD" experiment "$WORK/grid.yaml" --list
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 6 ]
    run "$FERKD" experiment "$WORK/grid.yaml" -o "$WORK/grid"
    [ "$status" -eq 0 ]
    [[ "$output" == *"6 of 6 runs are finished"* ]]
    [[ "$output" == *"| drop 20% | 1 |"* ]]
    [[ "$output" == *"over fkd, paired, 95%"* ]]
    [ "$(wc -l < "$WORK/grid/results.csv")" -eq 7 ]
    [ "$(grep -c "<svg" "$WORK/grid/index.html")" -ge 8 ]
    # A finished run is what the recipe alone gives.
    "$FERKD" train "$WORK/grid/runs/ferkd-s2/recipe.yaml" -o "$WORK/alone"
    cmp "$WORK/alone/last.safetensors" "$WORK/grid/runs/ferkd-s2/last.safetensors"
    # A missing run is made again, the others are left.
    rm -r "$WORK/grid/runs/drop-20--s1"
    touch -d "2001-01-01" "$WORK/grid/runs/fkd-s1/last.safetensors"
    "$FERKD" experiment "$WORK/grid.yaml" > "$WORK/log" 2>&1
    [ "$(grep -c "^run " "$WORK/log")" -eq 1 ]
    [ "$(date -r "$WORK/grid/runs/fkd-s1/last.safetensors" +%Y)" -eq 2001 ]
    sed -i 's/lr: 0.01/lr: 0.02/' "$WORK/grid.yaml"
    run "$FERKD" experiment "$WORK/grid.yaml"
    [ "$status" -eq 2 ]
    [[ "$output" == *"fkd-s1 was made with another \"lr\""* ]]
    sed -i 's/seeds: 2/seed: 2/' "$WORK/grid.yaml"
    run "$FERKD" experiment "$WORK/grid.yaml"
    [ "$status" -eq 2 ]
    [[ "$output" == *"grid.yaml:3:"* ]]
}

@test "rules are shown on a store, and a page is drawn" {
    label "$WORK/c.ferkd"
    run "$FERKD" calibrate "$WORK/c.ferkd" "wrong: hard" fkd --json
    [ "$status" -eq 0 ]
    echo "$output" | python3 -c 'import json,sys; a,b=json.load(sys.stdin); assert a["regions"]==200 and b["kept"]["regions"]==200 and a["treated"]["teacher_right"]==0, (a,b)'
    run "$FERKD" calibrate "$WORK/c.ferkd"
    [ "$status" -eq 0 ]
    [[ "$output" == *"ferkd-paper"* ]]
    run "$FERKD" calibrate "$WORK/c.ferkd" "max < 5%: explode"
    [ "$status" -eq 2 ]
    [[ "$output" == *"\"explode\""* ]]
    run "$FERKD" inspect "$WORK/c.ferkd" --suspects 5 --json
    [ "$status" -eq 0 ]
    echo "$output" | python3 -c 'import json,sys; d=json.load(sys.stdin); s=[x["score"] for x in d]; assert d and s==sorted(s,reverse=True) and "/" in d[0]["name"], d'
    run "$FERKD" inspect "$WORK/c.ferkd" --page "$WORK/c.html" --calibrate "max < 30%: discard"
    [ "$status" -eq 0 ]
    [ "$(grep -c "<svg" "$WORK/c.html")" -ge 5 ]
    grep -q "Classes that the teacher knows least" "$WORK/c.html"
    "$FERKD" inspect "$WORK/c.ferkd" --sheet "$WORK/group.png" --group ur --calibrate "max < 30%: discard"
    "$FERKD" inspect "$WORK/c.ferkd" --sheet "$WORK/image.png" --image 3 --calibrate "max < 30%: discard"
    "$FERKD" inspect "$WORK/c.ferkd" --sheet "$WORK/image.html" --image 3
    [ "$(grep -c "<figure" "$WORK/image.html")" -eq 8 ]
    mkdir -p "$WORK/pngs/a" "$WORK/pngs/b"
    cp "$WORK/group.png" "$WORK/pngs/a/"; cp "$WORK/image.png" "$WORK/pngs/b/" # they can be read
    run "$FERKD" train "$WORK/pngs" --method ce --model small28 --size 28 --batch 2 --epochs 1 --on-bad-image stop -o "$WORK/pngrun"
    [ "$status" -eq 0 ]
    run "$FERKD" inspect "$WORK/c.ferkd" --sheet "$WORK/none.png" --group hr --calibrate fkd
    [ "$status" -eq 3 ]
    python3 -c 'import sys,html.parser; html.parser.HTMLParser().feed(open(sys.argv[1]).read())' "$WORK/c.html"
}

@test "the Python reader in examples reads what the program reads" {
    mkdir "$WORK/sub"
    cp -r "$WORK"/train/{ant,bee,cat} "$WORK/sub/"
    train "$WORK/four" --method ce
    "$FERKD" label "$WORK/sub" --teacher "$WORK/four" --regions 5 --topk 2 --prob-bits 9 --seed 3 -o "$WORK/sub.ferkd"
    for i in 0 7 18; do
        "$FERKD" inspect "$WORK/sub.ferkd" --image $i --json > "$WORK/image.json"
        python3 - "$SOURCE/examples" "$WORK/sub.ferkd" $i "$WORK/image.json" <<'EOF'
import json, sys
sys.path.insert(0, sys.argv[1])
from read_store import Store
s, want = Store(sys.argv[2]), json.load(open(sys.argv[4]))
truth, labels = s.image(int(sys.argv[3]))
assert s.outside and s.prob_bits == 9 and s.classes == 3 and truth == want["truth"], want
for (top, inside, largest), w in zip(labels, want["labels"], strict=True):
    assert abs(inside - w["inside"]) < 1e-5 and abs(largest - w["p"]) < 1e-5, (inside, w)
    assert [c for c, _ in top] == [c for c, _ in w["top"]]
    assert all(abs(p - q) < 1e-5 for (_, p), (_, q) in zip(top, w["top"]))
    assert abs(sum(s.dense(top)) - 1) < 1e-9
EOF
    done
}

@test "a store of made-up labels is measured" {
    run "$FERKD" bench store --images 40 --regions 20 --topk 5 --classes 1000 --json -o "$WORK/made.ferkd"
    [ "$status" -eq 0 ]
    echo "$output" | tail -1 | python3 -c 'import json,sys; d=json.load(sys.stdin); assert 3 < d["bytes_per_region"] < 9 and d["labels_per_s"] > 0 and d["open_ms"] > 0, d'
    run "$FERKD" inspect "$WORK/made.ferkd" --verify
    [ "$status" -eq 0 ]
    run "$FERKD" bench store --images 10 --regions 2 --classes 50 --topk 50
    [ "$status" -eq 0 ]
}

@test "labelled in parts and merged, or damaged and repaired: the same bytes as at once" {
    export FERKD
    many() { "$FERKD" label "$WORK/train" --teacher "$TEACHER" $HOW --regions 128 --topk 2 --seed 1 "$@"; }
    many -o "$WORK/at-once.ferkd"
    for i in 3 1 2; do many --part $i/3 -o "$WORK/parts.ferkd"; done
    run "$FERKD" train "$WORK/train" --batch 8 --labels "$WORK/parts.ferkd.2of3" -o "$WORK/no"
    [ "$status" -eq 2 ]
    [[ "$output" == *"part 2 of 3"* ]]
    run "$FERKD" store merge -o "$WORK/parts.ferkd" "$WORK/parts.ferkd.1of3" "$WORK/parts.ferkd.3of3"
    [ "$status" -eq 2 ]
    [[ "$output" == *"are in none of these parts"* ]]
    "$FERKD" store merge -o "$WORK/parts.ferkd" "$WORK"/parts.ferkd.*of3
    cmp "$WORK/at-once.ferkd" "$WORK/parts.ferkd"
    many --part 1/3 --seed 2 -o "$WORK/other.ferkd"
    run "$FERKD" store merge -o "$WORK/mixed.ferkd" "$WORK/other.ferkd.1of3" "$WORK"/parts.ferkd.[23]of3
    [ "$status" -eq 2 ]
    [[ "$output" == *"different stores"* ]]
    # Three flipped bytes within the blocks.
    for at in 700 2000 3300; do printf '\x55' | dd of="$WORK/parts.ferkd" bs=1 seek=$at conv=notrunc status=none; done
    run "$FERKD" store verify "$WORK/parts.ferkd"
    [ "$status" -eq 5 ]
    run many --repair --seed 2 -o "$WORK/parts.ferkd"
    [ "$status" -eq 2 ]
    run many --repair -o "$WORK/parts.ferkd"
    [ "$status" -eq 0 ]
    [[ "$output" == *"images labelled again"* ]]
    cmp "$WORK/at-once.ferkd" "$WORK/parts.ferkd"
    run many --repair -o "$WORK/parts.ferkd"
    [[ "$output" == *"complete already"* ]]
    # Fewer regions: as if so many had been labelled.
    "$FERKD" store convert "$WORK/at-once.ferkd" --regions 5 -o "$WORK/five.ferkd"
    run many --regions 5 -o "$WORK/five-labelled.ferkd"
    cmp "$WORK/five-labelled.ferkd" "$WORK/five.ferkd"
    run "$FERKD" store convert "$WORK/at-once.ferkd" --regions 1000 -o "$WORK/thousand.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"holds 128 regions an image, not 1000"* ]]
    # Fewer probabilities, fewer bits.
    "$FERKD" store convert "$WORK/at-once.ferkd" --topk 1 --prob-bits 8 -o "$WORK/small.ferkd"
    [ "$(stat -c %s "$WORK/small.ferkd")" -lt "$(stat -c %s "$WORK/at-once.ferkd")" ]
    run "$FERKD" store diff "$WORK/at-once.ferkd" "$WORK/small.ferkd" --json
    echo "$output" | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["settings"]=="top-k, bits" and d["other_first"]==0 and d["regions"]>0, d'
    run "$FERKD" store diff "$WORK/at-once.ferkd" "$WORK/parts.ferkd" --json
    echo "$output" | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["settings"]=="" and d["regions"]==0 and d["images"]==0, d'
    [ "$("$FERKD" store head "$WORK/at-once.ferkd" 2 | grep -c "^region")" -eq 256 ]
    "$FERKD" store info "$WORK/at-once.ferkd" "$WORK/small.ferkd"
}

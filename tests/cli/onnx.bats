#!/usr/bin/env bats
# ONNX files in and out.
load helper

# A tensor of shape $1 (comma-separated) into $2.
tensor() {
    python3 - "$1" "$2" <<'EOF'
import struct, sys
shape = [int(v) for v in sys.argv[1].split(",")]
n = 1
for d in shape:
    n *= d
head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % sys.argv[1]
head += " " * (63 - (10 + len(head)) % 64) + "\n"
values = [((i * 7919) % 1000) / 500 - 1 for i in range(n)]
open(sys.argv[2], "wb").write(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{n}f", *values))
EOF
}

# The largest difference of two tensors, relative to the largest value, is below $3.
near() {
    python3 - "$1" "$2" "$3" <<'EOF'
import struct, sys
def read(path):
    b = open(path, "rb").read()
    n = 10 + struct.unpack("<H", b[8:10])[0]
    return struct.unpack(f"<{(len(b) - n) // 4}f", b[n:])
a, b = read(sys.argv[1]), read(sys.argv[2])
worst = max(abs(x - y) for x, y in zip(a, b, strict=True)) / max(map(abs, a))
assert worst <= float(sys.argv[3]), worst
EOF
}

@test "weights in a file beside the model are those in it; a name that leads elsewhere is refused" {
    tensor 2,3,16,16 "$WORK/x.npy"
    cp "$SOURCE"/tests/data/external/mixed17.* "$WORK/"
    "$FERKD" run "$SOURCE/tests/data/onnx/mixed17.onnx" -i "$WORK/x.npy" -o "$WORK/in.npy"
    "$FERKD" run "$WORK/mixed17.onnx" -i "$WORK/x.npy" -o "$WORK/beside.npy"
    cmp "$WORK/in.npy" "$WORK/beside.npy"
    sed 's/mixed17.bin/..\/ed17.bin/' "$WORK/mixed17.onnx" >"$WORK/elsewhere.onnx"
    run "$FERKD" run "$WORK/elsewhere.onnx" -i "$WORK/x.npy" -o "$WORK/no.npy"
    [ "$status" -eq 5 ]
    [[ "$output" == *"not beside the model"* ]] || { echo "$output"; false; }
    head -c 100 "$WORK/mixed17.bin" >"$WORK/cut" && mv "$WORK/cut" "$WORK/mixed17.bin"
    run "$FERKD" run "$WORK/mixed17.onnx" -i "$WORK/x.npy" -o "$WORK/no.npy"
    [ "$status" -eq 5 ]
    [[ "$output" == *"external data"* ]]
    # Other weights are another teacher.
    cp "$SOURCE/tests/data/external/mixed17.bin" "$WORK/"
    "$FERKD" label "$WORK/train" --teacher "$WORK/mixed17.onnx" $HOW --regions 2 --topk 2 -o "$WORK/e.ferkd"
    printf '\1' | dd of="$WORK/mixed17.bin" bs=1 seek=1 conv=notrunc 2>/dev/null
    run "$FERKD" label "$WORK/train" --teacher "$WORK/mixed17.onnx" $HOW --regions 2 --topk 2 -o "$WORK/e.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"teacher"* ]]
}

@test "export: opsets 13 to 18, folded, float16, int8, OpenCV's forms give the same logits" {
    tensor 2,3,32,32 "$WORK/x.npy"
    for model in mobilenet_v2_x0_5 deit_tiny_patch16_224 swin_tiny_patch4_window7_224; do
        "$FERKD" train "$WORK/train" --method ce --model $model --size 32 --batch 8 --epochs 1 --lr 0.001 --tune off -o "$WORK/$model"
        "$FERKD" run "$WORK/$model" -i "$WORK/x.npy" -o "$WORK/want.npy"
        for how in "--opset 13" "--opset 18" "--opencv" "--fold"; do
            "$FERKD" export "$WORK/$model" $how -o "$WORK/m.onnx"
            "$FERKD" run "$WORK/m.onnx" -i "$WORK/x.npy" -o "$WORK/got.npy"
            near "$WORK/want.npy" "$WORK/got.npy" 2e-5
        done
        "$FERKD" export "$WORK/m.onnx" -o "$WORK/again.onnx"
        "$FERKD" run "$WORK/again.onnx" -i "$WORK/x.npy" -o "$WORK/got.npy"
        near "$WORK/want.npy" "$WORK/got.npy" 2e-5
        before=$(stat -c %s "$WORK/m.onnx")
        "$FERKD" export "$WORK/$model" --fp16 -o "$WORK/m.onnx"
        [ "$(stat -c %s "$WORK/m.onnx")" -lt $((before * 6 / 10)) ]
        "$FERKD" run "$WORK/m.onnx" -i "$WORK/x.npy" -o "$WORK/got.npy"
        near "$WORK/want.npy" "$WORK/got.npy" 0.02
        "$FERKD" export "$WORK/$model" --int8 "$WORK/train" --val "$WORK/val" --json -o "$WORK/m.onnx" > "$WORK/report.json"
        python3 -c 'import json,sys; r=json.load(open(sys.argv[1])); sys.exit(not (r["bytes"] < 0.4 * int(sys.argv[2]) and "top1_run" in r))' \
            "$WORK/report.json" "$before"
        "$FERKD" run "$WORK/m.onnx" -i "$WORK/x.npy" -o "$WORK/got.npy"
        near "$WORK/want.npy" "$WORK/got.npy" 0.3
    done
    run "$FERKD" export "$WORK/mobilenet_v2_x0_5" --int8 "$WORK/train" --fp16 -o "$WORK/m.onnx"
    [ "$status" -eq 2 ]
    run "$FERKD" export "$WORK/mobilenet_v2_x0_5" --int8 "$WORK/nowhere" -o "$WORK/m.onnx"
    [ "$status" -eq 3 ]
    run "$FERKD" export "$WORK/mobilenet_v2_x0_5" --val "$WORK/nowhere" -o "$WORK/never.onnx"
    [ "$status" -eq 3 ]
    [ ! -e "$WORK/never.onnx" ]
    run "$FERKD" export "$WORK/mobilenet_v2_x0_5" --opset 12 -o "$WORK/m.onnx"
    [ "$status" -eq 2 ]
    [[ "$output" == *"13 to 18"* ]]
}

@test "export takes an ONNX file, too: with what is said of its input, in 8 bits; equal weights are written once and trained apart" {
    tensor 2,3,32,32 "$WORK/x.npy"
    tiny() { "$FERKD" train "$WORK/train" --method ce --size 32 --batch 8 --epochs 1 --tune off "$@"; }
    tiny --model deit_tiny_patch16_224 --lr 1e-10 -o "$WORK/new"
    "$FERKD" export "$WORK/new" -o "$WORK/new.onnx"
    [ "$(grep -ao 'blocks\.[0-9]*\.norm[12]\.weight' "$WORK/new.onnx" | sort -u | wc -l)" -eq 1 ]
    tiny --init "$WORK/new.onnx" --lr 0.01 -o "$WORK/apart"
    "$FERKD" run "$WORK/apart" -i "$WORK/x.npy" -o "$WORK/want.npy"
    "$FERKD" export "$WORK/apart" -o "$WORK/apart.onnx"
    "$FERKD" run "$WORK/apart.onnx" -i "$WORK/x.npy" -o "$WORK/got.npy"
    near "$WORK/want.npy" "$WORK/got.npy" 2e-5

    tensor 2,3,16,16 "$WORK/y.npy"
    run "$FERKD" export "$TEACHER" -o "$WORK/no.onnx"
    [ "$status" -eq 2 ]
    [[ "$output" == *"--teacher-size"* ]]
    "$FERKD" export "$TEACHER" $HOW -o "$WORK/known.onnx"
    "$FERKD" run "$TEACHER" -i "$WORK/y.npy" -o "$WORK/want.npy"
    "$FERKD" run "$WORK/known.onnx" -i "$WORK/y.npy" -o "$WORK/got.npy"
    near "$WORK/want.npy" "$WORK/got.npy" 2e-5
    "$FERKD" export "$WORK/known.onnx" --int8 "$WORK/train" --val "$WORK/val" -o "$WORK/bytes.onnx" | grep -q "before"
    "$FERKD" run "$WORK/bytes.onnx" -i "$WORK/y.npy" -o "$WORK/got.npy"
    near "$WORK/want.npy" "$WORK/got.npy" 0.3
    run "$FERKD" export "$WORK/bytes.onnx" --fp16 -o "$WORK/no.onnx"
    [ "$status" -eq 6 ]
    [ ! -e "$WORK/no.onnx" ]
    # Fine-tuned, with its values still in 8 bits.
    "$FERKD" train "$WORK/train" --method ce --init "$WORK/bytes.onnx" --size 16 --batch 8 --epochs 2 --lr 0.01 --tune off -o "$WORK/finer"
    "$FERKD" export "$WORK/finer" -o "$WORK/finer.onnx"
    grep -aq DequantizeLinear "$WORK/finer.onnx"
    "$FERKD" run "$WORK/finer" -i "$WORK/y.npy" -o "$WORK/want.npy"
    "$FERKD" run "$WORK/finer.onnx" -i "$WORK/y.npy" -o "$WORK/got.npy"
    near "$WORK/want.npy" "$WORK/got.npy" 0.02
}

@test "a network that is written down in a file trains, resumes, goes out; what is wrong in it is named with its place" {
    net="$SOURCE/examples/networks/tiny_se.json"
    cp "$net" "$WORK/own.json"
    learn() { "$FERKD" train "$WORK/train" --val "$WORK/val" --method ce --model "$WORK/own.json" --size 32 --batch 8 --lr 0.01 --seed 1 "$@"; }
    learn --epochs 3 -o "$WORK/text1"
    kill_when_saved "$WORK/text2" learn --epochs 3 --save-every 1 -o "$WORK/text2"
    rm -f "$WORK/own.json" # the run has its own copy
    "$FERKD" train --resume "$WORK/text2"
    cmp "$WORK/text1/last.safetensors" "$WORK/text2/last.safetensors"
    a=$("$FERKD" eval "$WORK/text1" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    "$FERKD" export "$WORK/text1" -o "$WORK/text.onnx"
    b=$("$FERKD" eval "$WORK/text.onnx" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    [ "$a" = "$b" ]
    "$FERKD" info "$net" | grep -q "0.033 M parameters"
    [ "$("$FERKD" info --model "$net")" = "$("$FERKD" info "$net")" ]
    "$FERKD" bench train "$net" --batch 4 --size 32
    wrong() { # a change to the file, and what is said of it
        sed "$1" "$net" > "$WORK/wrong.json"
        run "$FERKD" info "$WORK/wrong.json"
        [ "$status" -eq 5 ]
        [[ "$output" == *"$2"* ]] || { echo "$output"; false; }
    }
    wrong 's/"depthwise": 3/"depthwize": 3/' 'inverted[0].residual[2]: a layer without an operation; did you mean "depthwise"'
    wrong 's/"stride": "$stride"/"stide": "$stride"/' '"depthwise" has no "stide"'
    wrong 's/"$expand"/"$expnd"/; s/channels\*$expand/channels*$expnd/' '"$expnd" is no number'
    wrong 's/"shortcut": "none"/"shortcut": [{"conv": 7, "name": "s"}]/' 'are not of one shape'
    wrong 's/"block": "inverted"/"block": "inverse"/' 'there is no block "inverse"'
    wrong 's/{"add": "early"}/{"add": "late"}/' 'nothing was kept as "late"'
    wrong 's/"globalpool",/"gelu",/' '"linear" needs outputs'
    wrong 's/"network": "tiny-se"/"netwrk": "tiny-se"/' 'not a network'
    wrong 's/"size": 32,/"size": 32/' 'not JSON'
    # A block within itself.
    wrong 's/"hardswish"\]/{"block": "norm_act", "name": "x"}]/' 'deep'
    # Nothing, a thousand times a thousand times ... over.
    python3 -c '
import json
blocks = {"b0": [], **{f"b{i}": [{"block": f"b{i-1}", "repeat": 1000}] for i in range(1, 12)}}
print(json.dumps({"network": "n", "blocks": blocks, "layers": [{"block": "b11"}]}))' > "$WORK/many.json"
    run timeout 10 "$FERKD" info "$WORK/many.json"
    [ "$status" -eq 5 ]
    [[ "$output" == *"more than 20000 blocks"* ]]
}

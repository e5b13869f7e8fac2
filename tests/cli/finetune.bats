#!/usr/bin/env bats
# Networks that come from ONNX files, as students.
load helper

losses() { python3 -c 'import csv,sys; print(*["%.4f" % float(r["train_loss"]) for r in csv.DictReader(open(sys.argv[1]))])' "$1/metrics.csv"; }

@test "training from an ONNX file is training from the run that it was exported from" {
    train "$WORK/first" --method ce --precision f32
    "$FERKD" export "$WORK/first" --weights last -o "$WORK/first.onnx"
    cp "$WORK/first/last.safetensors" "$WORK/first/best.safetensors" # what --init reads
    train "$WORK/from-run" --method ce --precision f32 --init "$WORK/first"
    train "$WORK/from-onnx" --method ce --precision f32 --init "$WORK/first.onnx"
    [ "$(losses "$WORK/from-run")" = "$(losses "$WORK/from-onnx")" ]
    # The run can be opened without the file that it came from.
    rm "$WORK/first.onnx" "$WORK/first.json"
    a=$("$FERKD" eval "$WORK/from-onnx" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    b=$("$FERKD" eval "$WORK/from-run" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    [ "$a" = "$b" ]
    "$FERKD" export "$WORK/from-onnx" -o "$WORK/again.onnx"
    c=$("$FERKD" eval "$WORK/again.onnx" "$WORK/val" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["top1"], round(d["loss"],4))')
    [ "$a" = "$c" ]
}

@test "a head for other classes starts anew; a probe moves nothing else; resumed as uninterrupted" {
    train "$WORK/four" --method ce
    "$FERKD" export "$WORK/four" -o "$WORK/four.onnx"
    mkdir "$WORK/three"
    cp -r "$WORK"/train/{ant,bee} "$WORK/three/"
    cp -r "$WORK/train/cat" "$WORK/three/other" # the names of the file's classes say nothing of it
    tune() { "$FERKD" train "$WORK/three" --val "$WORK/three" --method ce --init "$WORK/four.onnx" --size 28 --batch 8 --lr 0.01 "$@"; }
    run tune --epochs 2 --probe-epochs 2 -o "$WORK/probe"
    [ "$status" -eq 0 ]
    [[ "$output" == *"head starts anew, for 3 classes"* ]]
    tune --epochs 2 --freeze -o "$WORK/frozen"
    python3 - "$WORK/probe/last.safetensors" "$WORK/frozen/last.safetensors" <<'EOF'
import struct, sys
tensors = [b[8 + struct.unpack("<Q", b[:8])[0]:] for b in (open(p, "rb").read() for p in sys.argv[1:])]
assert tensors[0] == tensors[1]
EOF
    run "$FERKD" train "$WORK/three" --method ce --model small28 --size 28 --batch 8 --epochs 1 --freeze -o "$WORK/no"
    [ "$status" -eq 2 ]
    [[ "$output" == *"--freeze"*"--init"* ]]
    tune --epochs 2 --probe-epochs 1 -o "$WORK/all"
    python3 - "$WORK/four/best.safetensors" "$WORK/probe/last.safetensors" "$WORK/all/last.safetensors" <<'EOF'
import json, struct, sys
def load(p):
    b = open(p, "rb").read(); n = struct.unpack("<Q", b[:8])[0]; h = json.loads(b[8:8+n]); h.pop("__metadata__")
    return {k: (v["shape"], b[8+n+v["data_offsets"][0]:8+n+v["data_offsets"][1]]) for k, v in h.items()}
four, probe, all_ = map(load, sys.argv[1:])
trained = [k for k in four if "running" not in k and "num_batches" not in k]
moved = lambda run: [k for k in trained if run[k] != four[k]]
assert set(moved(probe)) == {"fc.weight", "fc.bias"}, moved(probe)
assert probe["fc.weight"][0][0] == 3
assert len(moved(all_)) == len(trained), set(trained) - set(moved(all_))
EOF
    # A head that starts anew moves ten times as fast, one that is kept does not.
    alike() { # [--init MODEL ...] HOW: as --head-rate HOW
        local how="${@: -1}"
        "$FERKD" train "$WORK/three" --method ce "${@:1:$#-1}" --size 28 --batch 8 --epochs 2 --head-rate $how -o "$WORK/said-$how"
        "$FERKD" train "$WORK/three" --method ce "${@:1:$#-1}" --size 28 --batch 8 --epochs 2 -o "$WORK/unsaid-$how"
        cmp "$WORK/said-$how/last.safetensors" "$WORK/unsaid-$how/last.safetensors"
        rm -r "$WORK"/*said-$how
    }
    alike --init "$WORK/four.onnx" 10
    alike --init "$WORK/four.onnx" --freeze 1
    alike --init "$WORK/four.onnx" --lr 0.001 1
    alike --init "$WORK/probe" --model small28 1
    tune --epochs 4 -o "$WORK/whole4"
    kill_when_saved "$WORK/cut4" tune --epochs 4 --save-every 1 -o "$WORK/cut4"
    rm -f "$WORK/four.onnx"
    "$FERKD" train --resume "$WORK/cut4"
    cmp "$WORK/whole4/last.safetensors" "$WORK/cut4/last.safetensors"
    # The same from a run's weights, which may be gone by then.
    zoo() { "$FERKD" train "$WORK/three" --val "$WORK/three" --method ce --model small28 --init "$WORK/four" --size 28 --batch 8 --epochs 4 "$@"; }
    zoo -o "$WORK/zoo"
    kill_when_saved "$WORK/zoo-cut" zoo --save-every 1 -o "$WORK/zoo-cut"
    mv "$WORK/four" "$WORK/four-gone"
    "$FERKD" train --resume "$WORK/zoo-cut"
    mv "$WORK/four-gone" "$WORK/four"
    cmp "$WORK/zoo/last.safetensors" "$WORK/zoo-cut/last.safetensors"
}

@test "without data to evaluate on no accuracy is told" {
    run "$FERKD" train "$WORK/train" --method ce --model small28 --size 28 --batch 8 --epochs 1 -o "$WORK/blind"
    [ "$status" -eq 0 ]
    [[ "$output" != *"top-1"* ]]
    [[ "$output" == *"training loss "*"--val DATA"* ]]
    "$FERKD" eval "$WORK/blind" "$WORK/val"
}

@test "a run goes on without the weights that it began with" {
    train "$WORK/begin" --method ce
    cp "$WORK/begin/best.safetensors" "$WORK/begin.safetensors"
    train "$WORK/go" --method ce --init "$WORK/begin.safetensors"
    kill_when_saved "$WORK/gone" train "$WORK/gone" --method ce --init "$WORK/begin.safetensors" --save-every 1
    rm "$WORK/begin.safetensors"
    "$FERKD" train --resume "$WORK/gone"
    cmp "$WORK/go/last.safetensors" "$WORK/gone/last.safetensors"
}

@test "a teacher of others' making is fine-tuned as it is: a fixed batch, a softmax at the end" {
    tune() { "$FERKD" train "$WORK/train" --val "$WORK/val" --method ce --init "$TEACHER" --mean 0.5 --std 0.5 --size 16 --lr 0.001 "$@"; }
    run tune --batch 8 --epochs 2 -o "$WORK/fixed"
    [ "$status" -eq 6 ]
    [[ "$output" == *"--batch 2"* ]]
    tune --batch 2 --epochs 2 -o "$WORK/fixed"
    run "$FERKD" train "$WORK/train" --method ce --init "$TEACHER" --mean 0.5 --std 0.5 --size 16 --batch 2 --epochs 1 -o "$WORK/small-steps"
    [ "$status" -eq 0 ]
    [[ "$output" == *"pretrained weights: AdamW, the learning rate goes up to 3e-05"* ]]
    "$FERKD" label "$WORK/train" --teacher "$WORK/fixed" --regions 2 --topk 2 -o "$WORK/fixed.ferkd"
    run "$FERKD" train "$WORK/train" --method ce --init "$TEACHER" --size 16 --batch 2 -o "$WORK/unsaid"
    [ "$status" -eq 2 ]
    [[ "$output" == *"preprocessing is stated nowhere"* ]]
}

@test "the whole way in one command, wherever it was stopped; a teacher that knows the classes is taken as it is" {
    train "$WORK/four2" --method ce
    "$FERKD" export "$WORK/four2" -o "$WORK/four2.onnx"
    mkdir "$WORK/own"
    cp -r "$WORK"/train/{ant,bee} "$WORK/own/"
    cp -r "$WORK"/train/cat "$WORK/own/other" # a class that the teacher does not know
    cat > "$WORK/student.yaml" <<EOF
model: small28
size: 28
batch: 8
epochs: 3
lr: 0.01
EOF
    way() { "$FERKD" distill "$WORK/own" --val "$WORK/own" --teacher "$WORK/four2.onnx" --recipe "$WORK/student.yaml" \
        --adapt-epochs 3 --regions 3 --seed 5 "$@"; }
    sed 's/batch: 8/batch: 4000/' "$WORK/student.yaml" > "$WORK/bad.yaml"
    run "$FERKD" distill "$WORK/own" --val "$WORK/own" --teacher "$WORK/four2.onnx" --recipe "$WORK/bad.yaml" \
        --adapt-epochs 3 --regions 3 --seed 5 -o "$WORK/way1"
    [ "$status" -eq 2 ]
    [ -s "$WORK/way1/labels.ferkd" ]
    way -o "$WORK/way1"
    run way -o "$WORK/way2" --json
    [ "$status" -eq 0 ]
    [[ "$output" == *'"adapted":true'* ]]
    for f in teacher/last.safetensors labels.ferkd student/last.safetensors student.onnx; do cmp "$WORK/way1/$f" "$WORK/way2/$f"; done
    run way -o "$WORK/way2"
    [ "$status" -eq 0 ]
    [[ "$output" == *"finished already"* ]]
    "$FERKD" eval "$WORK/way1/student.onnx" "$WORK/own" --json
    run "$FERKD" distill "$WORK/train" --teacher "$WORK/four2.onnx" --recipe "$WORK/student.yaml" --regions 2 -o "$WORK/way3" --json
    [ "$status" -eq 0 ]
    [[ "$output" == *'"adapted":false'* ]]
    [ ! -e "$WORK/way3/teacher" ]
}

@test "weights come from run folders, safetensors and torch.save, by name" {
    train "$WORK/origin" --method ce --precision f32
    run train "$WORK/from-folder" --method ce --precision f32 --init "$WORK/origin"
    [[ "$output" == *"22 of 22 tensors"* ]] || { echo "$output"; false; }
    train "$WORK/from-file" --method ce --precision f32 --init "$WORK/origin/best.safetensors"
    cmp "$WORK/from-folder/last.safetensors" "$WORK/from-file/last.safetensors" || [ "$(losses "$WORK/from-folder")" = "$(losses "$WORK/from-file")" ]
    run train "$WORK/none" --method ce --init "$SOURCE/tests/golden/torch/state.pth"
    [ "$status" -eq 2 ]
    [[ "$output" == *"none of its tensors"* ]]
    run train "$WORK/none" --method ce --init "$SOURCE/tests/golden/torch/evil.pth"
    [ "$status" -eq 6 ]
    [[ "$output" == *"not run"* ]]
}

@test "weights in half precision, under longer names; what is missing, of another size or left over is named" {
    train "$WORK/whole" --method ce --precision f32
    python3 - "$WORK/whole/best.safetensors" "$WORK/half.safetensors" <<'EOF'
import json, struct, sys
raw = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head, data, out, at = json.loads(raw[8:8 + n]), raw[8 + n:], b"", 0
new = {}
for name, t in head.items():
    if name == "__metadata__" or name.startswith("conv2"):
        continue
    b, e = t["data_offsets"]
    v = struct.pack(f"<{(e - b) // 4}e", *struct.unpack(f"<{(e - b) // 4}f", data[b:e]))
    shape = t["shape"]
    if name == "fc.bias":
        v, shape = v + v, [2 * shape[0]]
    new["model." + name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + len(v)]}
    out, at = out + v, at + len(v)
new["extra"] = {"dtype": "F16", "shape": [1], "data_offsets": [at, at + 2]}
head = json.dumps(new).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(head)) + head + out + b"\0\0")
EOF
    run train "$WORK/halved" --method ce --precision f32 --init "$WORK/half.safetensors"
    [ "$status" -eq 0 ]
    [[ "$output" == *"conv2.weight: starts anew (not in"* ]]
    [[ "$output" == *"fc.bias: starts anew (8 values there, 4 here)"* ]]
    [[ "$output" == *"extra: not used"* ]]
    [[ "$output" == *"20 of 22 tensors"* ]] || { echo "$output"; false; }
    [[ "$output" == *"1 are missing there, 1 have another size"* ]]
}

@test "the names of OpenCLIP's image tower are known, and its text tower is not taken for it" {
    learn() { "$FERKD" train "$WORK/train" --val "$WORK/val" --method ce --model vit_tiny_patch16_224 --size 32 --batch 8 --epochs 1 --lr 0.001 --tune off "$@"; }
    learn -o "$WORK/tower"
    python3 - "$WORK/tower/best.safetensors" "$WORK/clip.safetensors" <<'PY'
import json, struct, sys
raw = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
header, body = json.loads(raw[8:8 + n]), raw[8 + n:]
new = {}
for key, value in header.items():
    name = key
    for ours, theirs in (("cls_token", "visual.class_embedding"), ("pos_embed", "visual.positional_embedding"), ("patch_embed.proj", "visual.conv1"),
                         ("attn.qkv.", "attn.in_proj_"), ("attn.proj", "attn.out_proj"), ("norm1", "ln_1"), ("norm2", "ln_2"),
                         ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("blocks.", "visual.transformer.resblocks.")):
        name = name.replace(ours, theirs)
    name = "visual.ln_post" + key[4:] if key.startswith("norm.") else name
    new[name] = value
    if name.startswith("visual."):  # a text tower with the same names behind, all zeros
        at, end = value["data_offsets"]
        new[name[7:]] = {**value, "data_offsets": [len(body), len(body) + end - at]}
        body += bytes(end - at)
text = json.dumps({k: v for k, v in new.items() if k != "__metadata__"}).encode()
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + body)
PY
    learn --init "$WORK/clip.safetensors" -o "$WORK/from-clip" 2>&1 | tee "$WORK/said"
    learn --init "$WORK/tower" -o "$WORK/from-tower"
    if grep "starts anew" "$WORK/said"; then false; fi
    python3 -c 'import struct,sys; b=[open(p,"rb").read() for p in sys.argv[1:]]; sys.exit(len(set(x[8+struct.unpack("<Q",x[:8])[0]:] for x in b)) != 1)' \
        "$WORK/from-clip/best.safetensors" "$WORK/from-tower/best.safetensors"
}

@test "DINOv2's own files: the class token has a position there, which goes into it where registers stand beside it" {
    learn() { "$FERKD" train "$WORK/train" --method ce --model vit_small_patch14_reg4_dinov2 --size 28 --batch 8 --epochs 1 --lr 0 --weight-decay 0 --tune off "$@"; }
    learn -o "$WORK/registers"
    cat > "$WORK/hub.py" <<'PY'
import json, struct, sys
def read(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v["shape"], raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in header.items()}
def floats(b):
    return struct.unpack(f"<{len(b) // 4}f", b)
def write(path, tensors):
    header, body = {}, b""
    for k, (shape, b) in tensors.items():
        header[k] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(b)]}
        body += b
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + body)
ours = read(sys.argv[1])
if sys.argv[2] == "write":
    theirs = {{"reg_token": "register_tokens"}.get(k, k): v for k, v in ours.items()}
    shape, b = ours["pos_embed"]
    width = shape[-1]
    theirs["pos_embed"] = ([1, shape[1] + 1, width], struct.pack(f"<{width}f", *[0.5] * width) + b)
    theirs["cls_token"] = ([1, 1, width], struct.pack(f"<{width}f", *[v - 0.5 for v in floats(ours["cls_token"][1])]))
    write(sys.argv[3], theirs)
else:
    got = read(sys.argv[3])
    assert all(got[k] == v for k, v in ours.items() if k not in ("cls_token", "head.weight", "head.bias"))
    assert all(abs(a - b) < 1e-6 for a, b in zip(floats(got["cls_token"][1]), floats(ours["cls_token"][1])))
PY
    python3 "$WORK/hub.py" "$WORK/registers/best.safetensors" write "$WORK/hub.safetensors"
    learn --init "$WORK/hub.safetensors" -o "$WORK/from-hub"
    python3 "$WORK/hub.py" "$WORK/registers/best.safetensors" compare "$WORK/from-hub/best.safetensors"
}

@test "lean: states in bf16 come back from a checkpoint as they were; what needs whole gradients is refused" {
    learn() { train "$@" --method ce --optimizer adamw --lr 0.001 --lean; }
    learn "$WORK/lean1"
    kill_when_saved "$WORK/lean2" learn "$WORK/lean2" --save-every 1
    "$FERKD" train --resume "$WORK/lean2"
    cmp "$WORK/lean1/last.safetensors" "$WORK/lean2/last.safetensors"
    [ "$(stat -c %s "$WORK/lean1/last.safetensors")" -lt "$(($(stat -c %s "$WORK/lean1/best.safetensors") * 5 / 2))" ]
    for needs in "--clip 1" "--ema 0.9" "--accumulate 2"; do
        run learn "$WORK/lean3" $needs
        [ "$status" -eq 2 ]
        [[ "$output" == *"--lean keeps no gradient"* ]]
    done
}

@test "no convolution of a network of photographs runs oneDNN's reference code, in f32 or in bf16, with matrix tiles or without" {
    printf 'products in bf16\tyes\t0.00\n' > "$WORK/choices.txt" # multiply in bf16 wherever the processor can, faster or not
    for what in "train resnet18" "train mobilenet_v2" "infer resnet18"; do
        for precision in f32 bf16; do
            # shellcheck disable=SC2086
            DNNL_VERBOSE=1 "$FERKD" bench $what --size 64 --batch 2 --precision $precision --tune "$WORK/choices.txt" --repeat 1 --warmup 0 > "$WORK/verbose"
            if grep "exec.*convolution,ref" "$WORK/verbose"; then false; fi
            grep -q "a step\|img/s" "$WORK/verbose"
        done
    done
}

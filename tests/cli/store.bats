#!/usr/bin/env bats
# Label stores from and to other programs' files.
load helper

@test "FKD's archives become a store with their own boxes" {
    mkdir -p "$WORK/two"/{ant,bee,cat,dog}
    cp "$SOURCE/tests/data/images/rgb420.jpg" "$WORK/two/ant/"
    cp "$SOURCE/tests/data/images/rgb444.jpg" "$WORK/two/bee/"
    cp "$SOURCE/tests/data/images/rgb411.jpg" "$WORK/two/cat/" 2>/dev/null || cp "$SOURCE/tests/data/images/rgb420.jpg" "$WORK/two/cat/other.jpg"
    cp "$SOURCE/tests/data/images/grey.png" "$WORK/two/dog/" 2>/dev/null || cp "$SOURCE/tests/data/images/rgb444.jpg" "$WORK/two/dog/other.jpg"
    run "$FERKD" store import "$SOURCE/tests/golden/fkd" --data "$WORK/two" --type marginal_smoothing_k2 -o "$WORK/fkd.ferkd"
    [ "$status" -eq 0 ]
    [[ "$output" == *"no labels there for"* ]]
    run "$FERKD" store info "$WORK/fkd.ferkd" --json
    echo "$output" | python3 -c 'import json,sys; d=json.load(sys.stdin); assert (d["labelled"],d["skipped"],d["regions"],d["topk"])==(2,2,3,2), d'
    python3 - "$SOURCE/examples" "$WORK/fkd.ferkd" <<'EOF'
import sys
sys.path.insert(0, sys.argv[1])
from read_store import Store
s = Store(sys.argv[2])
truth, labels = s.image(0)
assert s.boxes and truth == 0 and s.image(2)[1] is None
want = [[.125, .75, .0625, .0625], [.5, .125, .125, .25], [.1875, .25, .375, .1875]]
for (top, _, _), w in zip(labels, want, strict=True):
    assert all(abs(a - b) < 1e-4 for a, b in zip(s.dense(top), w)), (top, w)
EOF
    run "$FERKD" store import "$SOURCE/tests/golden/fkd" --data "$WORK/two" --type hard -o "$WORK/fkd2.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"of another type"* ]]
    "$FERKD" train "$WORK/two" --labels "$WORK/fkd.ferkd" --ignore-exif --model small28 --size 28 --batch 4 --epochs 2 -o "$WORK/fkdrun"
    # Out and in again: the same labels and boxes.
    "$FERKD" store export "$WORK/fkd.ferkd" -o "$WORK/out"
    [ -s "$WORK/out/two/ant/rgb420.tar" ]
    "$FERKD" store import "$WORK/out" --data "$WORK/two" --type marginal_smoothing_k2 -o "$WORK/again.ferkd"
    cmp "$WORK/fkd.ferkd" "$WORK/again.ferkd"
}

@test "WebDataset: out in shards and in again, the same bytes; NumPy reads what is there" {
    label "$WORK/l.ferkd"
    "$FERKD" store export "$WORK/l.ferkd" -o "$WORK/w.tar" --images-per-file 10 --with-images
    [ "$(ls "$WORK"/w-*.tar | wc -l)" -gt 1 ]
    # In whatever order, without the images.
    "$FERKD" store import $(ls -r "$WORK"/w-*.tar) -o "$WORK/back.ferkd"
    cmp "$WORK/l.ferkd" "$WORK/back.ferkd"
    "$FERKD" store export "$WORK/l.ferkd" -o "$WORK/one.tar"
    "$FERKD" store export "$WORK/l.ferkd" -o "$WORK/two.tar"
    cmp "$WORK/one.tar" "$WORK/two.tar"
    python3 - "$SOURCE/examples" "$WORK" <<'EOF'
import json, struct, sys, tarfile
sys.path.insert(0, sys.argv[1])
from read_store import Store
work = sys.argv[2]
store = Store(work + "/l.ferkd")
tar = tarfile.open(work + "/w-000000.tar")
names = tar.getnames()
assert names[0] == "__ferkd__" and names[1] == "000000000.json", names[:3]
def raw(name, format):
    b = tar.extractfile(name).read()
    return struct.unpack("<%d%s" % ((len(b) - 10 - struct.unpack("<H", b[8:10])[0]) // struct.calcsize(format), format),
                         b[10 + struct.unpack("<H", b[8:10])[0]:])
for i in range(10):
    key = "%09d" % i
    truth, labels = store.image(i)
    about = json.loads(tar.extractfile(key + ".json").read())
    assert about["class"] == truth and int(tar.extractfile(key + ".cls").read()) == truth
    assert tar.extractfile(key + ".jpg").read() == open(work + "/train/" + about["file"], "rb").read()
    classes, probs, mass = raw(key + ".classes.npy", "H"), raw(key + ".probs.npy", "f"), raw(key + ".mass.npy", "f")
    for r, (top, inside, most) in enumerate(labels):
        for k, (c, p) in enumerate(top):
            assert classes[2 * r + k] == c and abs(probs[2 * r + k] - p) < 1e-6
        assert abs(mass[2 * r] - inside) < 1e-6 and abs(mass[2 * r + 1] - most) < 1e-6
EOF
}

@test "WebDataset of others, matched by key; damaged and incomplete ones" {
    python3 - "$WORK" <<'EOF'
import io, os, struct, sys, tarfile
work = sys.argv[1]
def npy(kind, shape, values, letter):
    head = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + struct.pack("<%d%s" % (len(values), letter), *values)
with tarfile.open(work + "/other.tar.gz", "w:gz") as tar:
    def add(name, b):
        t = tarfile.TarInfo(name); t.size = len(b); tar.addfile(t, io.BytesIO(b))
    for c in ("bee", "ant"):
        for f in sorted(os.listdir(f"{work}/train/{c}"), reverse=True):
            key = c + "/" + f.split(".")[0]
            add(key + ".boxes.npy", npy("<f4", (2, 4), (0, 0, 8, 8, 1, 2, 6, 7), "f"))
            add(key + ".classes.npy", npy("<i4", (2, 2), (1, 0, 0, 3), "i"))
            add(key + ".probs.npy", npy("<f8", (2, 2), (.25, .75, .9375, .0625), "d"))
EOF
    run "$FERKD" store import "$WORK/other.tar.gz" -o "$WORK/o.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"--data"* ]]
    run "$FERKD" store import "$WORK/other.tar.gz" --data "$WORK/train" -o "$WORK/o.ferkd"
    [ "$status" -eq 0 ]
    [[ "$output" == *"no labels"* ]] # cats and dogs
    python3 - "$SOURCE/examples" "$WORK/o.ferkd" <<'EOF'
import sys
sys.path.insert(0, sys.argv[1])
from read_store import Store
s = Store(sys.argv[2])
truth, labels = s.image(0)
assert [c for c, p in labels[0][0]] == [0, 1] and abs(labels[0][0][0][1] - .75) < 1e-4, labels
assert abs(labels[1][0][1][1] - .0625) < 1e-4
EOF
    "$FERKD" train "$WORK/train" --labels "$WORK/o.ferkd" --model small28 --size 28 --batch 8 --epochs 1 -o "$WORK/orun"
    label "$WORK/l2.ferkd"
    "$FERKD" store export "$WORK/l2.ferkd" -o "$WORK/p.tar" --images-per-file 10
    run "$FERKD" store import "$WORK/p-000000.tar" -o "$WORK/no.ferkd"
    [ "$status" -ne 0 ]
    [[ "$output" == *"in none of the files"* ]]
    run "$FERKD" store import "$WORK/p-000000.tar" "$WORK/p-000000.tar" -o "$WORK/no.ferkd"
    [[ "$output" == *"was there before"* ]]
    head -c 20000 "$WORK/p-000000.tar" >"$WORK/cut.tar"
    echo "hours of labelling" > "$WORK/no.ferkd.part"
    run "$FERKD" store import "$WORK/cut.tar" -o "$WORK/no.ferkd"
    [ "$(cat "$WORK/no.ferkd.part")" = "hours of labelling" ]
    [ "$status" -ne 0 ]
    [ ! -e "$WORK/no.ferkd" ]
}

@test "labels over all of the teacher's classes: the student learns them along, and has the data set's in the end" {
    mkdir -p "$WORK/few"
    cp -r "$WORK/train/bee" "$WORK/train/dog" "$WORK/few/"
    printf 'bee 1\ndog 3\n' > "$WORK/few.txt"
    wide() { "$FERKD" label "$WORK/few" --teacher "$TEACHER" $HOW --class-map "$WORK/few.txt" --regions 8 --seed 1 "$@"; }
    wide --label-classes teacher --topk 9 -o "$WORK/wide.ferkd"
    wide --label-classes data --topk 9 -o "$WORK/narrow.ferkd"
    wide --topk 9 -o "$WORK/auto.ferkd"
    cmp "$WORK/wide.ferkd" "$WORK/auto.ferkd"
    "$FERKD" store info "$WORK/wide.ferkd" --json | python3 -c 'import json,sys
d = json.load(sys.stdin); assert (d["classes"], d["label_classes"], d["topk"]) == (2, 4, 4), d'
    "$FERKD" calibrate "$WORK/wide.ferkd" auto | grep -q 'half of each label is'
    run "$FERKD" calibrate "$WORK/narrow.ferkd" auto
    [[ "$output" != *"half of each label"* ]]
    # The same to calibration, and to who looks for wrong labels.
    "$FERKD" calibrate "$WORK/wide.ferkd" "inside < 30%: discard; wrong: hard; else: keep" > "$WORK/wide.txt"
    "$FERKD" calibrate "$WORK/narrow.ferkd" "inside < 30%: discard; wrong: hard; else: keep" > "$WORK/narrow.txt"
    diff <(grep regions "$WORK/wide.txt") <(grep regions "$WORK/narrow.txt")
    python3 - "$SOURCE/examples" "$WORK" <<'EOF'
import sys
sys.path.insert(0, sys.argv[1])
from read_store import Store
wide, narrow = Store(sys.argv[2] + "/wide.ferkd"), Store(sys.argv[2] + "/narrow.ferkd")
for i in range(wide.images):
    for (top, inside, most), (few, inside2, most2) in zip(wide.image(i)[1] or [], narrow.image(i)[1] or [], strict=True):
        p = wide.dense(top)
        assert abs(sum(p[:2]) - inside) < 2e-3 and abs(max(p) - most2) < 2e-3 and inside == inside2
        assert all(abs(a / sum(p[:2]) - b) < 5e-3 for a, b in zip(p, narrow.dense(few))) or inside < 0.05
EOF
    learn() { "$FERKD" train "$WORK/few" --val "$WORK/few" --labels "$WORK/wide.ferkd" --model small28 --size 28 --batch 8 --lr 0.01 --seed 1 "$@"; }
    learn --epochs 3 --mix both --mix-scope image -o "$WORK/wide"
    learn --epochs 3 --method fkd --ema 0.9 --mix mixup -o "$WORK/wide2"
    outputs() { # of a run's last and best checkpoint
        python3 - "$@" <<'EOF'
import json, struct, sys
def rows(name):
    b = open(sys.argv[1] + "/" + name, "rb").read()
    return json.loads(b[8:8 + struct.unpack("<Q", b[:8])[0]])["fc.weight"]["shape"][0]
assert [rows("last.safetensors"), rows("best.safetensors")] == [int(v) for v in sys.argv[2:]]
EOF
    }
    outputs "$WORK/wide" 4 2
    best=$(python3 -c 'import csv,sys; print(max(float(r["val_top1"]) for r in csv.DictReader(open(sys.argv[1]))))' "$WORK/wide/metrics.csv")
    "$FERKD" eval "$WORK/wide" "$WORK/few" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); assert abs(d["top1"]-float(sys.argv[1])) < 1e-3, d' "$best"
    "$FERKD" export "$WORK/wide" -o "$WORK/wide.onnx"
    "$FERKD" eval "$WORK/wide.onnx" "$WORK/few" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); assert abs(d["top1"]-float(sys.argv[1])) < 1e-3, d' "$best"
    # The last epoch's weights are as wide as the teacher, and evaluated and exported as the data set is.
    last=$(python3 -c 'import csv,sys; print(float(list(csv.DictReader(open(sys.argv[1])))[-1]["val_top1"]))' "$WORK/wide/metrics.csv")
    "$FERKD" eval "$WORK/wide" "$WORK/few" --weights last --json | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["model_classes"] == 2 and abs(d["top1"]-float(sys.argv[1])) < 1e-3, d' "$last"
    "$FERKD" export "$WORK/wide" --weights last -o "$WORK/last.onnx"
    "$FERKD" eval "$WORK/last.onnx" "$WORK/few" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); assert abs(d["top1"]-float(sys.argv[1])) < 1e-3, d' "$last"
    # Killed and gone on with: the same bytes; without validation, too.
    kill_when_saved "$WORK/wide3" learn --epochs 3 --mix both --mix-scope image --save-every 1 -o "$WORK/wide3"
    "$FERKD" train --resume "$WORK/wide3"
    for f in last best; do cmp "$WORK/wide/$f.safetensors" "$WORK/wide3/$f.safetensors"; done
    "$FERKD" train "$WORK/few" --labels "$WORK/wide.ferkd" --model small28 --size 28 --batch 8 --epochs 2 -o "$WORK/wide4"
    "$FERKD" eval "$WORK/wide4" "$WORK/few"
    # With the teacher in the loop likewise; --label-classes data is as many outputs as the data set has.
    for m in kd funmatch deit; do
        learn --epochs 1 --method $m --teacher "$TEACHER" $HOW --class-map "$WORK/few.txt" -o "$WORK/$m-auto"
        learn --epochs 1 --method $m --teacher "$TEACHER" $HOW --class-map "$WORK/few.txt" --label-classes data -o "$WORK/$m-data"
        outputs "$WORK/$m-auto" $([ $m = deit ] && echo 2 || echo 4) 2
        outputs "$WORK/$m-data" 2 2
    done
    # From other programs' files and back.
    "$FERKD" store export "$WORK/wide.ferkd" -o "$WORK/wide.tar"
    "$FERKD" store import "$WORK/wide.tar" -o "$WORK/back.ferkd"
    "$FERKD" store diff "$WORK/wide.ferkd" "$WORK/back.ferkd" || true
    "$FERKD" store convert "$WORK/wide.ferkd" --topk 2 -o "$WORK/less.ferkd"
    "$FERKD" store export "$WORK/less.ferkd" -o "$WORK/less.tar"
    "$FERKD" store import "$WORK/less.tar" -o "$WORK/less2.ferkd"
    cmp "$WORK/less.ferkd" "$WORK/less2.ferkd"
    # A head that is pretrained for more classes keeps those that are named.
    "$FERKD" train "$WORK/train" --method ce --model small28 --size 28 --batch 8 --epochs 2 -o "$WORK/four"
    "$FERKD" export "$WORK/four" -o "$WORK/four.onnx"
    run "$FERKD" train "$WORK/few" --method ce --init "$WORK/four.onnx" --size 28 --batch 8 --epochs 1 --lr 0 -o "$WORK/kept"
    [ "$status" -eq 0 ]
    [[ "$output" == *"of its head, 2 of 4 classes are kept"* ]]
    "$FERKD" label "$WORK/few" --teacher "$WORK/four.onnx" --label-classes teacher --regions 2 --topk 9 -o "$WORK/four.ferkd"
    run "$FERKD" train "$WORK/few" --labels "$WORK/four.ferkd" --init "$WORK/four.onnx" --size 28 --batch 8 --epochs 1 --lr 0 -o "$WORK/kept4"
    [[ "$output" == *"of its head, 4 of 4 classes are kept"* ]]
    python3 - "$WORK" <<'EOF'
import json, struct, sys
def tensors(name):
    b = open(sys.argv[1] + "/" + name, "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    h = json.loads(b[8:8 + n])
    return {k: (v["shape"], b[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in h.items() if k != "__metadata__"}
def head(t):
    k = "fc.weight"
    shape, raw = t[k]
    return [raw[i * shape[1] * 4:(i + 1) * shape[1] * 4] for i in range(shape[0])]
four, two, all4 = (head(tensors(n)) for n in ("four/best.safetensors", "kept/best.safetensors", "kept4/last.safetensors"))
assert two == [four[1], four[3]] and all4 == [four[1], four[3], four[0], four[2]]
EOF
}

@test "several teachers, and mirrored regions: what each says alone, averaged" {
    # Each has its size; a region is seen by every one in its own.
    train "$WORK/second" --method ce
    other="$WORK/second"
    first="$WORK/t1.onnx"
    cp "$TEACHER" "$first"
    printf '{"input": {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}' > "$WORK/t1.json"
    one() { "$FERKD" label "$WORK/train" --regions 4 --topk 4 --prob-bits 16 --seed 3 "$@"; }
    one --teacher "$first" -o "$WORK/p1.ferkd"
    one --teacher "$other" -o "$WORK/p2.ferkd"
    one --teacher "$first,$other" -o "$WORK/p12.ferkd"
    one --teacher "$first,$other" --teacher-weights 1,3 -o "$WORK/p13.ferkd"
    one --teacher "$first,$other" --average logits -o "$WORK/pl.ferkd"
    one --teacher "$first" --flip 0 -o "$WORK/f0.ferkd"
    one --teacher "$first" --flip 1 -o "$WORK/f1.ferkd"
    one --teacher "$first" --flip 0 --teacher-flips -o "$WORK/f01.ferkd"
    python3 - "$SOURCE/examples" "$WORK" <<'PY'
import sys
sys.path.insert(0, sys.argv[1])
from read_store import Store
s = {n: Store(f"{sys.argv[2]}/{n}.ferkd") for n in ("p1", "p2", "p12", "p13", "pl", "f0", "f1", "f01")}
def far(got, want):
    return max(abs(a - b) for a, b in zip(got, want, strict=True))
regions = differ = 0
for i in range(s["p1"].images):
    for r in range(4):
        if s["p1"].image(i)[1] is None:
            continue
        d = {n: x.dense(x.image(i)[1][r][0]) for n, x in s.items()}
        assert far(d["p12"], [(a + b) / 2 for a, b in zip(d["p1"], d["p2"])]) < 2e-4
        assert far(d["p13"], [(a + 3 * b) / 4 for a, b in zip(d["p1"], d["p2"])]) < 2e-4
        geometric = [(a * b) ** .5 for a, b in zip(d["p1"], d["p2"])]
        assert far(d["pl"], [g / sum(geometric) for g in geometric]) < 2e-3
        assert far(d["f01"], [(a + b) / 2 for a, b in zip(d["f0"], d["f1"])]) < 2e-4
        regions += 1
        differ += far(d["p1"], d["p2"]) > 1e-2
assert regions > 50 and differ > 20, (regions, differ)
PY
    "$FERKD" store info "$WORK/p12.ferkd" | grep -q 't1.onnx+second'
    run one --teacher "$first,$other" --teacher-weights 1 -o "$WORK/no.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"2 numbers"* ]]
    run one --teacher "$first,$other" --teacher-weights 1,0 -o "$WORK/no.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"above 0"* ]]
    run one --teacher "$first" --teacher-flips -o "$WORK/p1.ferkd"
    [ "$status" -eq 2 ]
    [[ "$output" == *"another teacher"* ]]
}

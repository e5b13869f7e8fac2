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
    run "$FERKD" store import "$WORK/cut.tar" -o "$WORK/no.ferkd"
    [ "$status" -ne 0 ]
    [ ! -e "$WORK/no.ferkd" ]
}

#!/bin/sh
# The whole way on Fashion-MNIST: train a teacher, let it label regions, train the same small student
# with hard labels (ce) and with calibrated region labels (ferkd), export it as ONNX.
# usage: demo.sh path/to/ferkd folder-of-fashion-mnist [work folder]
set -eu
ferkd=$1
data=$2
work=${3:-runs/demo}

rm -rf "$work"
mkdir -p "$work"
printf '%s\n' t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle-boot > "$work/names.txt"
train=$data/train-images-idx3-ubyte.gz
val=$data/t10k-images-idx3-ubyte.gz
names="--class-names $work/names.txt"
small="--model small28 --size 28 --crop-pct 1 --batch 128 --epochs 5 --lr 0.1 --seed 1"
start=$(date +%s)

step() {
    echo
    echo "== $1"
    shift
    echo "   $*"
    "$@"
}
top1() {
    "$ferkd" eval "$1" "$val" $names --json | sed 's/.*"top1":\([0-9.]*\).*/\1/' | cut -c1-5
}

step "1. a teacher" "$ferkd" train "$train" --val "$val" $names --method ce --model small28_wide \
    --size 28 --crop-pct 1 --batch 128 --epochs 6 --lr 0.1 --scale-min 0.4 --seed 1 -o "$work/teacher"
step "2. it labels four regions of each of the 60,000 images, once" "$ferkd" label "$train" $names \
    --teacher "$work/teacher" --regions 4 --scale-min 0.4 --topk 5 --batch 256 --seed 1 -o "$work/labels.ferkd"
step "3. a student on hard labels" "$ferkd" train "$train" --val "$val" $names $small --method ce \
    --scale-min 0.4 -o "$work/ce"
step "4. the same student on calibrated region labels" "$ferkd" train "$train" --val "$val" $names $small \
    --method ferkd --labels "$work/labels.ferkd" -o "$work/ferkd"
step "5. ONNX" "$ferkd" export "$work/ferkd" -o "$work/student.onnx"

echo
echo "teacher                        top-1 $(top1 "$work/teacher")"
echo "student, hard labels (ce)      top-1 $(top1 "$work/ce")"
echo "student, region labels (ferkd) top-1 $(top1 "$work/ferkd")"
echo "the exported student.onnx      top-1 $(top1 "$work/student.onnx")"
echo "label store: $(wc -c < "$work/labels.ferkd") bytes for 240000 regions; all of it took $(($(date +%s) - start)) s"

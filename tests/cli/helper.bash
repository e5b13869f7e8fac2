# A data set of four classes from the test images, a tiny teacher, a scratch folder for each test.
setup_file() {
    export WORK="$BATS_FILE_TMPDIR"
    local images="$SOURCE/tests/data/images"
    for split in train val; do
        for c in ant bee cat dog; do mkdir -p "$WORK/$split/$c"; done
        cp "$images"/rgb*.jpg "$WORK/$split/ant/"
        cp "$images"/exif*.jpg "$WORK/$split/bee/"
        cp "$images"/rgb*.png "$images"/palette*.png "$WORK/$split/cat/"
        cp "$images"/grey* "$images"/la*.png "$WORK/$split/dog/"
    done
    export TEACHER="$SOURCE/tests/data/onnx/mixed17.onnx"
    export HOW="--teacher-size 16 --teacher-mean 0.5 --teacher-std 0.5"
    export OMP_NUM_THREADS=2
    export XDG_CACHE_HOME="$WORK/cache"
}

# Label with the tiny teacher into $1.
label() {
    "$FERKD" label "$WORK/train" --teacher "$TEACHER" $HOW --regions 8 --topk 2 --seed 1 -o "$@"
}

# Train the small network into $1 with further options.
train() {
    local out=$1
    shift
    "$FERKD" train "$WORK/train" --val "$WORK/val" --model small28 --size 28 --batch 8 --epochs 3 --lr 0.01 \
        --seed 1 -o "$out" "$@"
}

# Run the rest of the line, and kill it as soon as the run folder $1 has a checkpoint.
kill_when_saved() {
    local folder=$1
    shift
    "$@" > "$WORK/log" 2>&1 3>&- &
    pid=$!
    for _ in $(seq 200); do [ -s "$folder/last.safetensors" ] && break; sleep 0.01; done
    pkill -KILL -P $pid ferkd || true
    wait $pid || true
    rm -f "$folder"/*.part
}

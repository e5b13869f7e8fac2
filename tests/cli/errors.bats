#!/usr/bin/env bats
# What the program says when something is wrong: what, where, and what to do.
load helper

fails() { # status, words that must appear, command
    local want=$1 words=$2
    shift 2
    run "$@"
    echo "$output"
    [ "$status" -eq "$want" ]
    [[ "$output" == *"$words"* ]]
}

@test "words and options are checked" {
    fails 2 "did you mean train" "$FERKD" tran
    fails 2 "did you mean --regions" "$FERKD" label x --teacher y --regoins 3
    fails 2 "whole number" "$FERKD" label x --teacher y --regions 1.5
    fails 2 "lies between" "$FERKD" train x --epochs 0 -o y
    fails 2 "or -1 for what suits the optimiser" "$FERKD" train x --method ce --lr -0.5 -o y
    fails 2 "is one of ce|kd|funmatch|deit|fkd|ferkd" "$FERKD" train x --method fer -o y
    fails 2 "needs a value" "$FERKD" label --teacher
    fails 2 "one DATA" "$FERKD" label
    fails 3 "did you mean resnet18" "$FERKD" info resnet81
    fails 3 "there are silu, hardswish" "$FERKD" info resnet18+sulu
    fails 3 "no ReLU in it" "$FERKD" info deit_tiny_patch16_224+silu
    FERKD_WINOGRAD=newer fails 2 'may be always|never, not "newer"' "$FERKD" info resnet18
}

@test "files that are missing or wrong are named" {
    fails 3 "nowhere" "$FERKD" label "$WORK/nowhere" --teacher "$TEACHER" $HOW
    fails 3 "no.onnx" "$FERKD" eval "$WORK/no.onnx" "$WORK/val"
    fails 2 "--teacher-size" "$FERKD" eval "$TEACHER" "$WORK/val"
    head -c 500 "$TEACHER" > "$WORK/cut.onnx"
    run "$FERKD" eval "$WORK/cut.onnx" "$WORK/val" $HOW
    [ "$status" -ne 0 ] && [[ "$output" == *cut.onnx* ]]
    echo nonsense > "$WORK/x.ferkd"
    fails 5 "not a label store" "$FERKD" inspect "$WORK/x.ferkd"
    fails 3 "no run to resume" "$FERKD" train --resume "$WORK/val"
}

@test "stores of other data are refused" {
    label "$WORK/l.ferkd"
    cp -r "$WORK/train" "$WORK/other"
    mv "$WORK/other/ant/rgb444.jpg" "$WORK/other/ant/renamed.jpg"
    fails 2 "label it again" "$FERKD" train "$WORK/other" --batch 8 --method fkd --labels "$WORK/l.ferkd" -o "$WORK/r"
    fails 2 "another seed" "$FERKD" label "$WORK/train" --teacher "$TEACHER" $HOW --regions 8 --topk 2 --seed 2 -o "$WORK/l.ferkd"
    run label "$WORK/l.ferkd"
    [[ "$output" == *"complete already"* ]]
    fails 2 "needs --labels" "$FERKD" train "$WORK/train" --method fkd -o "$WORK/r"
    printf '\x55' | dd of="$WORK/l.ferkd" bs=1 seek=700 conv=notrunc status=none
    fails 5 "damaged" "$FERKD" inspect "$WORK/l.ferkd" --verify
}

@test "recipes: unknown keys are errors with the nearest key and the line" {
    printf 'model: small28\ntrain:\n  epoch: 3\n' > "$WORK/r.yaml"
    fails 2 'r.yaml:3: unknown key "epoch"; did you mean "epochs"' "$FERKD" train "$WORK/r.yaml" -o "$WORK/r"
    printf 'model: [a, b]\n' > "$WORK/r.yaml"
    fails 2 "r.yaml:1" "$FERKD" train "$WORK/r.yaml" -o "$WORK/r"
    printf 'data: "%s"\nmethod: ce\nmodel: small28\nsize: 28\nbatch: 8\nepochs: 1\n' "$WORK/train" > "$WORK/ok.yaml"
    run "$FERKD" train "$WORK/ok.yaml" --epochs 2 -o "$WORK/fromfile"
    [ "$status" -eq 0 ]
    grep -q '^epochs: 2$' "$WORK/fromfile/recipe.yaml"
    fails 2 "holds a run already" "$FERKD" train "$WORK/ok.yaml" -o "$WORK/fromfile"
}

@test "every command has help, and every option of it a man page" {
    for c in label inspect train eval predict export info bench; do
        run "$FERKD" $c --help
        [ "$status" -eq 0 ]
        [[ "$output" == *"usage: ferkd $c"* ]]
        [ -s "$SOURCE/docs/man/ferkd-$c.1" ]
    done
    "$FERKD" help --json | python3 "$SOURCE/tools/man.py" --check "$SOURCE/docs/man"
}

@test "a full disk leaves no half store or checkpoint" {
    run bash -c "ulimit -f 1; trap '' XFSZ; '$FERKD' label '$WORK/train' --teacher '$TEACHER' $HOW --regions 64 --topk 4 -o '$WORK/full.ferkd'"
    [ "$status" -ne 0 ]
    [ ! -e "$WORK/full.ferkd" ]
    run "$FERKD" label "$WORK/train" --teacher "$TEACHER" $HOW --regions 64 --topk 4 -o "$WORK/full.ferkd"
    [ "$status" -eq 0 ]
    "$FERKD" label "$WORK/train" --teacher "$TEACHER" $HOW --regions 64 --topk 4 -o "$WORK/fresh.ferkd"
    cmp "$WORK/full.ferkd" "$WORK/fresh.ferkd"
}

@test "every recipe is one: its keys are known, and only the data are missing" {
    for f in "$SOURCE"/recipes/*.yaml; do
        if grep -q ^methods: "$f"; then
            run "$FERKD" experiment "$f" -o "$WORK/none" --list
            [ "$status" -eq 0 ]
        else
            fails 2 "training needs DATA" "$FERKD" train "$f"
        fi
    done
}

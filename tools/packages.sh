#!/bin/sh
# Install the Debian packages of the groups named (build, demo, test, ci), or say which are missing.
set -eu
build="gcc make cmake pkg-config libdnnl-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev libjansson-dev
libyaml-dev libxxhash-dev libarchive-dev libprotobuf-c-dev protobuf-c-compiler libonnx-dev"
demo="dataset-fashion-mnist"
test="libcmocka-dev bats python3 python3-venv"
ci="ccache"

missing=""
for group in "$@"; do
    eval "list=\$$group"
    for p in $list; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
    if ! command -v sudo >/dev/null; then
        echo "these packages are missing, and only root can install them:$missing" >&2
        exit 1
    fi
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing; } >/tmp/ferkd-apt.$$ 2>&1; then
    tail -n 5 /tmp/ferkd-apt.$$ >&2
    rm -f /tmp/ferkd-apt.$$
    echo "these packages are missing and could not be installed:$missing" >&2
    exit 1
fi
rm -f /tmp/ferkd-apt.$$

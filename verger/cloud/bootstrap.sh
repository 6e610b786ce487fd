#!/usr/bin/env bash
# EMR runs this on every node before Spark starts: bootstrap.sh s3://BUCKET/code/VERSION
# It makes Verger's environment from the wheels that lie there, without the internet, for every user of the node to read.
# Run again with the same wheels it does nothing. verger/cloud/job.py puts the wheels there, with their SHA-256 sums.
set -euo pipefail
umask 022

code=${1:?"verger: expected the address of the code. Give s3://BUCKET/code/VERSION"}
code=${code%/}
home=${VERGER_HOME:-/opt/verger}
python=${VERGER_PYTHON:-python3.11}

[ "$(id -u)" = 0 ] || exec sudo bash "$0" "$@"

fail() {
    echo "verger: expected $1. Received: $2. $3" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "Python 3.11" "none called $python" "Use a release of EMR 7, which has it."
command -v aws >/dev/null || fail "the AWS command line" "none" "Use EMR's own image, which has it."

mkdir -p "$home"
fetched=$(mktemp -d "$home/fetched.XXXXXX")
trap 'rm -rf "$fetched"' EXIT

aws s3 cp --only-show-errors "$code/SHA256SUMS" "$fetched/"
if cmp --silent "$fetched/SHA256SUMS" "$home/SHA256SUMS" && "$home/venv/bin/python" -c "import verger"; then
    echo "verger: $home is there already"
    exit 0
fi

# The sums say what is wanted: nothing else that may lie there is fetched.
aws s3 cp --only-show-errors --recursive --exclude "*" --include "*.whl" --include main.py "$code/" "$fetched/"
(cd "$fetched" && sha256sum --check --strict --quiet SHA256SUMS) ||
    fail "files that match $code/SHA256SUMS" "others" "Upload the code again: verger cloud run does."

rm -rf "$home/venv" "$home/SHA256SUMS"
"$python" -m venv --without-pip "$home/venv"
pip=("$fetched"/pip-*.whl) # it comes as a wheel too, and runs from within it: nodes need not have one
env -u PYTHONPATH HOME="$fetched" "$home/venv/bin/python" "${pip[0]}/pip" --isolated install --quiet \
    --no-index --find-links "$fetched" --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    "$fetched"/verger-*.whl
cp "$fetched/main.py" "$home/main.py"
env -u PYTHONPATH "$home/venv/bin/python" -c "import verger.cli, verger.vectors"
cp "$fetched/SHA256SUMS" "$home/SHA256SUMS" # last: the mark that all is there
echo "verger: $home is ready"

"""A step of EMR on this machine, inside namespaces of its own: no network but 127.0.0.1, and /opt on a folder of ours.

Run by tests/test_job.py. It does what EMR does: bootstrap with the rights of a node, Spark's configuration files, and
then the very `spark-submit` line of the step, without a home, with the packages read-only. Says what each took.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from servers import make_user, ministack

COPY = ["aws", "s3", "cp", "--only-show-errors", "--recursive"]
BUCKET, REGION = "verger-test", "eu-west-1"
# Stands in for what EMR itself puts into spark-defaults.conf: YARN, and its shuffle service.
OF_EMR = {"spark.master": "local-cluster[2,4,4096]", "spark.dynamicAllocation.shuffleTracking.enabled": "true"}
NODE_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"},
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": f"arn:aws:s3:::{BUCKET}/runs/*",
        },
    ],
}


def main() -> None:
    """One step, and the same job as on EMR Serverless: the order comes as JSON on standard input."""
    order = json.load(sys.stdin)
    scratch = Path(order["scratch"])
    (scratch / "opt").mkdir()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", scratch / "opt", "/opt"], check=True)
    with ministack(scratch) as endpoint:
        path = f"{order['emr']}/bin:{Path(order['python']).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        node = {"PATH": path, "HOME": "/nonexistent", "AWS_ENDPOINT_URL": f"http://{endpoint}"}
        node |= {"AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        node |= {"SPARK_HOME": f"{order['emr']}/lib/python3.11/site-packages/pyspark"}
        owner = node | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        run("make the bucket", ["aws", "s3", "mb", f"s3://{BUCKET}"], owner)
        for what in ("code", "photos"):
            run(f"upload {what}", [*COPY, order[what], f"s3://{BUCKET}/{what}/"], owner)
        key, secret = make_user(endpoint, "node", json.dumps(NODE_POLICY))
        node |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        bootstrap(order["bootstrap"], scratch / "bootstrap.sh", node)
        run("step", order["step"], node | configure(scratch / "conf", order["configurations"]))
        serverless(order, scratch / "serverless", node)
        run("download", [*COPY, f"s3://{BUCKET}/runs/", str(scratch / "runs")], owner)


def bootstrap(action: dict[str, Any], script: Path, node: dict[str, str]) -> None:
    """The bootstrap action, twice, as EMR runs it; then what it made can only be read."""
    run("fetch the script", ["aws", "s3", "cp", "--only-show-errors", action["Path"], str(script)], node)
    for what in ("bootstrap", "bootstrap again"):
        run(what, ["bash", str(script), *action["Args"]], node)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/opt"], check=True)


def serverless(order: dict[str, Any], folder: Path, node: dict[str, str]) -> None:
    """A job of EMR Serverless: the archive beside driver and workers. Spark from pip reads no s3:, so it lies here."""
    folder.mkdir()
    subprocess.run(
        ["tar", "xzf", f"{order['code']}/environment.tar.gz", "--one-top-level=environment"], cwd=folder, check=True
    )
    submitted = order["serverless"]["sparkSubmit"]
    options = submitted["sparkSubmitParameters"].replace(f"s3://{BUCKET}/code", order["code"]).split()
    prefix = "spark.emr-serverless.driverEnv."
    given = dict(option.removeprefix(prefix).split("=") for option in options if option.startswith(prefix))
    here = configure(folder / "conf", [])
    command = ["spark-submit", *options, f"{order['code']}/main.py", *submitted["entryPointArguments"]]
    run("serverless", command, node | here | given, folder)


def configure(folder: Path, configurations: list[dict[str, Any]]) -> dict[str, str]:
    """Spark's configuration as EMR writes it from its classifications, in a folder. Returns what names the folder."""
    known = {each["Classification"]: each for each in configurations}
    folder.mkdir()
    defaults = known.get("spark-defaults", {}).get("Properties", {}) | OF_EMR
    (folder / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in defaults.items()))
    exported = known["spark-env"]["Configurations"][0]["Properties"] if known else {}
    (folder / "spark-env.sh").write_text("".join(f"export {name}={value}\n" for name, value in exported.items()))
    return {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": f"{folder.parent}/local"}


def run(what: str, command: list[str], environment: dict[str, str], folder: Path = Path("/")) -> None:
    """Run a command with this environment and no other; print what it took."""
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    sys.stdout.write(f"{what}: {time.monotonic() - began:.1f} s {done.stdout.strip()[-2000:]}\n")
    if done.returncode:
        sys.exit(f"{what} ended with {done.returncode}: {done.stdout[-3000:]} {done.stderr[-6000:]}")


if __name__ == "__main__":
    assert os.geteuid() == 0
    main()

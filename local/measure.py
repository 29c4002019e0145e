"""What a function costs: zipped size, time to the first invocation, CPU and backend calls for each notification."""

import os
import statistics
import subprocess
import zipfile

from local import batches, screen
from local.lambda_host import LambdaHost
from local.stack import ROOT, STATE, TOOLS, architecture, run

STARTS = 21
BATCH = 1000
WARM_UP = 3
ROUNDS = 60
FUNCTIONS = ["ingest", "publisher", "downstream"]

#: Other ways to do the same, measured in the same run: name, function, environment.
VARIANTS = [
    ("ingest, single writes", "ingest", {"TABLE_WRITES": "single"}),
    ("downstream, single writes", "downstream", {"TABLE_WRITES": "single"}),
    ("downstream, ledger", "downstream", {"ACTION": "ledger", "LEDGER_TABLE_NAME": "ledger"}),
]


def main():
    screen.title("Build as for AWS: fat link-time optimisation (some minutes)")
    environment = dict(os.environ, PATH=f"{TOOLS}:{os.environ['PATH']}", AWS_DEFAULT_REGION="us-east-1")
    bins = [argument for name in FUNCTIONS for argument in ("--bin", name)]
    subprocess.run(["cargo", "lambda", "build", "--release", *bins], cwd=ROOT, env=environment, check=True)
    run("sam build", ["sam", "build", "--parameter-overrides", f"Architecture={architecture()}"], environment, STATE)

    screen.title(f"Measure: median of {STARTS} starts; {ROUNDS} batches of {BATCH:,}")
    columns = "{:<26} {:>9} {:>9} {:>14} {:>17} {:>12}  {}"
    print(columns.format("", "binary", "zip", "init", "CPU/notification", "peak memory", f"calls for {BATCH:,}"))
    for name in FUNCTIONS:
        binary = ROOT / ".aws-sam" / "build" / name.capitalize() / "bootstrap"
        size, zipped = binary.stat().st_size, zipped_size(binary)
        starts = [start_seconds(binary) for _ in range(STARTS)]
        init = f"{statistics.median(starts) * 1e3:.1f} ({min(starts) * 1e3:.1f}) ms"
        print(columns.format(name, megabytes(size), megabytes(zipped), init, *work(binary, name, {})), flush=True)
    for title, name, variables in VARIANTS:
        binary = ROOT / ".aws-sam" / "build" / name.capitalize() / "bootstrap"
        print(columns.format(title, "", "", "", *work(binary, name, variables)), flush=True)
    return 0


def work(binary, name, variables):
    """CPU for a notification, peak memory, and backend calls for a batch."""
    with LambdaHost(binary, **variables) as host:
        event = batches.OF[name](BATCH)
        for _ in range(WARM_UP):
            host.invoke(event)
        host.calls.clear()
        before = host.cpu_seconds()
        for _ in range(ROUNDS):
            assert host.invoke(event) == {"batchItemFailures": []}
        cpu = (host.cpu_seconds() - before) / (ROUNDS * BATCH)
        calls = ", ".join(f"{calls // ROUNDS} {operation}" for operation, calls in host.calls.items())
        return f"{cpu * 1e6:.1f} µs", f"{host.peak_memory_bytes() / 2**20:.1f} MiB", calls


def start_seconds(binary):
    with LambdaHost(binary) as host:
        return host.init_seconds


def zipped_size(binary):
    path = STATE / "bootstrap.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(binary, "bootstrap")
    return path.stat().st_size


def megabytes(count):
    return f"{count / 1e6:.1f} MB"

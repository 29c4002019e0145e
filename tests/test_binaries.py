"""The contents of the binaries that `sam build` makes."""

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest

from local.stack import ROOT, built

#: The health tests of aws-lc's CPU jitter entropy, with their tables of cut-off values.
JITTER_HEALTH = "aws-lc/third_party/jitterentropy/jitterentropy-library/src/jitterentropy-health.c"
TABLE = re.compile(r"static const unsigned int \w+\[\d+\]\s*=\s*\{([\d,\s]+)\}")


@pytest.fixture(scope="session")
def jitter_tables():
    """The bytes of these tables, which stay in a binary even when its symbols are stripped.

    They are read from the source that is compiled, so that a new version with other tables fails here.
    """
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    [manifest] = [p["manifest_path"] for p in json.loads(metadata)["packages"] if p["name"] == "aws-lc-sys"]
    tables = TABLE.findall((Path(manifest).parent / JITTER_HEALTH).read_text())
    assert tables, f"{JITTER_HEALTH} of aws-lc-sys no longer has tables; find something else to recognise it by"
    values = ([int(value) for value in table.split(",")] for table in tables)
    return [struct.pack(f"<{len(table)}I", *table) for table in values]


@pytest.mark.parametrize("function", ["Ingest", "Publisher", "Downstream"])
def test_no_function_collects_cpu_jitter_entropy_at_its_first_tls_call(function, jitter_tables):
    binary = built(function).read_bytes()
    assert not any(table in binary for table in jitter_tables), "see .cargo/config.toml"

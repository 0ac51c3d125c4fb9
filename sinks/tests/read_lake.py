"""Reads a lake of exported logs by pyarrow and by DuckDB, checks that both say the same, and that the files are as documented.

    read_lake.py FOLDER [END_OF_NAMES]      prints one JSON array per row, sorted: topic, partition, offset, …

Reads plain files: a bucket is copied to a folder first.
"""

import json
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import xxhash

COLUMNS = [
    "kafka_topic", "kafka_partition", "kafka_offset", "timestamp_us", "level", "service", "host", "message",
    "message_chars", "metadata", "request_id", "user_id", "duration_ms", "shape", "date",
]  # fmt: skip
ORDER = "kafka_topic, kafka_partition, kafka_offset"


def main() -> None:
    logs = Path(sys.argv[1]) / "logs"
    files = sorted(logs.glob("*/*.parquet"))
    for file in files:
        check(file)
    if not files:
        return
    by_duckdb = from_duckdb(logs)
    by_arrow = from_arrow(logs)
    assert by_arrow == by_duckdb, "pyarrow and DuckDB differ"
    out = sys.stdout
    for row in by_arrow:
        out.write(json.dumps(row, ensure_ascii=False) + "\n")


def from_duckdb(logs: Path) -> list:
    columns = ", ".join(COLUMNS).replace("timestamp_us", "epoch_us(timestamp)").replace("date", "cast(date as varchar)")
    sql = f"select {columns} from read_parquet('{logs}/*/*.parquet', hive_partitioning = true) order by {ORDER}"
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    return [list(row) for row in connection.execute(sql).fetchall()]


def from_arrow(logs: Path) -> list:
    partitioning = ds.partitioning(pa.schema([("date", pa.string())]), flavor="hive")
    table = ds.dataset(logs, format="parquet", partitioning=partitioning).to_table()
    table = table.append_column("timestamp_us", table["timestamp"].cast(pa.int64()))
    table = table.sort_by([(name, "ascending") for name in ORDER.split(", ")])
    return [list(row.values()) for row in table.select(COLUMNS).to_pylist()]


def check(path: Path) -> None:
    file = pq.ParquetFile(path)
    table = file.read()
    tags = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    assert tags["smartlog-rows"] == str(table.num_rows), path
    assert tags["smartlog-date"] == path.parent.name.removeprefix("date="), path
    assert tags["smartlog-row-checksum"] == row_checksum(table), f"{path}: row checksum"
    service = file.schema_arrow.get_field_index("service")
    for at in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(at)
        assert group.num_rows <= 131_072, path
        rows = file.read_row_group(at, columns=["service", "timestamp"]).to_pylist()
        # The bytes of UTF-8 sort as its code points do.
        keys = [(row["service"], row["timestamp"]) for row in rows]
        assert keys == sorted(keys), f"{path}: row group {at} is not sorted"
        assert [s.column_index for s in group.sorting_columns] == [service, 0], f"{path}: sorting columns"
        for column in range(group.num_columns):
            chunk = group.column(column)
            assert chunk.compression == "ZSTD", path
            assert chunk.has_offset_index and chunk.has_column_index, f"{path}: no page index on {chunk.path_in_schema}"
    blooms = duckdb.execute(
        "select count(*) from parquet_metadata(?) where path_in_schema = 'service' and bloom_filter_offset is not null",
        [str(path)],
    ).fetchone()[0]
    assert blooms == file.metadata.num_row_groups, f"{path}: no bloom filter on service"


def row_checksum(table: pa.Table) -> str:
    total = 0
    micros = table["timestamp"].cast(pa.int64()).to_pylist()
    for row, us in zip(table.to_pylist(), micros):
        parts = [
            text(row["kafka_topic"]), number(row["kafka_partition"]), number(row["kafka_offset"]), number(us),
            text(row["level"]), text(row["service"]), text(row["host"]), text(row["message"]), text(row["metadata"]),
            number(row["shape"] or 0),
        ]  # fmt: skip
        total += xxhash.xxh3_128_intdigest(b"".join(parts))
    return f"{total % 2**128:032x}"


def number(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def text(value) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    raw = value.encode()
    return len(raw).to_bytes(4, "little") + raw


main()

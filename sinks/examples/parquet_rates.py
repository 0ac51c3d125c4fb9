"""Writes the rows of a lake by pyarrow, zstd as the program's files: see parquet_rates.rs. Prints name: seconds, processor time, bytes."""

import os
import sys
import tempfile
import time

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

pa.set_cpu_count(1)  # the program encodes on one thread as well
schema = pq.read_schema(next(f.path for f in ds.dataset(sys.argv[1] + "/logs", format="parquet").get_fragments()))
table = ds.dataset(sys.argv[1] + "/logs", schema=schema, format="parquet").to_table()
table = table.sort_by("kafka_offset").combine_chunks()  # as they came
assert table.num_rows > 0


SORTED_BY = [("service", "ascending"), ("timestamp", "ascending")]
LIKE_OURS = {"sorting_columns": pq.SortingColumn.from_ordering(schema, SORTED_BY), "bloom_filter_options": {"service": True}}


def write(rows, **more) -> int:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        options = {"compression": "zstd", "row_group_size": 131_072, "write_page_index": True}
        pq.write_table(rows, file.name, **options, **more)
        os.fsync(file.fileno())
        return os.path.getsize(file.name)


def timed(name: str, work) -> None:
    began, worked = time.perf_counter(), time.process_time()
    size = work()
    print(f"{name}:", time.perf_counter() - began, time.process_time() - worked, size)


timed("columns", lambda: write(table))
timed("sorted", lambda: write(table.sort_by(SORTED_BY), **LIKE_OURS))
if "--rows" in sys.argv[2:] or table.num_rows <= 500_000:
    rows = table.to_pylist()
    timed("rows", lambda: write(pa.Table.from_pylist(rows, schema=schema)))

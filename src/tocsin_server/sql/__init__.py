"""SQL that people write, made safe: ``tocsin query``, runbook steps and the rules' ``sql`` escape hatch.

Every statement passes two fences (reliability section 3.4, "Query injection"; rows I16 and I17):

1. :func:`guard` lets through one SELECT over ``events`` whose nodes, tables and functions are all on closed
   lists. DuckDB's own parser reads the statement and writes it back from the tree that was checked: what runs
   is what was checked, and no second parser can understand it differently. (sqlglot was tried: it turns
   ``attrs ->> 'http.method'``, a key with a dot, into the path ``$.http.method``, which is another field.)
2. :func:`lock` closes the connection that runs it.

**Why the lock alone is not enough.** On DuckDB 2.0.0, a connection with ``enable_external_access = false``,
one allowed directory and ``lock_configuration = true`` still let a statement

* write below that directory (COPY, EXPORT DATABASE, ATTACH of a new database), list it (``glob``) and read
  any file in it (``read_text``, ``FROM 'file.parquet'``);
* create and drop tables, macros and views, ``events`` itself included; ATTACH ``':memory:'``; SET VARIABLE;
* read settings, logs and the names of secrets (``duckdb_*()``), write logs, sleep (``sleep_ms``,
  ``pg_sleep``), and run text as SQL (``query``, ``query_table``).

It did refuse paths outside the directory, INSTALL, LOAD of a file, SET, RESET, PRAGMA and enabling logs.

**What the limits bound.** The memory limit covers DuckDB's buffers (sorts, groups, joins, aggregated lists),
not what one scalar call builds: ``repeat('x', 1000000000)`` took 1.9 GiB under a limit of 256 MiB and obeyed
an interrupt only when it was done; ``range(100000000)`` in a SELECT list took 6.9 GiB. So functions whose
answer grows with a number (``repeat``, ``lpad``, ``format``, ``bitstring``, ``list_resize``, scalar
``range``) or whose time grows with the square of a text (``levenshtein`` and its like) are not on the list.
Chains of ``||`` and ``replace`` can still build a large text: whoever must not fall with such a query runs it
in its own process.
"""

from tocsin_server.sql.guard import RefusedSQL, empty_database, guard
from tocsin_server.sql.run import Limits, Result, lock, run

__all__ = ["Limits", "RefusedSQL", "Result", "empty_database", "guard", "lock", "run"]

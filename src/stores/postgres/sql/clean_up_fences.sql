-- A small step: counters whose value lies further back than the retention, among those in a few blocks of the table.
-- The blocks are drawn by lot, so that no index is needed and processes need not agree on who does which. Under the
-- lock of the key, or not at all; a counter that grew since the look stays, since the newest row decides.
-- $1 retention in 100 µs, $2 blocks, $3 counters at most
WITH old AS MATERIALIZED (
    SELECT f.fence_key, floor(date_part('epoch', clock_timestamp()) * 10000)::bigint - $1::bigint AS oldest
    FROM {fences} f TABLESAMPLE SYSTEM (least(100, 100.0 * $2::bigint * current_setting('block_size')::bigint
        / greatest(pg_relation_size('{fences}'), 1)))
    WHERE f.fence < floor(date_part('epoch', clock_timestamp()) * 10000)::bigint - $1::bigint
      AND f.fence_key LIKE 'fence:%'
      AND NOT EXISTS (SELECT FROM {locks} l WHERE l.key = substr(f.fence_key, 7))
    LIMIT $3::bigint
), mine AS MATERIALIZED (
    SELECT fence_key, oldest FROM old WHERE pg_try_advisory_xact_lock(hashtext(substr(fence_key, 7)))
)
DELETE FROM {fences} d USING mine WHERE d.fence_key = mine.fence_key AND d.fence < mine.oldest
RETURNING 1

-- A small step: records that expired over ten minutes ago, without waiting for anybody.
DELETE FROM {locks} l
USING (
    SELECT o.key FROM {locks} o
    WHERE o.expires_at_ms BETWEEN 1 AND floor(date_part('epoch', clock_timestamp()) * 1000)::bigint - 600000
      AND o.lock_id ~ '^[A-Za-z0-9_-]{22}$' AND o.fence ~ '^[0-9]{1,15}$'
    ORDER BY o.expires_at_ms LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
) old
WHERE l.key = old.key
RETURNING 1

-- A small step: records that expired over ten minutes ago and can be read, without waiting for anybody.
DELETE FROM {locks} d
USING (
    SELECT l.key FROM {locks} l
    WHERE l.expires_at_ms BETWEEN 1 AND floor(date_part('epoch', clock_timestamp()) * 1000)::bigint - 600000
      AND l.lock_id ~ '^[A-Za-z0-9_-]{22}$' AND octet_length(l.key) BETWEEN 1 AND 512
      AND {readable_row}
    ORDER BY l.expires_at_ms LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
) old
WHERE d.key = old.key
RETURNING 1

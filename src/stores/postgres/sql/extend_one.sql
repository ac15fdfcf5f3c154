-- As extend.sql, for one request and with fewer steps. $1 lock id, $2 TTL in ms
WITH extended AS (
    UPDATE {locks} l
    SET expires_at_ms = floor(date_part('epoch', clock_timestamp()) * 1000)::bigint + $2::bigint
    WHERE l.lock_id = $1::text
      AND l.expires_at_ms > floor(date_part('epoch', clock_timestamp()) * 1000)::bigint - 1000
      AND {readable_row}
      AND pg_try_advisory_xact_lock(hashtext(l.key))
    RETURNING l.expires_at_ms
)
SELECT (SELECT expires_at_ms FROM extended) AS extended_to_ms,
       l.key, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
       floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
FROM {locks} l WHERE l.lock_id = $1::text

-- Resolves the lock id, and moves the expiry of what is its own and live: from now, never added, never
-- revived. The update decides on the newest row, whatever the look saw.
WITH request AS MATERIALIZED (
    {requests}
), look AS MATERIALIZED (
    SELECT r.n, r.lock_id AS holder, r.ttl_ms,
           l.key, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
           floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
    FROM request r JOIN {locks} l ON l.lock_id = r.lock_id
    {order}
), live AS MATERIALIZED (
    SELECT l.*, pg_try_advisory_xact_lock(hashtext(key)) AS mine
    FROM look l
    WHERE expires_at_ms > now_ms - 1000 AND {readable}
), extended AS (
    UPDATE {locks} l SET expires_at_ms = live.now_ms + live.ttl_ms
    FROM live
    WHERE live.mine AND l.key = live.key AND l.lock_id = live.holder
      AND l.expires_at_ms > live.now_ms - 1000
    RETURNING l.key, l.expires_at_ms
)
SELECT look.n, look.now_ms,
       look.key, look.holder, look.expires_at_ms, look.acquired_at_ms, look.fence, look.stored_key,
       live.mine, extended.expires_at_ms AS extended_to_ms
FROM look LEFT JOIN live USING (n) LEFT JOIN extended ON extended.key = look.key

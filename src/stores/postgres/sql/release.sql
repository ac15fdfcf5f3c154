-- Resolves the lock id, and deletes what is its own and live. Notifies only where somebody waits: a waiter
-- holds the shared lock that this statement tries to get alone.
WITH request AS MATERIALIZED (
    {requests}
), look AS MATERIALIZED (
    SELECT r.n, r.lock_id AS holder, l.key, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
           floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
    FROM request r JOIN {locks} l ON l.lock_id = r.lock_id
    {order}
), live AS MATERIALIZED (
    SELECT l.*, pg_try_advisory_xact_lock(hashtext(key)) AS mine
    FROM look l
    WHERE expires_at_ms > now_ms - 1000 AND {readable}
), freed AS (
    DELETE FROM {locks} l USING live
    WHERE live.mine AND l.key = live.key AND l.lock_id = live.holder
      AND l.expires_at_ms > live.now_ms - 1000
    RETURNING l.key
)
SELECT look.n, look.now_ms,
       look.key, look.holder, look.expires_at_ms, look.acquired_at_ms, look.fence, look.stored_key,
       live.mine, freed.key IS NOT NULL AS done,
       {told} AS notified
FROM look LEFT JOIN live USING (n) LEFT JOIN freed ON freed.key = look.key

-- Passes a live lease on under a new lock id and fence. Where more than $7 sessions wait for the key, or $8 says
-- so, it is the others' turn: then the lease is released with a wake-up instead.
-- $1 key, $2 owner's lock id, $3 next lock id, $4 TTL in ms, $5 user's key, $6 fence key, $7 sessions or null
-- $8 whether it is the others' turn in any case
WITH look AS MATERIALIZED (
    SELECT l.key, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
           $5::text AS user_key, floor(date_part('epoch', clock_timestamp()) * 10000)::bigint AS tick
    FROM {locks} l WHERE l.key = $1::text AND l.lock_id = $2::text
), live AS MATERIALIZED (
    SELECT tick, tick / 10 AS now_ms, fence::bigint AS stored_fence, pg_try_advisory_xact_lock(hashtext(key)) AS mine,
           CASE WHEN $7::bigint IS NOT NULL THEN (
               SELECT count(*) FROM pg_locks
               WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND classid::bigint = ({class})::bigint & 4294967295
                 AND objid::bigint = hashtext($1::text)::bigint & 4294967295
           ) END AS waiting
    FROM look
    WHERE expires_at_ms > tick / 10 - 1000 AND {readable}
), freed AS (
    DELETE FROM {locks} l USING live
    WHERE live.mine AND ($8::boolean OR live.waiting > $7::bigint) AND l.key = $1::text AND l.lock_id = $2::text
      AND l.expires_at_ms > live.now_ms - 1000
    RETURNING l.key
), minted AS (
    INSERT INTO {fences} AS f (fence_key, fence, key_debug)
    SELECT $6::text, greatest(tick, stored_fence + 1), $5::text FROM live
    WHERE mine AND NOT $8::boolean AND coalesce(waiting <= $7::bigint, true) AND stored_fence < 900000000000000
    ON CONFLICT (fence_key) DO UPDATE SET fence = greatest(f.fence + 1, excluded.fence)
    WHERE f.fence < 900000000000000
    RETURNING f.fence
), moved AS (
    UPDATE {locks} l
    SET lock_id = $3::text, expires_at_ms = live.now_ms + $4::bigint, acquired_at_ms = live.now_ms,
        fence = lpad(minted.fence::text, 15, '0')
    FROM live, minted
    WHERE l.key = $1::text AND l.lock_id = $2::text AND l.expires_at_ms > live.now_ms - 1000
    RETURNING l.expires_at_ms, l.acquired_at_ms, l.fence
)
SELECT live.mine, CASE WHEN freed.key IS NOT NULL THEN greatest(live.waiting - $7::bigint, 0) END AS others,
       moved.expires_at_ms AS taken_expires_at_ms, moved.acquired_at_ms AS taken_at_ms,
       moved.fence AS taken_fence,
       CASE WHEN freed.key IS NOT NULL AND live.waiting > $7::bigint THEN pg_notify({channel}, hashtext(freed.key)::text) END IS NOT NULL
           AS notified
FROM look LEFT JOIN live ON true LEFT JOIN freed ON true LEFT JOIN moved ON true

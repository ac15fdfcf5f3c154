-- Looks, and where the key is free: takes the advisory lock, mints a fence, writes the lease. Each step
-- depends on the one before. The look is as old as the statement's snapshot, so it only decides what to
-- try; the insert decides on the newest row. Nothing is written, and no lock taken, where somebody else
-- holds the key.
WITH request AS MATERIALIZED (
    {requests}
), look AS MATERIALIZED (
    SELECT r.*, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
           floor(date_part('epoch', clock_timestamp()) * 10000)::bigint AS tick
    FROM request r LEFT JOIN {locks} l ON l.key = r.key
), free AS MATERIALIZED (
    SELECT l.*, tick / 10 AS now_ms, pg_try_advisory_xact_lock(hashtext(key)) AS mine
    FROM look l
    WHERE holder IS NULL OR (expires_at_ms <= tick / 10 - 1000 AND {readable})
), minted AS (
    INSERT INTO {fences} AS f (fence_key, fence, key_debug)
    SELECT fence_key, greatest(tick, fence::bigint + 1), user_key FROM free
    WHERE mine AND (holder IS NULL OR fence::bigint < 900000000000000)
    ON CONFLICT (fence_key) DO UPDATE SET fence = greatest(f.fence + 1, excluded.fence)
    WHERE f.fence < 900000000000000
    RETURNING f.fence_key, f.fence
), taken AS (
    INSERT INTO {locks} AS l (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
    SELECT free.key, free.lock_id, now_ms + ttl_ms, now_ms, lpad(minted.fence::text, 15, '0'), free.user_key
    FROM minted JOIN free USING (fence_key)
    ON CONFLICT (key) DO UPDATE
    SET lock_id = excluded.lock_id, expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms, fence = excluded.fence, user_key = excluded.user_key
    WHERE l.expires_at_ms <= excluded.acquired_at_ms - 1000
    RETURNING l.key, l.expires_at_ms, l.acquired_at_ms, l.fence
)
SELECT look.n, look.tick / 10 AS now_ms,
       look.key, look.holder, look.expires_at_ms, look.acquired_at_ms, look.fence, look.stored_key,
       free.mine, minted.fence IS NOT NULL AS minted,
       taken.expires_at_ms AS taken_expires_at_ms, taken.acquired_at_ms AS taken_at_ms,
       taken.fence AS taken_fence
FROM look
LEFT JOIN free USING (n)
LEFT JOIN minted ON minted.fence_key = look.fence_key
LEFT JOIN taken ON taken.key = look.key

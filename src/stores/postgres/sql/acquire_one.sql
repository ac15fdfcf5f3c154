-- As acquire.sql, for one request and with fewer steps, since most requests are alone. What it can't tell
-- (look and insert disagree, no fence is left) is found out by the other form under the key's lock.
-- $1 key, $2 lock id, $3 TTL in ms, $4 user's key, $5 fence key
WITH look AS MATERIALIZED (
    SELECT tick, l.key, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence,
           l.user_key AS stored_key
    FROM (SELECT floor(date_part('epoch', clock_timestamp()) * 10000)::bigint AS tick OFFSET 0) clock
    LEFT JOIN {locks} l ON l.key = $1::text
), minted AS (
    INSERT INTO {fences} AS f (fence_key, fence, key_debug)
    SELECT $5::text, greatest(tick, fence::bigint + 1), $4::text FROM look
    WHERE CASE WHEN holder IS NULL THEN pg_try_advisory_xact_lock(hashtext($1::text))
               WHEN expires_at_ms <= tick / 10 - 1000 AND {readable}
               THEN fence::bigint < 900000000000000 AND pg_try_advisory_xact_lock(hashtext($1::text)) END
    ON CONFLICT (fence_key) DO UPDATE SET fence = greatest(f.fence + 1, excluded.fence)
    WHERE f.fence < 900000000000000
    RETURNING f.fence
), taken AS (
    INSERT INTO {locks} AS l (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
    SELECT $1::text, $2::text, now_ms + $3::bigint, now_ms, lpad(fence::text, 15, '0'), $4::text
    FROM (
        SELECT fence, floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
        FROM minted OFFSET 0
    ) granted
    ON CONFLICT (key) DO UPDATE
    SET lock_id = excluded.lock_id, expires_at_ms = excluded.expires_at_ms,
        acquired_at_ms = excluded.acquired_at_ms, fence = excluded.fence, user_key = excluded.user_key
    WHERE l.expires_at_ms <= excluded.acquired_at_ms - 1000
    RETURNING l.expires_at_ms, l.acquired_at_ms, l.fence
)
SELECT look.tick / 10 AS now_ms,
       look.key, look.holder, look.expires_at_ms, look.acquired_at_ms, look.fence, look.stored_key,
       NULL::boolean AS mine,
       taken.expires_at_ms AS taken_expires_at_ms, taken.acquired_at_ms AS taken_at_ms,
       taken.fence AS taken_fence
FROM look LEFT JOIN taken ON true

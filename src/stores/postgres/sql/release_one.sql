-- As release.sql, for one request and with fewer steps. $1 lock id
WITH freed AS (
    DELETE FROM {locks} l
    WHERE l.lock_id = $1::text
      AND l.expires_at_ms > floor(date_part('epoch', clock_timestamp()) * 1000)::bigint - 1000
      AND {readable_row}
      AND pg_try_advisory_xact_lock(hashtext(l.key))
    RETURNING CASE WHEN NOT pg_try_advisory_xact_lock({class}, hashtext(l.key))
                   THEN pg_notify({channel}, hashtext(l.key)::text) END IS NOT NULL AS notified
)
SELECT (SELECT notified FROM freed) IS NOT NULL AS done,
       l.key, l.lock_id AS holder, l.expires_at_ms, l.acquired_at_ms, l.fence, l.user_key AS stored_key,
       floor(date_part('epoch', clock_timestamp()) * 1000)::bigint AS now_ms
FROM {locks} l WHERE l.lock_id = $1::text
